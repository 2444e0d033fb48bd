#!/usr/bin/env bash
# Trains on several nodes under Slurm, one task a GPU:
#
#     sbatch --nodes 4 deploy/slurm.sh --preset base --out runs/base-4
#
# The arguments are those of `ssmv-raw train`; --out has to name a folder that all nodes share. Two minutes before the time
# limit every rank gets SIGTERM, saves and ends with 143; the job then queues itself again and goes on from its checkpoint.
# After a node failure or a preemption Slurm does that by itself.
#SBATCH --job-name=ssmv-raw
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

fail() {
    echo "error: $1" >&2
    exit 2
}

out=
arguments=("$@")
for ((at = 0; at < $#; at++)); do
    case ${arguments[at]} in
    --out) out=${arguments[at + 1]:-} ;;
    --out=*) out=${arguments[at]#--out=} ;;
    --resume | --resume=*) fail "--resume is added here, where the run folder has a checkpoint" ;;
    esac
done
out=${out%/}
[ -n "$out" ] || fail "--out is needed: a folder that all nodes share"

# Finished, or finished and moved aside for its successor.
if compgen -G "$out/checkpoints/step-*" >/dev/null || compgen -G "$out/checkpoints/.step-*.old-*" >/dev/null; then
    arguments+=(--resume)
elif [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] && [ -e "$out" ]; then
    # Ended before its first checkpoint: the program refuses such a folder.
    mv "$out" "$out.unfinished-$SLURM_RESTART_COUNT"
fi

# Made once a start; srun hands the environment to every task, and no command line shows it.
SSMV_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
read -r MASTER_ADDR < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
SSMV_PORT=$((20000 + SLURM_JOB_ID % 20000))
export SSMV_TOKEN MASTER_ADDR SSMV_PORT

code=0
# Ranks notice by themselves that one failed; a signal of Slurm's would come to one that is saving, as its second.
srun --kill-on-bad-exit=0 ssmv-raw train "${arguments[@]}" || code=$?

# 143 near the time limit is its signal. Anything else, a failure or a user's scancel, must not come back.
if [ "$code" -eq 143 ]; then
    limit=$(squeue --noheader --jobs "$SLURM_JOB_ID" --Format EndTime:30) || limit=
    # A job without a limit has no date there; and no text at all would be today's.
    limit=$([ -n "$limit" ] && date --date "$limit" +%s 2>/dev/null) || limit=
    if [ -n "$limit" ] && [ $((limit - $(date +%s))) -lt 300 ]; then
        scontrol requeue "$SLURM_JOB_ID"
    fi
fi
exit "$code"
