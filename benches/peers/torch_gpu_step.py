"""The training step of torch_step.py on a GPU: AMP in f16 with GradScaler, fused AdamW, channels_last.

What is timed is forward, L1 loss, backward, unscale, AdamW and the scale's update, by CUDA events around many steps; the
frames, random bytes expanded to f16, and the targets are on the device before. TF32 is as PyTorch has it by default.

Nothing in a step waits for the GPU: fused AdamW takes the scale and found_inf as tensors and skips the step itself where a
gradient is not finite. So `compile` can capture a whole step, GradScaler's part too, as one CUDA graph.
"""
import gc
import json
import math
import statistics
import subprocess

import torch
import torch.nn.functional as F

import scan_choice

# What a mode's `captured` says, by its --capture.
CAPTURED = {
    "none": "nothing",
    "step": "the whole step in one CUDA graph: forward, loss, backward, unscale, AdamW, scale update",
    "inductor": "forward and backward by Inductor's CUDA graphs; unscale, AdamW and scale update launched one by one",
}
# torch.compile's mode by --capture and --tune: without CUDA graphs of its own where the whole step is one.
MODES = {
    ("step", False): "default", ("step", True): "max-autotune-no-cudagraphs",
    ("inductor", False): "reduce-overhead", ("inductor", True): "max-autotune",
    ("none", False): None, ("none", True): None,
}


def driver():
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(query, check=True, capture_output=True, text=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


class Step:
    """A model with all that it trains with. `run` is one step, launched; nothing here asks for a value back."""

    def __init__(self, reference, spec, batch, device, scan, compiling=False, compile_mode=None, fullgraph=True):
        reference.Mamba.forward = scan_choice.mixer(scan)
        size = spec["size"]
        self.device = torch.device(device)
        self.model = reference.Predictor(**spec).train().to(self.device, memory_format=torch.channels_last)
        self.frames = self.images(batch, 10, size).half()
        self.target = self.images(batch, 2, size)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=2e-4, weight_decay=1e-4, fused=True, capturable=compiling)
        self.scaler = torch.amp.GradScaler(self.device.type)
        self.loss, self.compiling = self.loss_of, compiling
        if compiling:
            self.loss = torch.compile(self.loss_of, mode=compile_mode, fullgraph=fullgraph, dynamic=False)

    def images(self, batch, count, size):
        """[batch, count, 3, size, size] in [0, 1] from random bytes, each image NHWC in memory."""
        pixels = torch.randint(256, (batch, count, size, size, 3), dtype=torch.uint8, device=self.device)
        return (pixels.float() / 255).permute(0, 1, 4, 2, 3)

    def loss_of(self, frames, target):
        with torch.autocast(self.device.type, torch.float16):
            return F.l1_loss(self.model(frames), target)

    def run(self):
        if self.compiling:
            torch.compiler.cudagraph_mark_step_begin()
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.loss(self.frames, self.target)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return loss.detach()

    def taken(self):
        """AdamW's count of steps, which leaves out those that found_inf skipped. Waits for the device."""
        return next(iter(self.optimiser.state.values()))["step"].item()


def capture(step, warmup):
    """(replay, the loss it writes): a whole step as one CUDA graph, after `warmup` steps on another stream."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(warmup):
            step.run()
    torch.cuda.current_stream().wait_stream(stream)
    step.optimiser.zero_grad(set_to_none=True)
    # A replay allocates nothing, so its memory is what the capture takes; the warm-up's is another stream's.
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step.run()
    return graph.replay, loss


def measure(step, options):
    """Seconds a step by the median of the rounds, peak bytes, and how the scaling went."""
    step.run()
    torch.cuda.synchronize()
    # The first step compiles and tries algorithms: what it needed for that is not the step's.
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    if options.capture == "step":
        body, loss = capture(step, options.warmup)
        body()
    else:
        body, loss = step.run, None
        for _ in range(options.warmup):
            body()
    torch.cuda.synchronize()
    before = step.taken()
    times = []
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for _ in range(options.rounds):
        start.record()
        for _ in range(options.steps):
            result = body()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3 / options.steps)
    loss = (result if loss is None else loss).item()
    return {
        "seconds": statistics.median(times), "fastest": min(times), "slowest": max(times),
        "peak_bytes": torch.cuda.max_memory_allocated(), "peak_reserved_bytes": torch.cuda.max_memory_reserved(),
        "loss": loss if math.isfinite(loss) else None, "loss_finite": math.isfinite(loss), "scale": step.scaler.get_scale(),
        "skipped": options.steps * options.rounds - round(step.taken() - before), "steps": options.steps, "rounds": options.rounds,
    }


def graph_breaks():
    from torch._dynamo.utils import counters

    return sum(counters["graph_break"].values())


def run(options, reference, report):
    """One JSON object a batch size to stdout; `report` takes lines for a person."""
    if not torch.cuda.is_available():
        raise SystemExit("error: PyTorch finds no CUDA device")
    compiling = options.mode == "compile"
    name, scan = scan_choice.choose(options.scan, compiling)
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    fullgraph = compiling and name != "mamba_ssm"
    checked = torch.compile(scan, dynamic=False, fullgraph=True) if fullgraph else scan
    report(scan_choice.check(name, checked, reference.selective_scan, "cuda"))
    compile_mode = MODES[options.capture, options.tune]
    if name == "mamba_ssm":
        # An extension, which Dynamo cannot look into: the graph breaks there.
        scan = torch.compiler.disable(scan)
    for batch in options.batch:
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        try:
            step = Step(reference, reference.PRESETS[options.preset], batch, "cuda", scan, compiling, compile_mode, fullgraph)
            numbers = measure(step, options)
        except torch.cuda.OutOfMemoryError:
            raise SystemExit(f"error: {options.preset} at batch {batch} does not fit in the GPU's memory: try a smaller --batch") from None
        about = {
            "preset": options.preset, "batch": batch, "mode": options.mode, "scan": name, "captured": CAPTURED[options.capture],
            "torch": torch.__version__, "cuda": torch.version.cuda, "device": torch.cuda.get_device_name(), "driver": driver(),
        }
        if compiling:
            about |= {"compile_mode": compile_mode, "fullgraph": fullgraph, "graph_breaks": graph_breaks()}
        print(json.dumps(about | {"samples_per_second": batch / numbers["seconds"]} | numbers), flush=True)
        del step
        gc.collect()
        torch.cuda.empty_cache()
