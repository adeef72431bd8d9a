#!/usr/bin/env bash
# Stage 1 on a Slurm cluster: an array of tasks, each with a GPU, that fill one store on a shared disk together.
#
#   DATA=data/affwild2.toml STORE=/shared/affwild2.zarr sbatch --array=1-8 extract/slurm.sh [OPTIONS OF EXTRACT]
#
# RECIPE is the paper's by default. Task i of n makes every n-th video. A task that was killed, or ran out of time, is
# submitted again as it was: it goes on. Afterwards one plain `vaprompt extract` finds nothing to do, or does the rest.

#SBATCH --job-name=vaprompt-extract
#SBATCH --array=1-8
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=24:00:00
#SBATCH --requeue

set -euo pipefail

: "${DATA:?set DATA to the folder of the data set, or its description from data/}"
: "${STORE:?set STORE to the store on a disk that all tasks share}"

# An array that does not begin at 1, or has gaps, would leave videos out.
first=${SLURM_ARRAY_TASK_MIN:-1} last=${SLURM_ARRAY_TASK_MAX:-1} count=${SLURM_ARRAY_TASK_COUNT:-1}
if [ "$first" -ne 1 ] || [ "$last" -ne "$count" ]; then
    echo "slurm.sh: the array runs from $first to $last with $count tasks; submit it with --array=1-$count" >&2
    exit 2
fi

exec vaprompt extract "$DATA" "${RECIPE:-extract/paper.toml}" --store "$STORE" \
    --shard "${SLURM_ARRAY_TASK_ID:-1}/$count" "$@"
