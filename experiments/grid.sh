#!/usr/bin/env bash
# Trains methods × seeds of one recipe at one label budget; finished runs are kept, interrupted ones
# go on. Ends with the table.
#
# Usage: experiments/grid.sh RECIPE OUT "METHODS" "SEEDS" [OVERRIDE…]
#   JOBS=2 runs two at a time, one thread each. SPLIT=validation makes the table for choosing
#   settings.
set -euo pipefail
recipe=$1 out=$2 methods=$3 seeds=$4
shift 4

run() {
    local folder=$1
    shift
    local resume=()
    if [ -e "$folder/checkpoint.pt" ] && [ ! -e "$folder/result.json" ]; then
        resume=(--resume)
    fi
    spikebridge "$@" --out "$folder" "${resume[@]}"
}
export -f run
[ "${JOBS:-1}" = 1 ] || export OMP_NUM_THREADS=1
# glibc hands large blocks back to the kernel after each use; keeping them saves about 8 % of time.
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592

for seed in $seeds; do
    printf '%s\0' "$out/teacher-seed$seed teacher $recipe --seed $seed $*"
done | xargs -0 -P "${JOBS:-1}" -I{} bash -c 'set -f; run {}'
for seed in $seeds; do
    for method in $methods; do
        printf '%s\0' "$out/$method-seed$seed train $recipe --method $method --seed $seed $*"
    done
done | xargs -0 -P "${JOBS:-1}" -I{} bash -c 'set -f; run {}'
spikebridge compare "$out"/*-seed* --split "${SPLIT:-test}" --out "$out/table.md"
