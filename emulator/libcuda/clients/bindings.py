"""NVIDIA's cuda-bindings over the emulated driver: a module, launches, streams, events, a captured and a built graph.

    LD_LIBRARY_PATH=target/libcuda python bindings.py
"""
import ctypes
import pathlib

import numpy as np
from cuda.bindings import driver as cuda


def check(results):
    code, *values = results
    if code != cuda.CUresult.CUDA_SUCCESS:
        raise RuntimeError(code)
    return values[0] if len(values) == 1 else values


check(cuda.cuInit(0))
device = check(cuda.cuDeviceGet(0))
context = check(cuda.cuDevicePrimaryCtxRetain(device))
check(cuda.cuCtxSetCurrent(context))
print("on", check(cuda.cuDeviceGetName(64, device)).rstrip(b"\0").decode())
text = (pathlib.Path(__file__).parent / "saxpy.ptx").read_bytes() + b"\0"
module = check(cuda.cuModuleLoadData(np.frombuffer(text, np.uint8).ctypes.data))
saxpy = check(cuda.cuModuleGetFunction(module, b"saxpy"))
assert check(cuda.cuFuncGetAttribute(cuda.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, saxpy)) == 1024

n = 1000
x, y = (np.random.default_rng(seed).normal(size=n).astype(np.float32) for seed in (1, 2))
dx, dy = (check(cuda.cuMemAlloc(x.nbytes)) for _ in range(2))
stream = check(cuda.cuStreamCreate(cuda.CUstream_flags.CU_STREAM_NON_BLOCKING))
arguments = ((dx, dy, 2.0, n), (None, None, ctypes.c_float, ctypes.c_uint32))


def upload(values, address):
    check(cuda.cuMemcpyHtoDAsync(address, values.ctypes.data, values.nbytes, stream))


def download(address):
    out = np.empty(n, np.float32)
    check(cuda.cuMemcpyDtoHAsync(out.ctypes.data, address, out.nbytes, stream))
    check(cuda.cuStreamSynchronize(stream))
    return out


def launch():
    check(cuda.cuLaunchKernel(saxpy, 8, 1, 1, 128, 1, 1, 0, stream, arguments, 0))


upload(x, dx)
upload(y, dy)
start, end = (check(cuda.cuEventCreate(0)) for _ in range(2))
check(cuda.cuEventRecord(start, stream))
launch()
check(cuda.cuEventRecord(end, stream))
check(cuda.cuEventSynchronize(end))
assert check(cuda.cuEventElapsedTime(start, end)) >= 0
once = (y.astype(np.float64) + 2.0 * x).astype(np.float32)
assert np.allclose(download(dy), once, rtol=1e-6, atol=1e-6)
print("a launch between events: right")

mode = cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
check(cuda.cuStreamBeginCapture(stream, mode))
launch()
launch()
graph = check(cuda.cuStreamEndCapture(stream))
nodes, count = check(cuda.cuGraphGetNodes(graph))
assert count == 2, count
executable = check(cuda.cuGraphInstantiate(graph, 0))
upload(y, dy)
for _ in range(3):
    check(cuda.cuGraphLaunch(executable, stream))
assert np.allclose(download(dy), y + 12.0 * x, rtol=1e-5, atol=1e-5)
print("a captured graph, launched three times: right")

check(cuda.cuStreamBeginCapture(stream, mode))
code, _ = cuda.cuMemAlloc(16)
assert code == cuda.CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, code
code, _ = cuda.cuStreamEndCapture(stream)
assert code == cuda.CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, code
print("an allocation during a capture: refused")

built = check(cuda.cuGraphCreate(0))
fill = cuda.CUDA_MEMSET_NODE_PARAMS()
fill.dst, fill.elementSize, fill.width, fill.height, fill.value = dy, 4, n, 1, 0
first = check(cuda.cuGraphAddMemsetNode(built, None, 0, fill, context))
empty = check(cuda.cuGraphAddEmptyNode(built, [first], 1))
executable = check(cuda.cuGraphInstantiate(built, 0))
check(cuda.cuGraphLaunch(executable, stream))
assert (download(dy) == 0).all()
print("a built graph: right")

check(cuda.cuModuleUnload(module))
for address in (dx, dy):
    check(cuda.cuMemFree(address))
