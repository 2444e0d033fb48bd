// target: compute_90
// What nvcc writes for Hopper: a stencil and a reduction by redux, atomics on pairs.

#include <cuda_fp16.h>

/// y[i] = ¼x[i−1] + ½x[i] + ¼x[i+1], edges repeated; dynamic shared memory: blockDim + 2 floats.
extern "C" __global__ void stencil(const float* x, float* y, int n) {
    extern __shared__ float s[];
    int i = blockIdx.x * blockDim.x + threadIdx.x, t = threadIdx.x + 1;
    s[t] = x[min(i, n - 1)];
    if (threadIdx.x == 0) s[0] = x[max(i - 1, 0)];
    if (threadIdx.x == blockDim.x - 1) s[t + 1] = x[min(i + 1, n - 1)];
    __syncthreads();
    if (i < n) y[i] = 0.25f * s[t - 1] + 0.5f * s[t] + 0.25f * s[t + 1];
}

/// least[warp], most[warp], all[warp] of x.
extern "C" __global__ void redux(const int* x, int* least, int* most, unsigned* all) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    int low = __reduce_min_sync(0xffffffff, x[i]), high = __reduce_max_sync(0xffffffff, x[i]);
    unsigned bits = __reduce_or_sync(0xffffffff, (unsigned)x[i]);
    if (threadIdx.x % 32 == 0) {
        least[i / 32] = low;
        most[i / 32] = high;
        all[i / 32] = bits;
    }
}
