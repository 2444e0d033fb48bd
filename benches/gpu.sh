#!/usr/bin/env bash
# All that a GPU is wanted for, in stages that each fit a short visit: first whether the kernels are right on it, then how
# fast they are.
#
#     benches/gpu.sh pack                            builds here, with cargo, what the other machine needs: target/gpu/
#     benches/gpu.sh plan                            the calls to make there, each within 8 minutes
#     benches/gpu.sh run [--rehearsal] STAGE...      there, without cargo; writes to ${OUT:-target/gpu-out}/STAGE/
#
# A stage has its own time limit, and no stage needs another one's success. Logs grow as a stage runs and its table.md is
# there from its start, so that a command that is cut off loses one stage. summary.txt has a line at each stage's start and
# one at its end. Exits with 1 if a stage failed. PyTorch is that of ${PYTHON:-python3}.
#
# --rehearsal shrinks every stage, so that all of them run over the emulated driver, on a machine without a GPU:
#     cargo build --release -p ssmv-libcuda && mkdir -p target/libcuda
#     cp target/release/libssmv_cuda.so target/libcuda/libcuda.so.1
#     LD_LIBRARY_PATH=target/libcuda benches/gpu.sh run --rehearsal correctness
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
pack=target/gpu
pack_limit=$((64 << 20))
call_limit=480

# Stages in their order: seconds that one may take, minutes expected on an H100 (estimates), what it does.
stages() {
    cat <<'END'
doctor              30  0.2  what the program says of the GPU and its driver
selftest           150  1.5  every operator, the golden cases and short trainings against the CPU
tests              120  1    the driver's and the optimiser's tests
bits               180  2    the kernels' tests; which outputs differ from the emulator's in some bit
kernels            150  1    our kernels one by one
pytorch-kernels    120  1    the same shapes in PyTorch
step                60  0.5  our training step of base at batch 16 and 64
pytorch-step-16    420  4    PyTorch's step, eager and compiled, and ours in turns, at batch 16
pytorch-step-64    420  4    the same at batch 64
ranks              150  1.5  two ranks on this GPU, by peer memory: the same bits with and without a graph; all-reduce
train              290  4.5  base on the digits for 4 minutes: metrics, evaluation, preview
END
}

# One line a call of `plan`. Ours and PyTorch's are measured in the same call.
calls() {
    cat <<'END'
correctness
kernels pytorch-kernels
step pytorch-step-16
pytorch-step-64
ranks train
END
}

fail() { echo "error: $*" >&2; exit 1; }
step() { printf '\n== %s\n' "$1" >&2; }

# A column of a stage's row: 2 its seconds, 3 its expected minutes.
of_stage() { stages | awk -v stage="$1" -v column="$2" '$1 == stage { print $column }'; }

# The stages that a word of the command line names.
expand() {
    case "$1" in
        correctness) echo doctor selftest tests bits ;;
        all) stages | awk '{ print $1 }' | xargs ;;
        *) [ -n "$(of_stage "$1" 2)" ] || fail "$1 is not a stage: correctness, all, $(stages | awk '{ print $1 }' | xargs | sed 's/ /, /g')"
           echo "$1" ;;
    esac
}

plan() {
    echo "Here, first: benches/gpu.sh pack. Then on the machine with the GPU, with target/gpu/, one call at a time:"
    total=0
    while read -r call; do
        limit=0 expected=0
        names=$(for word in $call; do expand "$word"; done)
        for stage in $names; do
            limit=$((limit + $(of_stage "$stage" 2)))
            expected=$(awk "BEGIN { print $expected + $(of_stage "$stage" 3) }")
        done
        [ "$limit" -le "$call_limit" ] || fail "the call '$call' may take $limit s, more than $call_limit"
        total=$(awk "BEGIN { print $total + $expected }")
        printf '  benches/gpu.sh run %-26s # about %s min, at most %d:%02d\n' "$call" "$expected" $((limit / 60)) $((limit % 60))
    done < <(calls)
    echo "About $total minutes in all. The stages, with their limits in seconds and expected minutes:"
    stages | sed 's/^/  /'
}

# The executable that a cargo command says it built under a name.
built() { sed -n "s|.*Executable.* (\(.*/$1-[0-9a-f]*\))|\1|p" "$2" | tail -n 1; }

pack() {
    command -v cargo >/dev/null || fail "no cargo: pack where the repository is built"
    rm -rf "$pack"
    mkdir -p "$pack"
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    step "release binary"
    cargo build --release --bin ssmv-raw
    strip -o "$pack/ssmv-raw" target/release/ssmv-raw
    step "tests"
    cargo test --release --no-run -p ssmv-autograd --test driver 2>&1 | tee "$log" >&2
    cargo test --release --no-run -p ssmv-kernels --test kernels 2>&1 | tee -a "$log" >&2
    cargo test --release --no-run -p ssmv-raw --test kernels_optim 2>&1 | tee -a "$log" >&2
    keep driver test-driver
    keep kernels test-kernels
    keep kernels_optim test-kernels_optim
    step "benchmarks"
    cargo bench --no-run --bench kernels --bench ranks 2>&1 | tee "$log" >&2
    keep kernels bench-kernels
    keep ranks bench-ranks
    git rev-parse HEAD >"$pack/commit" 2>/dev/null || echo unknown >"$pack/commit"
    git diff --quiet HEAD 2>/dev/null || echo "$(cat "$pack/commit") with changes" >"$pack/commit"
    size=$(du -sb "$pack" | cut -f1)
    glibc=$(objdump -T "$pack"/ssmv-raw "$pack"/test-* "$pack"/bench-* | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1)
    echo "$pack: $((size >> 20)) MiB; needs ${glibc:-no GLIBC}" >&2
    [ "$size" -le "$pack_limit" ] || fail "$pack has $size bytes, more than $pack_limit"
}

# Copies the executable that cargo's log names, without its symbols.
keep() {
    path=$(built "$1" "$log")
    [ -n "$path" ] || fail "cargo does not say where $1 is"
    strip -o "$pack/$2" "$path"
}

# Chip and driver, in one line.
machine() {
    if command -v nvidia-smi >/dev/null; then
        nvidia-smi --query-gpu=name,driver_version --format=csv,noheader --id=0 | sed 's/, /, driver /'
    elif [ -n "$rehearsal" ]; then
        echo "none; emulated driver on $(uname -m), $(nproc) cores"
    else
        echo "unknown: no nvidia-smi"
    fi
}

# A stage's table: what it ran on, how it went, and the tables that its parts have written so far.
write_table() {
    {
        echo "# $1, $(date -u +'%F %H:%M UTC')"
        echo
        echo "Chip: $chip. Commit $(cat "$pack/commit"). Command: \`benches/gpu.sh run ${rehearsal:+--rehearsal }$1\`"
        echo "Status: $2."
        for part in "$out/$1"/*.part.md; do
            [ -s "$part" ] || continue
            echo
            cat "$part"
        done
    } >"$out/$1/table.md"
}

run() {
    rehearsal=${SSMV_REHEARSAL:-}
    names=()
    for word in "$@"; do
        case "$word" in
            --rehearsal) rehearsal=1 ;;
            -*) fail "run takes --rehearsal and stages, not $word" ;;
            *) found=$(expand "$word")
               read -ra more <<<"$found"
               names+=("${more[@]}") ;;
        esac
    done
    [ ${#names[@]} -gt 0 ] || fail "run which stages? benches/gpu.sh plan lists them"
    for name in ssmv-raw commit test-driver test-kernels test-kernels_optim bench-kernels bench-ranks; do
        [ -e "$pack/$name" ] || fail "$pack/$name is missing: benches/gpu.sh pack makes it, on a machine with cargo"
    done
    out=${OUT:-target/gpu-out}
    mkdir -p "$out"
    chip=$(machine) || chip="unknown: nvidia-smi fails"
    failed=0
    for stage in "${names[@]}"; do
        rm -rf "${out:?}/$stage"
        mkdir -p "$out/$stage"
        limit=$(of_stage "$stage" 2)
        # The machine of a rehearsal may be slow, or busy.
        [ -z "$rehearsal" ] || limit=$((3 * limit))
        step "$stage, at most $limit s"
        write_table "$stage" "started, not finished"
        echo "$(date -u +%T) $stage started" >>"$out/summary.txt"
        start=$SECONDS status=0
        SSMV_REHEARSAL=$rehearsal timeout --kill-after=10 "$limit" bash "$root/benches/gpu.sh" stage "$stage" "$out/$stage" \
            >"$out/$stage/log.txt" 2>&1 </dev/null &
        child=$!
        trap 'interrupted' INT TERM HUP
        wait "$child" || status=$?
        case $status in
            0) word=passed ;;
            124 | 137) word="FAILED: cut off at its limit of $limit s" ;;
            *) word="FAILED: $(grep -v '^ *$' "$out/$stage/log.txt" | tail -n 1 | cut -c1-300)" ;;
        esac
        [ "$status" = 0 ] || failed=$((failed + 1))
        write_table "$stage" "$word, after $((SECONDS - start)) s"
        echo "$(date -u +%T) $stage $word, after $((SECONDS - start)) s" | tee -a "$out/summary.txt" >&2
    done
    [ "$failed" = 0 ] || fail "$failed of ${#names[@]} stages failed: $out/summary.txt"
}

# Stops the stage that runs, keeps what it wrote, and says so.
interrupted() {
    kill "$child" 2>/dev/null || true
    write_table "$stage" "FAILED: interrupted after $((SECONDS - start)) s"
    echo "$(date -u +%T) $stage FAILED: interrupted after $((SECONDS - start)) s" >>"$out/summary.txt"
    exit 143
}

# Whether a stage has PyTorch to measure: in a rehearsal its script is only parsed, which the table says; without one that
# sees a GPU the stage fails.
with_pytorch() { # SCRIPT
    if [ -n "$rehearsal" ]; then
        "$python" -c 'import ast, sys; ast.parse(open(sys.argv[1]).read())' "$1" || fail "$1 does not parse"
        echo "Not measured: the rehearsal has no PyTorch; $1 parses." | tee "$dir/1.part.md"
        return 1
    fi
    "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' ||
        fail "$python has no PyTorch that sees a GPU: set PYTHON to one that does"
}

# A code block of a table, of what a command prints, as it prints it.
block() { # FILE COMMAND...
    part=$1
    shift
    ended=0
    # shellcheck disable=SC2016 # backquotes of the table
    { printf '`%s`\n\n```\n' "$*"; "$@" 2>&1; } | tee -a "$part" || ended=$?
    echo '```' >>"$part"
    return "$ended"
}

stage_doctor() {
    block "$dir/1.part.md" "$pack/ssmv-raw" doctor
    grep -q "the kernels run on it" "$dir/1.part.md" || fail "no GPU here that the kernels run on"
}

stage_selftest() { block "$dir/1.part.md" "$pack/ssmv-raw" selftest --device cuda ${rehearsal:+--small}; }

stage_tests() {
    status=0
    for name in driver kernels_optim; do
        SSMV_TEST_DEVICE=cuda "$pack/test-$name" || status=1
    done
    return $status
}

stage_bits() {
    bits=$dir/bits.tsv status=0
    : >"$bits"
    SSMV_TEST_DEVICE=cuda SSMV_BITS=$bits "$pack/test-kernels" || status=$?
    different=$(grep -vcE $'\t0 of [0-9]+ bytes differ$' "$bits" || true)
    echo "Of $(wc -l <"$bits") outputs, $different differ from the emulator's in some bit (bits.tsv)." | tee "$dir/1.part.md"
    [ -s "$bits" ] || fail "the tests compared nothing with the emulator"
    [ -z "$rehearsal" ] || [ "$different" = 0 ] || fail "the emulator differs from itself"
    return "$status"
}

stage_kernels() { "$pack/bench-kernels" --device cuda ${rehearsal:+--quick --filter layer_norm} --out "$dir/1.part.md"; }

stage_pytorch-kernels() {
    with_pytorch benches/peers/torch_kernels.py || return 0
    "$python" benches/peers/torch_kernels.py --out "$dir/1.part.md" --json "$dir/torch.json"
}

stage_step() {
    if [ -n "$rehearsal" ]; then size=(--preset nano --batch-size 1 --frames-in 3 --small)
    else size=(--preset base --batch-size "16,64"); fi
    block "$dir/1.part.md" "$pack/ssmv-raw" bench --device cuda "${size[@]}"
}

pytorch_step() {
    with_pytorch benches/peers/compare_gpu_step.py || return 0
    "$python" benches/peers/compare_gpu_step.py --ours "$pack/ssmv-raw" --python "$python" --presets base --batches "$1" \
        --rounds 2 --out "$dir/1.part.md"
}
stage_pytorch-step-16() { pytorch_step 16; }
stage_pytorch-step-64() { pytorch_step 64; }

stage_ranks() {
    if [ -n "$rehearsal" ]; then size=(--steps 3 --frames-in 3 --batch-size 1) last=00000003 to=(--to 65536)
    else size=(--steps 20) last=00000020 to=(); fi
    for way in graph no-graph; do
        options=()
        [ "$way" = graph ] || options=(--no-graph)
        "$pack/ssmv-raw" launch --nproc 2 -- train --preset nano --device cuda "${size[@]}" --check-ranks-every 1 \
            --out "$work/$way" "${options[@]}" 2>&1 | tee "$dir/$way.txt"
        grep 'gradients travel between GPUs by peer memory' "$dir/$way.txt" >>"$dir/1.part.md"
    done
    cmp "$work"/{graph,no-graph}/checkpoints/step-$last/model.safetensors ||
        fail "two ranks end with other bits when their steps are captured"
    echo "Two ranks end with the same bits with and without a graph." | tee -a "$dir/1.part.md"
    { printf '\nAll-reduce of two processes on one GPU: medians of 9, by the device'\''s clock.\n\n'
      "$pack/bench-ranks" --device cuda "${to[@]}"; } | tee -a "$dir/1.part.md"
}

# Ends by itself before the stage's limit: the training is interrupted, and one more step from its checkpoint ends it, with
# an evaluation and the preview.
stage_train() {
    if [ -n "$rehearsal" ]; then seconds=10 size=(--preset nano --frames-in 3 --batch-size 1 --steps 100000 --eval-sequences 4)
    else seconds=240 size=(--preset base); fi
    { while sleep 5; do cp "$work/run/metrics.jsonl" "$work/run/config.toml" "$dir/" 2>/dev/null || true; done; } &
    copying=$!
    status=0
    timeout --foreground --signal=INT --kill-after=20 "$seconds" "$pack/ssmv-raw" train --device cuda "${size[@]}" \
        --out "$work/run" 2>&1 | tee "$dir/train.txt" || status=$?
    if [ "$status" = 124 ]; then
        last=$(basename "$(find "$work/run/checkpoints" -maxdepth 1 -name 'step-*' | sort | tail -n 1)")
        [ -n "$last" ] || fail "the interrupted training left no checkpoint"
        status=0
        "$pack/ssmv-raw" train --device cuda --resume "$work/run" --steps $((10#${last#step-} + 1)) 2>&1 |
            tee -a "$dir/train.txt" || status=$?
    fi
    kill "$copying"
    # shellcheck disable=SC2016 # backquotes of the table
    { echo '```'; cat "$dir/train.txt"; echo '```'; } >"$dir/1.part.md"
    for name in metrics.jsonl config.toml preview.gif; do cp "$work/run/$name" "$dir/"; done
    return "$status"
}

# One stage, by itself: what `run` puts a time limit on.
stage() {
    dir=$2 rehearsal=${SSMV_REHEARSAL:-} python=${PYTHON:-python3}
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    # What the emulated driver has against a call fails a rehearsal; the driver's tests break rules on purpose.
    if [ -n "$rehearsal" ] && [ "$1" != tests ]; then export SSMV_CUDA_LOG=$dir/driver.txt; fi
    "stage_$1"
    [ ! -s "$dir/driver.txt" ] || fail "the driver's rules were broken: $(head -n 1 "$dir/driver.txt")"
}

case "${1:-}" in
    pack) [ $# = 1 ] || fail "pack takes no options"; pack ;;
    plan) [ $# = 1 ] || fail "plan takes no options"; plan ;;
    run) shift; run "$@" ;;
    stage) shift; stage "$@" ;;
    *) sed -n '2,16s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
