#!/usr/bin/env bash
# All that a GPU is wanted for, in one command: first whether the kernels are right on it, then how fast they are.
#
#     benches/gpu.sh pack               builds here, with cargo, what the other command needs: target/gpu/
#     benches/gpu.sh run [--quick]      on the machine with the GPU, without cargo: tests, benchmarks, PyTorch's
#     benches/gpu.sh train [OPTIONS]    there too: trains base on the digits; keeps its metrics, table and GIF
#
# `run` fails at the first test that fails, and then measures nothing. Its tables go to ${OUT:-benches/results}, with date,
# chip, driver and command; files appear there only when all of it has run. PyTorch is that of ${PYTHON:-python3}.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
pack=target/gpu
tests="driver kernels kernels_optim"

fail() { echo "error: $*" >&2; exit 1; }
step() { printf '\n== %s\n' "$1" >&2; }

# The executable that a cargo command says it built under a name.
built() { sed -n "s|.*Executable.* (\(.*/$1-[0-9a-f]*\))|\1|p" "$2" | tail -n 1; }

pack() {
    command -v cargo >/dev/null || fail "no cargo: pack where the repository is built"
    rm -rf "$pack"
    mkdir -p "$pack/tests"
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    step "release binary"
    cargo build --release --bin ssmv-raw
    strip -o "$pack/ssmv-raw" target/release/ssmv-raw
    step "tests"
    cargo test --release --no-run -p ssmv-autograd --test driver --test kernels 2>&1 | tee "$log" >&2
    cargo test --release --no-run -p ssmv-raw --test kernels_optim 2>&1 | tee -a "$log" >&2
    for name in $tests; do
        path=$(built "$name" "$log")
        [ -n "$path" ] || fail "cargo does not say where the test $name is"
        strip -o "$pack/tests/$name" "$path"
    done
    step "benchmarks"
    cargo bench --no-run --bench kernels --bench ranks 2>&1 | tee "$log" >&2
    for name in kernels ranks; do
        path=$(built "$name" "$log")
        [ -n "$path" ] || fail "cargo does not say where the benchmark $name is"
        strip -o "$pack/$name" "$path"
    done
    git rev-parse HEAD >"$pack/commit" 2>/dev/null || echo unknown >"$pack/commit"
    du -sh "$pack" >&2
}

run() {
    quick=() steps=() rounds=()
    case "${1:-}" in
        "") ;;
        --quick) quick=(--quick) steps=(--steps 5) rounds=(--rounds 1) ;;
        *) fail "run takes --quick or nothing, not $1" ;;
    esac
    python=${PYTHON:-python3}
    for name in ssmv-raw kernels ranks commit tests/driver tests/kernels tests/kernels_optim; do
        [ -e "$pack/$name" ] || fail "$pack/$name is missing: benches/gpu.sh pack makes it, on a machine with cargo"
    done
    command -v nvidia-smi >/dev/null || fail "no nvidia-smi: this machine has no NVIDIA driver"
    "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' ||
        fail "$python has no PyTorch that sees a GPU: set PYTHON to one that does"

    out=${OUT:-benches/results}
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    bits=$work/bits.tsv
    : >"$bits"

    step "correctness"
    "$pack/ssmv-raw" doctor >&2
    "$pack/ssmv-raw" selftest --device cuda >&2 || fail "the selftest fails on this GPU; nothing was measured"
    for name in $tests; do
        SSMV_TEST_DEVICE=cuda SSMV_BITS=$bits "$pack/tests/$name" >&2 || fail "the test $name fails on this GPU; nothing was measured"
    done
    [ -s "$bits" ] || fail "the tests compared nothing with the emulator"

    step "two ranks on this GPU"
    for way in graph no-graph; do
        options=()
        [ "$way" = graph ] || options=(--no-graph)
        "$pack/ssmv-raw" launch --nproc 2 -- train --preset nano --device cuda --steps 20 --check-ranks-every 1 --out "$work/$way" \
            ${options[@]+"${options[@]}"} >"$work/$way.txt" 2>&1 || { cat "$work/$way.txt" >&2; fail "two ranks do not train on this GPU"; }
        grep 'gradients travel' "$work/$way.txt" >&2
    done
    cmp "$work"/{graph,no-graph}/checkpoints/step-00000020/model.safetensors ||
        fail "two ranks end with other bits when their steps are captured"
    "$pack/ranks" --device cuda | tee "$work/ranks.txt" >&2 || fail "the benchmark of ranks does not run on this GPU"

    step "kernels"
    "$pack/kernels" --device cuda ${quick[@]+"${quick[@]}"} --out "$work/ours.md" >/dev/null
    step "PyTorch's kernels"
    "$python" benches/peers/torch_kernels.py ${quick[@]+"${quick[@]}"} --out "$work/peers.md" --json "$work/peers.json" >&2

    step "the training step"
    "$pack/ssmv-raw" bench --device cuda --preset base --batch-size 16,64 ${steps[@]+"${steps[@]}"} >"$work/step.txt" ||
        fail "the training step of base does not run on this GPU"
    step "PyTorch's training step"
    "$python" benches/peers/compare_gpu_step.py --ours "$pack/ssmv-raw" --presets base --batches 16,64 --python "$python" \
        ${rounds[@]+"${rounds[@]}"} --out "$work/peers-step.md" >&2

    step "tables"
    chip=$(nvidia-smi --query-gpu=name --format=csv,noheader --id=0)
    driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader --id=0)
    date=$(date -u +%F)
    name=$date-$(tr '[:upper:] ' '[:lower:]-' <<<"${chip#NVIDIA }")
    different=$(grep -vcE $'\t0 of [0-9]+ bytes differ$' "$bits" || true)
    {
        echo "Kernels on a GPU, $date."
        echo
        echo "Chip: $chip, driver $driver. Commit $(cat "$pack/commit"). Command: \`benches/gpu.sh run ${quick[*]-}\`"
        echo
        echo "The tests passed there first. Of $(wc -l <"$bits") outputs, $different differ from the emulator's in some bit (list beside this file)."
        echo
        cat "$work/ours.md"
        echo
        cat "$work/peers.md"
    } >"$work/table.md"
    {
        echo "The training step of base on a GPU, $date."
        echo
        echo "Chip: $chip, driver $driver. Commit $(cat "$pack/commit"). Command: \`benches/gpu.sh run ${quick[*]-}\`"
        echo
        echo '```'
        cat "$work/step.txt"
        echo '```'
        echo
        cat "$work/peers-step.md"
    } >"$work/step.md"
    {
        echo "All-reduce of two processes on one GPU, $date."
        echo
        echo "Chip: $chip, driver $driver. Commit $(cat "$pack/commit"). Command: \`benches/gpu.sh run ${quick[*]-}\`. Medians of 9, by the device's clock."
        echo
        cat "$work/ranks.txt"
    } >"$work/ranks.md"
    mkdir -p "$out"
    cp "$work/ranks.md" "$out/$name-ranks.md"
    cp "$work/step.md" "$out/$name-step.md"
    cp "$work/table.md" "$out/$name-kernels.md"
    cp "$work/peers.json" "$out/$name-torch.json"
    cp "$bits" "$out/$name-bits.tsv"
    cat "$work/table.md"
    cat "$work/step.md"
    echo "wrote $out/$name-kernels.md, -step.md, -ranks.md, -torch.json, -bits.tsv" >&2
}

train() {
    [ -x "$pack/ssmv-raw" ] || fail "$pack/ssmv-raw is missing: benches/gpu.sh pack makes it, on a machine with cargo"
    command -v nvidia-smi >/dev/null || fail "no nvidia-smi: this machine has no NVIDIA driver"
    out=${OUT:-benches/results}
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    chip=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader --id=0)
    name=$(date -u +%F)-$(cut -d, -f1 <<<"${chip#NVIDIA }" | tr '[:upper:] ' '[:lower:]-')-train-base
    "$pack/ssmv-raw" train --device cuda --preset base --out "$work/run" "$@" | tee "$work/told.txt" ||
        fail "the training failed; nothing is kept"
    mkdir -p "$out/$name"
    cp "$work/run/metrics.jsonl" "$work/run/config.toml" "$work/run/preview.gif" "$out/$name/"
    {
        echo "A training of base on the digits, $(date -u +%F)."
        echo
        echo "Chip and driver: $chip. Commit $(cat "$pack/commit"). Command: \`benches/gpu.sh train $*\`"
        echo
        echo '```'
        cat "$work/told.txt"
        echo '```'
    } >"$out/$name/README.md"
    echo "wrote $out/$name" >&2
}

case "${1:-}" in
    pack) [ $# = 1 ] || fail "pack takes no options"; pack ;;
    run) shift; run "$@" ;;
    train) shift; train "$@" ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
