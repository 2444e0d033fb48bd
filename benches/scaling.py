#!/usr/bin/env python3
"""Estimates a training step's time on several GPUs, by arithmetic. Nothing here was measured.

    python3 benches/scaling.py                                   # print the tables for every number of ranks
    python3 benches/scaling.py --step 16=6.1 --optimiser 2.9     # with a measured step and its optimiser's part, ms
    python3 benches/scaling.py --link nvlink=330,4               # with a measured rate, GB/s, and latency, µs
    python3 benches/scaling.py --update docs/scaling.md          # write the summary there; --check compares
"""

import argparse
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

PARAMETERS = 230_046_051
GRADIENTS, COPY = 4 * PARAMETERS, 2 * PARAMETERS  # bytes: f32 gradients, the f16 copy of the weights
BUCKET = 25 * 2**20
# Of forward and backward together: backward does the work of forward twice, for inputs and for weights.
BACKWARD = 2 / 3
BEGIN, END = "<!-- benches/scaling.py -->", "<!-- end -->"


@dataclass(frozen=True)
class Link:
    """What a ring goes over: its slowest link's rate in one direction, and the time of a step that moves nothing."""

    name: str
    gigabytes: float  # a second
    microseconds: float
    ranks: tuple[int, ...]

    def seconds(self, turns: int, ranks: int, size: float, messages: int) -> float:
        """`turns` times round the ring (less one rank), for `size` bytes in `messages` buckets one after another."""
        moved = turns * (ranks - 1) / ranks * size / (self.gigabytes * 1e9)
        return moved + turns * (ranks - 1) * messages * self.microseconds * 1e-6

    def all_reduce(self, ranks: int, size: float, messages: int = 1) -> float:
        return self.seconds(2, ranks, size, messages)

    def half(self, ranks: int, size: float, messages: int = 1) -> float:
        """A reduce-scatter, or an all-gather."""
        return self.seconds(1, ranks, size, messages)


NODE, NODES = (2, 4, 8), (16, 32, 64)
LINKS = {
    "nvlink": Link("NVLink 4", 450, 3, NODE),
    "pcie5": Link("PCIe 5 ×16", 63, 5, NODE),
    "pcie4": Link("PCIe 4 ×16", 31.5, 5, NODE),
    # 8 GPUs a node. One ring leaves a node through one of its 8 adapters; 8 rings, as NCCL makes them, through all.
    "rings": Link("NDR, 8 rings", 400, 5, NODES),
    "ring": Link("NDR, 1 ring", 50, 5, NODES),
    "ethernet": Link("100 Gb Ethernet", 12.5, 25, NODES),
}


@dataclass(frozen=True)
class Step:
    """One GPU's step, in seconds, and the part of it that is gradient norm and AdamW."""

    batch: int
    total: float
    optimiser: float

    @property
    def passes(self) -> float:
        return self.total - self.optimiser


def exposed(communication: float, last: float, backward: float) -> float:
    """What does not hide behind backward: the last bucket, and whatever of the others is longer than backward."""
    return last + max(0.0, communication - last - backward)


def variants(step: Step, link: Link, ranks: int) -> dict[str, float]:
    """A step's seconds, with and without ZeRO-1: gradients reduced in one call after backward, in buckets during it."""
    buckets = math.ceil(GRADIENTS / BUCKET)
    backward = BACKWARD * step.passes
    reduced = exposed(link.all_reduce(ranks, GRADIENTS, buckets), link.all_reduce(ranks, BUCKET), backward)
    scattered = exposed(link.half(ranks, GRADIENTS, buckets), link.half(ranks, BUCKET), backward)
    whole = step.passes + step.optimiser
    share = step.passes + step.optimiser / ranks + link.half(ranks, COPY)
    return {
        "after": whole + link.all_reduce(ranks, GRADIENTS),
        "during": whole + reduced,
        "zero after": share + link.half(ranks, GRADIENTS),
        "zero during": share + scattered,
    }


def limit(step: Step, link: Link, ranks: int) -> str:
    """The largest part of the best variant's step: passes, optimiser, or what of the link is waited for."""
    times = variants(step, link, ranks)
    best = min(times, key=times.get)
    optimiser = step.optimiser / (ranks if best.startswith("zero") else 1)
    waiting = times[best] - step.passes - optimiser
    # The same without latency: is it the rate, or the number of messages?
    free = variants(step, replace(link, microseconds=0.0), ranks)[best] - step.passes - optimiser
    parts = {"passes": step.passes, "optimiser": optimiser, "link's rate": free, "link's latency": waiting - free}
    return max(parts, key=parts.get)


def table(step: Step, links: dict[str, Link]) -> str:
    lines = [
        f"Batch {step.batch} a GPU; one GPU: {step.total * 1e3:.1f} ms, of which {step.optimiser * 1e3:.1f} ms optimiser.",
        "",
        "| link | W | after, ms | during, ms | ZeRO-1 after, ms | ZeRO-1 during, ms | best, of W × one GPU | largest part |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for link in links.values():
        for ranks in link.ranks:
            times = variants(step, link, ranks)
            best = min(times.values())
            cells = [f"**{t * 1e3:.1f}**" if t == best else f"{t * 1e3:.1f}" for t in times.values()]
            share = f"{100 * step.total / best:.0f} %"
            lines.append(f"| {link.name} | {ranks} | {' | '.join(cells)} | {share} | {limit(step, link, ranks)} |")
    return "\n".join(lines)


WAYS = {"after": "after", "during": "during", "zero after": "ZeRO-1 after", "zero during": "ZeRO-1 during"}


def summary(steps: list[Step], links: dict[str, Link]) -> str:
    """The fastest way for the most ranks of each link: its name, its time, and its share of W times one GPU."""
    lines = [
        "| link | W | " + " | ".join(f"batch {s.batch}: fastest | ms | share" for s in steps) + " |",
        "| --- | --- |" + " --- | --- | --- |" * len(steps),
    ]
    for link in links.values():
        ranks = max(link.ranks)
        cells = []
        for step in steps:
            times = variants(step, link, ranks)
            best = min(times, key=times.get)
            cells += [WAYS[best], f"{times[best] * 1e3:.1f}", f"{100 * step.total / times[best]:.0f} %"]
        lines.append(f"| {link.name} | {ranks} | {' | '.join(cells)} |")
    return "\n".join(lines)


def pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", type=pair, action="append", metavar="BATCH=MS", help="one GPU's step")
    parser.add_argument("--optimiser", type=float, default=2.6, metavar="MS", help="norm and AdamW on one GPU")
    parser.add_argument("--link", type=pair, action="append", default=[], metavar="NAME=GB/S[,US]", help=", ".join(LINKS))
    parser.add_argument("--efficiency", type=float, default=0.8, help="the part of a published rate that is reached")
    parser.add_argument("--update", type=Path, metavar="FILE", help="write the summary between FILE's markers")
    parser.add_argument("--check", type=Path, metavar="FILE", help="fail unless FILE has this summary")
    given = parser.parse_args()

    links = {name: replace(link, gigabytes=link.gigabytes * given.efficiency) for name, link in LINKS.items()}
    try:
        for name, value in given.link:
            rate, _, latency = value.partition(",")
            known = links[name]
            links[name] = replace(known, gigabytes=float(rate), microseconds=float(latency or known.microseconds))
        steps = [Step(int(b), float(ms) / 1e3, given.optimiser / 1e3) for b, ms in given.step or [("16", "4.4"), ("64", "8.3")]]
    except (KeyError, ValueError) as error:
        parser.error(f"not understood: {error}")
    if any(step.passes <= 0 for step in steps) or any(link.gigabytes <= 0 for link in links.values()):
        parser.error("a step must be longer than its optimiser, and a rate above 0")

    file = given.update or given.check
    if file is None:
        print("\n\n".join(table(step, links) for step in steps))
        return 0
    text = summary(steps, links)
    before, _, rest = file.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        parser.error(f"{file} has no markers {BEGIN} … {END}")
    whole = f"{before}{BEGIN}\n{text}\n{END}{after}"
    if given.update:
        file.write_text(whole)
    elif file.read_text() != whole:
        print(f"{file} is not what {parser.prog} prints: run it with --update", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
