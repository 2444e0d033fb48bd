"""Compares the CPU training step with PyTorch's, side by side on this machine, in f32 and in bf16.

    python3 -m venv .venv && .venv/bin/pip install torch numpy safetensors
    .venv/bin/python benches/peers/compare_step.py [--presets tiny,small,base:2] [--ways ours,eager] [--rounds 3]
                                                   [--out FILE.md]

Every way of computing the step has its turn in each round, on the same cores. PyTorch runs eager and compiled, each in
its default layout and in channels_last, each in f32 and in autocast to bf16. Times are the median over the rounds of
each way's median step. A ratio in f32 is to PyTorch's fastest way in f32, a ratio in bf16 to its fastest way of all. A
way that fails is not run again for that preset, and its error is printed below the tables. So is a way whose rounds
differ much: other processes were running, which slow PyTorch's spinning threads most. Measure on an idle machine.
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

# Fastest round of a way over its slowest, above which they are reported.
STEADY = 1.2

OURS = ["cargo", "bench", "--quiet", "--bench", "step", "--"]
THEIRS = [sys.executable, "benches/peers/torch_step.py", "--model-dir", str(REFERENCE)]

F32 = {
    "ours": OURS,
    "eager": THEIRS,
    "channels_last": THEIRS + ["--channels-last"],
    "compile": THEIRS + ["--mode", "compile"],
    "compile+channels_last": THEIRS + ["--mode", "compile", "--channels-last"],
}
BF16 = {f"{way} bf16": command + ["--precision", "bf16"] for way, command in F32.items()}
WAYS = F32 | BF16
GROUPS = {"all": WAYS, "f32": F32, "bf16": BF16}


def ways(text):
    """The chosen ways: names, or `f32`, `bf16`, `all`."""
    chosen = set()
    for name in text.split(","):
        if name not in WAYS and name not in GROUPS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join([*GROUPS, *WAYS])}")
        chosen.update(GROUPS.get(name, [name]))
    return [way for way in WAYS if way in chosen]


class Failed(Exception):
    """A way that gave no result, with the reason in one line."""


def measured(command, limit):
    """The last line that the command prints, which is JSON."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        raise Failed(f"no result after {limit} s") from None
    if done.returncode:
        raise Failed(reason(done.stderr) or f"exit code {done.returncode}")
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        raise Failed("printed no JSON") from None


def reason(text):
    """The line of a program's stderr that names its error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if line.split(":")[0].endswith(("Error", "error", "InvalidCxxCompiler"))]
    panics = [after for line, after in zip(lines, lines[1:]) if "panicked at" in line]
    return (panics or named or lines[-1:] or [""])[-1]


def processor():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def measure(args, preset, batch):
    """Each way's results, and the reasons of the ways that failed."""
    results, failed = {way: [] for way in args.ways}, {}
    options = ["--preset", preset, "--batch", batch, "--steps", str(args.steps), "--threads", str(args.threads)]
    for turn in range(args.rounds):
        for way in args.ways:
            if way in failed:
                continue
            try:
                results[way].append(measured(WAYS[way] + options, args.limit))
                print(f"{preset} {turn + 1} {way}: {results[way][-1]['samples_per_second']:.2f}", file=sys.stderr)
            except Failed as error:
                failed[way] = str(error)
                print(f"{preset} {turn + 1} {way}: failed: {error}", file=sys.stderr)
    return {way: found for way, found in results.items() if way not in failed}, failed


def medians(results, field):
    return {way: statistics.median(one[field] for one in found) for way, found in results.items()}


def table(headings, rows):
    return ["| " + " | ".join(cells) + " |" for cells in [headings, ["---"] * len(headings), *rows]]


def compared(speed, memory, ours, theirs):
    """Cells of one precision: our speed, PyTorch's fastest way and its speed, the ratio, the memory of both."""
    best = max((way for way in theirs if way in speed), key=speed.get, default=None)
    return [
        f"{speed[ours]:.2f}" if ours in speed else "–",
        f"{best}: {speed[best]:.2f}" if best else "–",
        f"**{speed[ours] / speed[best]:.2f}**" if best and ours in speed else "–",
        " / ".join(f"{memory[way]:.0f}" if way in memory else "–" for way in (ours, best)),
    ]


def main():
    parse = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parse.add_argument("--presets", default="tiny,small", help="NAME or NAME:BATCH, comma-separated")
    parse.add_argument("--ways", type=ways, default="all", help=f"all, f32, bf16, or of {', '.join(WAYS)}")
    parse.add_argument("--rounds", type=int, default=3)
    parse.add_argument("--steps", type=int, default=10)
    parse.add_argument("--threads", type=int, default=2)
    parse.add_argument("--limit", type=float, default=1800, help="seconds after which a way counts as failed")
    parse.add_argument("--out")
    args = parse.parse_args()
    if min(args.rounds, args.steps, args.threads) < 1:
        parse.error("--rounds, --steps and --threads are at least 1")

    if any(way.startswith("ours") for way in args.ways):
        subprocess.run(["cargo", "bench", "--quiet", "--bench", "step", "--no-run"], cwd=ROOT, check=True)
    torch_ways = [way for way in args.ways if not way.startswith("ours")]
    summary, speeds, notes, version = [], [], [], "was not run"
    for item in args.presets.split(","):
        preset, _, batch = item.partition(":")
        batch = batch or "16"
        results, failed = measure(args, preset, batch)
        speed, memory = medians(results, "samples_per_second"), medians(results, "peak_rss_mb")
        in_f32 = compared(speed, memory, "ours", [way for way in torch_ways if way in F32])
        summary.append([preset, batch, *in_f32, *compared(speed, memory, "ours bf16", torch_ways)])
        speeds.append([preset, batch] + [f"{speed[way]:.2f}" if way in speed else "failed" for way in args.ways])
        notes += [f"{preset}, {way} failed: {text}" for way, text in failed.items()]
        for way, found in results.items():
            rounds = [one["samples_per_second"] for one in found]
            if max(rounds) > STEADY * min(rounds):
                notes.append(f"{preset}, {way}: its rounds differ, {min(rounds):.2f} to {max(rounds):.2f} samples/s")
        version = next((results[way][0]["torch"] for way in torch_ways if way in results), version)
    command = [f"--presets {args.presets} --rounds {args.rounds} --steps {args.steps} --threads {args.threads}"]
    if len(args.ways) < len(WAYS):
        command.append(f"--ways '{','.join(args.ways)}'")
    text = "\n".join([
        f"CPU training step, {datetime.date.today().isoformat()}: forward, L1 loss, backward, AdamW; 10 + 2 frames.",
        "",
        f"Machine: {processor()}, {args.threads} threads, {platform.system()} {platform.machine()}. PyTorch {version}.",
        f"Command: `python benches/peers/compare_step.py {' '.join(command)}`",
        "",
        "Samples a second of each side, and peak memory in MB (ours / PyTorch's):",
        "",
        *table(["preset", "batch", "ours f32", "PyTorch's fastest f32", "ratio", "MB",
                "ours bf16", "PyTorch's fastest", "ratio", "MB"], summary),
        "",
        "Samples a second of every way:",
        "",
        *table(["preset", "batch", *args.ways], speeds),
        "",
        *(line for note in notes for line in (note, "")),
    ])
    print(text)
    if args.out:
        pathlib.Path(args.out).write_text(text)


if __name__ == "__main__":
    main()
