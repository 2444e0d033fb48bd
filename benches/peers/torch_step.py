"""Times PyTorch's training step of the same model: forward, L1 loss, backward, AdamW.

    python benches/peers/torch_step.py --model-dir DIR [--preset tiny] [--batch 16] [--steps 12] [--threads 2]
                                       [--mode eager|compile] [--channels-last] [--precision f32|bf16]
    python benches/peers/torch_step.py --device cuda [--mode eager|compile] [--scan auto] [--preset base] [--batch 16,64]

DIR holds model.py, the reference model. On the CPU one JSON object is printed with the fields of the `step` benchmark;
AdamW is the fused one, and bf16 is torch.autocast. On a GPU it is AMP in f16 (torch_gpu_step.py), one JSON object a batch size; the scan
(scan_choice.py) is first checked against the reference model's, and what was found goes to stderr.
"""
import argparse
import importlib
import json
import pathlib
import resource
import sys
import time

REFERENCE = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"


def sizes(text):
    found = [int(part) for part in text.split(",")]
    if min(found) < 1:
        raise ValueError
    return found


def options():
    parse = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parse.add_argument("--model-dir", default=str(REFERENCE))
    parse.add_argument("--preset", default="tiny")
    parse.add_argument("--batch", type=sizes, default=[16], help="several on a GPU, comma-separated")
    parse.add_argument("--steps", type=int, help="timed steps; on a GPU, of a round [12; 50]")
    parse.add_argument("--warmup", type=int, help="steps before [2; 15]")
    parse.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    cpu = parse.add_argument_group("on the CPU")
    cpu.add_argument("--threads", type=int, default=2)
    cpu.add_argument("--precision", choices=("f32", "bf16"), default="f32")
    cpu.add_argument("--channels-last", action="store_true", help="try PyTorch's NHWC layout (a GPU always has it)")
    gpu = parse.add_argument_group("on a GPU")
    gpu.add_argument("--mode", choices=("eager", "compile"), default="eager")
    gpu.add_argument("--scan", choices=("auto", "mamba_ssm", "triton", "compiled", "eager"), default="auto")
    gpu.add_argument("--capture", choices=("step", "inductor"), default="step",
                     help="with --mode compile: the whole step as one CUDA graph, or Inductor's own (reduce-overhead)")
    gpu.add_argument("--tune", action="store_true", help="with --mode compile: max-autotune, which takes minutes")
    gpu.add_argument("--rounds", type=int, default=5, help="the time is the median of so many")
    args = parse.parse_args()
    on_gpu = args.device == "cuda"
    args.steps = (50 if on_gpu else 12) if args.steps is None else args.steps
    args.warmup = (15 if on_gpu else 2) if args.warmup is None else args.warmup
    if args.steps < 1 or args.rounds < 1 or args.warmup < 0:
        parse.error("--steps and --rounds are at least 1, --warmup at least 0")
    if not on_gpu and len(args.batch) > 1:
        parse.error("several batch sizes are for --device cuda")
    if args.mode == "eager":
        args.capture = "none"
    return args


def on_cpu(args, reference):
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    spec, batch = reference.PRESETS[args.preset], args.batch[0]
    model = reference.Predictor(**spec).train()
    if args.channels_last:
        model = model.to(memory_format=torch.channels_last)
    size = spec["size"]
    frames = torch.rand(batch, 10, 3, size, size)
    target = torch.rand(batch, 2, 3, size, size)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-4, weight_decay=1e-4, fused=True)
    network = torch.compile(model) if args.mode == "compile" else model
    times = []
    for step in range(args.steps + args.warmup):
        start = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.precision == "bf16"):
            loss = F.l1_loss(network(frames), target)
        loss.backward()
        optimiser.step()
        if step >= args.warmup:
            times.append(time.perf_counter() - start)
    times.sort()
    median = times[len(times) // 2]
    print(json.dumps({
        "preset": args.preset, "batch": batch, "threads": args.threads, "torch": torch.__version__,
        "seconds": median, "samples_per_second": batch / median,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }))


def main():
    args = options()
    sys.path.insert(0, args.model_dir)
    try:
        reference = importlib.import_module("model")
    except ImportError as error:
        raise SystemExit(f"error: {error}: needed are PyTorch and, in --model-dir, model.py") from None
    if args.preset not in reference.PRESETS:
        raise SystemExit(f"error: no preset is called {args.preset}: there are {', '.join(reference.PRESETS)}")
    if args.device == "cpu":
        return on_cpu(args, reference)
    import torch_gpu_step

    return torch_gpu_step.run(args, reference, lambda line: print(line, file=sys.stderr, flush=True))


if __name__ == "__main__":
    main()
