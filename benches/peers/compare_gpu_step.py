"""Compares the GPU training step with PyTorch's, eager and compiled, side by side on this machine.

    python3 benches/peers/compare_gpu_step.py --ours target/gpu/ssmv-raw [--presets base] [--batches 16,64] [--out FILE.md]

In each round the three run one after the other, each alone on the GPU; the table has the median over the rounds of each
one's median step. Both are f16 with f32 masters and dynamic loss scaling, at 10 + 2 frames. The ratio is to the faster
of the two ways to run PyTorch.
"""
import argparse
import datetime
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
OURS = ("preset", "batch_size", "seconds", "samples_per_second", "peak_bytes", "device")
THEIRS = ("preset", "batch", "samples_per_second", "torch", "device", "driver", "scan", "captured", "peak_bytes", "loss_finite")


def last_json(command, fields):
    """What a command says in its last line, or an exit with its error's last line."""
    shown = shlex.join(command)
    try:
        ran = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    except OSError as error:
        raise SystemExit(f"error: {command[0]} does not run: {error.strerror}") from None
    if ran.returncode:
        said = (ran.stderr.strip() or ran.stdout.strip() or f"exit status {ran.returncode}").splitlines()[-1]
        raise SystemExit(f"error: `{shown}` fails: {said.removeprefix('error: ')}")
    try:
        found = json.loads(ran.stdout.strip().splitlines()[-1])
        missing = [field for field in fields if field not in found]
    except (IndexError, TypeError, ValueError):
        raise SystemExit(f"error: the last line of `{shown}` is not a JSON object") from None
    if missing:
        raise SystemExit(f"error: `{shown}` does not say {', '.join(missing)}")
    return found


def numbers(text):
    found = [int(part) for part in text.split(",")]
    if min(found) < 1:
        raise ValueError
    return found


def options():
    parse = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parse.add_argument("--ours", required=True, help="the ssmv-raw executable")
    parse.add_argument("--python", default=sys.executable, help="a Python whose PyTorch sees the GPU")
    parse.add_argument("--presets", default="base", help="comma-separated")
    parse.add_argument("--batches", type=numbers, default=[16, 64], help="comma-separated")
    parse.add_argument("--rounds", type=int, default=3)
    parse.add_argument("--steps", type=int, default=50, help="timed steps of a round of PyTorch's")
    parse.add_argument("--scan", default="auto", help="PyTorch's scan, as torch_step.py has it")
    parse.add_argument("--capture", default="step", help="what PyTorch's compiled step captures, as torch_step.py has it")
    parse.add_argument("--tune", action="store_true", help="compile PyTorch's with max-autotune")
    parse.add_argument("--out", type=pathlib.Path, help="write the table to a file too")
    args = parse.parse_args()
    if args.rounds < 1 or args.steps < 1:
        parse.error("--rounds and --steps are at least 1")
    # The commands run in the repository's root; what is named here is named from where this runs.
    args.ours = os.path.abspath(args.ours)
    args.python = os.path.abspath(args.python) if os.sep in args.python else args.python
    return args


def compare(args, preset, batch):
    """(the table's row, the last round of the eager one, that of the compiled one)."""
    ours = [args.ours, "bench", "--device", "cuda", "--json", "--preset", preset, "--batch-size", str(batch)]
    theirs = [args.python, "benches/peers/torch_step.py", "--device", "cuda", "--preset", preset, "--batch", str(batch)]
    theirs += ["--steps", str(args.steps), "--scan", args.scan]
    variants = {
        "ours": (ours, OURS),
        "eager": ([*theirs, "--mode", "eager"], THEIRS),
        "compile": ([*theirs, "--mode", "compile", "--capture", args.capture, *(["--tune"] if args.tune else [])], THEIRS),
    }
    results = {name: [] for name in variants}
    for _ in range(args.rounds):
        for name, (command, fields) in variants.items():
            found = last_json(command, fields)
            if found["preset"] != preset or found.get("batch", found.get("batch_size")) != batch:
                raise SystemExit(f"error: asked for {preset} at batch {batch}, {name} measured something else")
            if not found.get("loss_finite", True):
                raise SystemExit(f"error: the loss of {name} is not finite: {preset} at batch {batch}")
            results[name].append(found)
    chip = results["eager"][0]["device"]
    for found in (found for rounds in results.values() for found in rounds):
        if chip not in found["device"]:
            raise SystemExit(f"error: not all ran on the same GPU: {chip}, {found['device']}")
    speed = {n: statistics.median(r["samples_per_second"] for r in rs) for n, rs in results.items()}
    memory = {n: statistics.median(r["peak_bytes"] for r in rs) / 1e9 for n, rs in results.items()}
    best = max(speed["eager"], speed["compile"])
    row = (
        f"| {preset} | {batch} | {speed['ours']:.1f} | {speed['eager']:.1f} | {speed['compile']:.1f} | {speed['ours'] / speed['eager']:.2f} "
        f"| **{speed['ours'] / best:.2f}** | {memory['ours']:.2f} | {memory['eager']:.2f} | {memory['compile']:.2f} |"
    )
    print(row, file=sys.stderr, flush=True)
    return row, results["eager"][-1], results["compile"][-1]


def main():
    args = options()
    rows = []
    for preset in args.presets.split(","):
        for batch in args.batches:
            row, eager, compiled = compare(args, preset, batch)
            rows.append(row)
    command = shlex.join(["python", "benches/peers/compare_gpu_step.py", *sys.argv[1:]])
    heading = ["preset", "batch", "ssmv-raw, samples/s", "PyTorch eager", "PyTorch compile", "ratio to eager", "ratio to the faster"]
    heading += ["peak GB", "eager's", "compile's"]
    text = "\n".join([
        f"GPU training step, {datetime.date.today().isoformat()}: forward, L1 loss, backward, AdamW; 10 + 2 frames, f16 with f32 masters.",
        "",
        f"Chip: {eager['device']}, driver {eager['driver']}. PyTorch {eager['torch']}, channels_last, AMP, GradScaler, fused AdamW;",
        f"scan: {eager['scan']} (eager), {compiled['scan']} (compile). Captured by compile: {compiled['captured']}.",
        f"Medians of {args.rounds} rounds. Command: `{command}`",
        "",
        f"| {' | '.join(heading)} |",
        "|" + " --- |" * len(heading),
        *rows,
        "",
    ])
    print(text)
    if args.out:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
