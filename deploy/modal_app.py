"""ssmv-raw on Modal: training on one node or several, the benchmark, and a check of one GPU.

    modal run deploy/modal_app.py train --preset base --out base-1
    SSMV_NODES=4 modal run --detach deploy/modal_app.py train-many --preset base --out base-4
    modal run deploy/modal_app.py bench --batch-size 64
    modal run deploy/modal_app.py smoke

Whatever follows the command goes to the program as it stands, but for `--out`: a relative one is a folder under `runs/` on
the volume `ssmv-raw`, which the program sees as /vol (data: `modal volume put ssmv-raw FILE /`, then `--data /vol/FILE`).
A run that was preempted or failed is tried again, and goes on from its latest checkpoint; so does a later call with the
same `--out`. The exit code is the program's. Help without an account: `python deploy/modal_app.py --help`.
"""

import argparse
import datetime
import math
import os
import re
import secrets
import subprocess
import sys
import time
from pathlib import Path

import modal

PROGRAM = "ssmv-raw"
VOLUME = Path("/vol")
RUNS = VOLUME / "runs"
GPUS = 8
# The size of a cluster is part of the function, so it is read before there is a command line.
NODES = int(os.environ.get("SSMV_NODES", "2"))
PORT = 29400
# The exit code for wrong usage, which no second try makes right.
USAGE = 2

DAY = 24 * 60 * 60
# A day is the longest that Modal lets a call run. The program is asked to save before, and the next try goes on.
TIMEOUT, TIME_TO_SAVE = DAY, 10 * 60
COMMIT_EVERY = 5 * 60
# A preempted container is killed 30 s after it was told.
GRACE = 25
RETRIES = modal.Retries(max_retries=4, initial_delay=10.0, backoff_coefficient=2.0)

NCCL = "nvidia-nccl-cu12==2.30.7"
# Puts pip's NCCL where the dynamic loader looks.
LINK_NCCL = (
    "ln -s \"$(python -c 'import nvidia.nccl as n; print(list(n.__path__)[0])')/lib/libnccl.so.2\" /usr/local/lib/"
    " && ldconfig"
)


def program_image() -> modal.Image:
    """The same image as for Docker, with Python for Modal and NCCL for several nodes."""
    root = Path(__file__).resolve().parent.parent
    image = modal.Image.from_dockerfile(root / "deploy" / "Dockerfile", context_dir=root, add_python="3.12")
    return image.entrypoint([]).pip_install(NCCL).run_commands(LINK_NCCL)


app = modal.App("ssmv-raw")
# Only where the app is started are there sources to build from.
image = program_image() if modal.is_local() else modal.Image.debian_slim()
volume = modal.Volume.from_name("ssmv-raw", create_if_missing=True)
# One token a start of the app, in the environment of all its containers and nowhere else.
token = modal.Secret.from_dict({"SSMV_TOKEN": secrets.token_hex(32)})
on_volume = {str(VOLUME): volume}


@app.function(image=image, gpu=f"H100:{GPUS}", volumes=on_volume, timeout=TIMEOUT, retries=RETRIES)
def train(arguments: list[str]) -> int:
    """Trains on the GPUs of one node. Raises where another try may help, so that Modal makes one."""
    volume.reload()
    return finish(
        [PROGRAM, "launch", "--nproc", str(GPUS), "--", "train", *in_its_folder(arguments, writes=True)], commits=True
    )


@app.function(
    image=image,
    gpu=f"H100:{GPUS}",
    volumes=on_volume,
    timeout=TIMEOUT,
    retries=RETRIES,
    secrets=[token],
    env={"SSMV_NODES": str(NODES)},
)
@modal.clustered(size=NODES, rdma=True)
def train_many(arguments: list[str]) -> int:
    """Trains on the GPUs of several nodes: Modal runs this on each, and takes the first one's result.

    Each node decides by the volume whether to resume. Should one see an older state of it, the ranks refuse each other, and
    the next try finds them agreed.
    """
    cluster = modal.Cluster.from_context()
    node, addresses = cluster.container_rank(), cluster.container_ips(family="ipv4") or cluster.container_ips()
    volume.reload()
    place = ["--nproc", str(GPUS), "--nnodes", str(len(addresses)), "--node-rank", str(node)]
    meeting = ["--master-addr", addresses[0], "--master-port", str(PORT)]
    arguments = in_its_folder(arguments, writes=node == 0)
    return finish([PROGRAM, "launch", *place, *meeting, "--", "train", *arguments], commits=node == 0)


@app.function(image=image, gpu="H100", timeout=60 * 60)
def bench(arguments: list[str]) -> int:
    """Times the training step on one GPU."""
    preset = [] if option(arguments, "--preset") else ["--preset", "base"]
    return finish([PROGRAM, "bench", "--device", "cuda", *preset, *arguments])


@app.function(image=image, gpu="H100", timeout=60 * 60)
def smoke(arguments: list[str]) -> int:
    """Says what one GPU's machine has, and checks that the GPU computes what the CPU does."""
    return finish([PROGRAM, "doctor"]) or finish([PROGRAM, "selftest", "--device", "cuda", *arguments])


def option(arguments: list[str], name: str) -> str | None:
    """The value of an option, given as `NAME VALUE` or `NAME=VALUE`; "" where it stands without one."""
    for at, argument in enumerate(arguments):
        if argument == name:
            return arguments[at + 1] if at + 1 < len(arguments) else ""
        if argument.startswith(name + "="):
            return argument.removeprefix(name + "=")
    return None


def without(arguments: list[str], name: str) -> list[str]:
    """The arguments without an option and its value."""
    kept = list(arguments)
    for at, argument in enumerate(arguments):
        if argument == name:
            del kept[at : at + 2]
            break
        if argument.startswith(name + "="):
            del kept[at]
            break
    return kept


def has_checkpoint(folder: Path) -> bool:
    """Whether a run can go on: from a finished checkpoint, or from one that was moved aside for its successor."""
    name = re.compile(r"step-\d{8,}|\.step-\d{8,}\.old-\d+")
    checkpoints = folder / "checkpoints"
    return checkpoints.is_dir() and any(name.fullmatch(entry.name) for entry in checkpoints.iterdir())


def in_its_folder(arguments: list[str], writes: bool) -> list[str]:
    """The arguments of `train` with the run folder on the volume, and `--resume` where it has a checkpoint.

    A run that ended before its first checkpoint leaves a folder that the program refuses: it is moved aside, by the
    one node that writes.
    """
    out = option(arguments, "--out")
    if not out:
        return arguments
    folder = RUNS / out
    resume = option(arguments, "--resume") is None and has_checkpoint(folder)
    if writes and not has_checkpoint(folder) and folder.is_dir() and any(folder.iterdir()):
        aside = next(p for n in range(1, 1000) if not (p := folder.with_name(f"{folder.name}.unfinished-{n}")).exists())
        folder.rename(aside)
    # Last, so that nothing behind it reads as its value.
    return [*without(arguments, "--out"), "--out", str(folder), *(["--resume"] if resume else [])]


def finish(command: list[str], commits: bool = False) -> int:
    """Runs the program to its end: 0, or 2 for wrong usage. Any other code is an exception, which Modal retries."""
    code = run(command, commits)
    if code not in (0, USAGE):
        raise subprocess.CalledProcessError(code, command)
    return code


def run(command: list[str], commits: bool) -> int:
    """Runs the program, commits the volume now and then, and passes on that the time is up."""
    # In a session of its own a signal comes to it through here only, and once: a second one would end it unsaved.
    process = subprocess.Popen(command, start_new_session=True)
    end = time.monotonic() + TIMEOUT - TIME_TO_SAVE
    try:
        while True:
            try:
                code = process.wait(max(0.0, min(COMMIT_EVERY, end - time.monotonic())))
                break
            except subprocess.TimeoutExpired:
                if time.monotonic() >= end:
                    process.terminate()
                    end = math.inf
                if commits:
                    commit_if_possible()
    except BaseException:
        # Preempted or cancelled.
        process.terminate()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if commits:
            commit_if_possible()
        raise
    if commits:
        volume.commit()
    return code


def commit_if_possible() -> None:
    """Commits the volume; a failure costs no more than what the next commit saves."""
    try:
        volume.commit()
    except modal.exception.Error as error:
        print(f"warning: the volume was not committed: {error}", file=sys.stderr, flush=True)


COMMANDS = {
    "train": (train, f"train on one node of {GPUS} H100s"),
    "train-many": (train_many, f"train on SSMV_NODES (now {NODES}) nodes of {GPUS} H100s"),
    "bench": (bench, "time the training step on one H100"),
    "smoke": (smoke, "doctor and selftest on one H100"),
}


def parse(arguments: list[str]) -> tuple[str, list[str]]:
    """The command, and the program's arguments. A training that names no run folder gets one: all tries need the same."""
    parser = argparse.ArgumentParser(
        prog="modal run deploy/modal_app.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="commands:\n" + "\n".join(f"  {name:<11} {what}" for name, (_, what) in COMMANDS.items()),
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="what to do; see below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENTS", help="the program's own")
    given = parser.parse_args(arguments)
    rest = given.arguments[1:] if given.arguments[:1] == ["--"] else given.arguments
    if given.command.startswith("train") and not option(rest, "--out"):
        rest = [*without(rest, "--out"), "--out", datetime.datetime.now().strftime("run-%Y%m%d-%H%M%S")]
    out = RUNS / (option(rest, "--out") or "")
    if ".." in out.parts or not out.is_relative_to(VOLUME):
        parser.error(f"--out {out} is not on the volume: give a name, or a path under {VOLUME}")
    return given.command, rest


def call(command: str, arguments: list[str]) -> int:
    """Runs a command on Modal, and gives the program's exit code."""
    function, _ = COMMANDS[command]
    if out := option(arguments, "--out"):
        print(f"run folder {RUNS / out} on the volume ssmv-raw", file=sys.stderr)
    try:
        return function.remote(arguments)
    except subprocess.CalledProcessError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.returncode if error.returncode > 0 else 128 - error.returncode


@app.local_entrypoint()
def main(*arguments: str) -> None:
    """Runs one of the commands."""
    sys.exit(call(*parse(list(arguments))))


if __name__ == "__main__":
    chosen = parse(sys.argv[1:])
    with modal.enable_output(), app.run():
        sys.exit(call(*chosen))
