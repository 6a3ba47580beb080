#!/bin/sh
# A folder of images by an array of Slurm tasks, each of which takes its share:
#
#     sbatch --array=1-8 examples/slurm.sh NIGHT CLEAN [option of bgrem ...]
#
# Give it again, the same, when a task was killed or ran out of time: what is done is not done again.
# The list of images must be the same for all tasks, so let no image arrive in the meantime.
#SBATCH --job-name=bgrem
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=04:00:00

set -eu
night=$1
clean=$2
shift 2
mkdir -p "$clean"
exec bgrem -f "$night" --output-dir "$clean" \
    --workers "${SLURM_CPUS_PER_TASK:-1}" \
    --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" \
    --log "$clean/results-$SLURM_ARRAY_TASK_ID.jsonl" "$@"
