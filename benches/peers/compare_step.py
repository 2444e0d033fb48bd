"""Compares the CPU training step with PyTorch's eager one, side by side on this machine.

    python3 -m venv .venv && .venv/bin/pip install torch numpy safetensors
    .venv/bin/python benches/peers/compare_step.py [--presets tiny,small,base:2] [--rounds 3] [--out FILE.md]

Both run one after the other in each round, on the same cores; the table has the median over the rounds of each one's
median step. PyTorch runs in its default layout and in channels_last; the ratio is to the faster of the two.
"""
import argparse
import datetime
import json
import pathlib
import platform
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "tests" / "golden"


def last_json(command):
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return json.loads(output.strip().splitlines()[-1])


def processor():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def main():
    parse = argparse.ArgumentParser()
    parse.add_argument("--presets", default="tiny,small", help="NAME or NAME:BATCH, comma-separated")
    parse.add_argument("--rounds", type=int, default=3)
    parse.add_argument("--steps", type=int, default=10)
    parse.add_argument("--threads", type=int, default=2)
    parse.add_argument("--out")
    args = parse.parse_args()

    ours = ["cargo", "bench", "--quiet", "--bench", "step", "--"]
    theirs = [sys.executable, "benches/peers/torch_step.py", "--model-dir", str(REFERENCE)]
    subprocess.run(["cargo", "bench", "--quiet", "--bench", "step", "--no-run"], cwd=ROOT, check=True)
    rows = []
    for item in args.presets.split(","):
        preset, _, batch = item.partition(":")
        options = ["--preset", preset, "--batch", batch or "16", "--steps", str(args.steps)]
        options += ["--threads", str(args.threads)]
        variants = {"ours": ours + options, "eager": theirs + options, "channels_last": theirs + options + ["--channels-last"]}
        results = {name: [] for name in variants}
        for _ in range(args.rounds):
            for name, command in variants.items():
                results[name].append(last_json(command))
        speed = {n: statistics.median(r["samples_per_second"] for r in rs) for n, rs in results.items()}
        memory = {n: statistics.median(r["peak_rss_mb"] for r in rs) for n, rs in results.items()}
        best = max(speed["eager"], speed["channels_last"])
        rows.append(
            f"| {preset} | {batch or 16} | {speed['ours']:.1f} | {speed['eager']:.1f} | {speed['channels_last']:.1f} "
            f"| **{speed['ours'] / best:.2f}** | {memory['ours']:.0f} | {min(memory['eager'], memory['channels_last']):.0f} |"
        )
        print(rows[-1], file=sys.stderr)
        version = results["eager"][0]["torch"]
    text = "\n".join([
        f"CPU training step, {datetime.date.today().isoformat()}: forward, L1 loss, backward, AdamW; 10 + 2 frames, f32.",
        "",
        f"Machine: {processor()}, {args.threads} threads, {platform.system()} {platform.machine()}. PyTorch {version}.",
        f"Command: `python benches/peers/compare_step.py --presets {args.presets} --rounds {args.rounds} "
        f"--steps {args.steps} --threads {args.threads}`",
        "",
        "| preset | batch | ssmv-raw, samples/s | PyTorch eager | PyTorch channels_last | ratio to the faster | peak MB | PyTorch's peak MB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
    ])
    print(text)
    if args.out:
        pathlib.Path(args.out).write_text(text)


if __name__ == "__main__":
    main()
