#!/usr/bin/env bash
# The whole road in N-Caltech101's own layout and format, on a simulated twin of a folder of photos.
# Usage: experiments/twin.sh PHOTOS OUT "METHODS" "SEEDS" [--SETTING VALUE …]
# Makes OUT/recordings and OUT/runs; repeat it to go on where it stopped.
set -euo pipefail
photos=$1 out=$2 methods=$3 seeds=$4
shift 4
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
data=(--data.events "$out/recordings" --data.photos "$photos")

spikebridge simulate --photos "$photos" --out "$out/recordings" \
    --format bin --motion saccade --sensor 240x180
spikebridge data check ncaltech101 --events "$out/recordings" --photos "$photos" | tail -1
spikebridge prepare ncaltech101 "${data[@]}" "$@"
for seed in $seeds; do
    for method in $methods; do
        run=$out/runs/$method-seed$seed
        spikebridge train ncaltech101 --method "$method" --seed "$seed" --out "$run" \
            "${data[@]}" "$@" $([ -e "$run/checkpoint.pt" ] && echo --resume)
        spikebridge audit "$run" | tail -1
    done
done
spikebridge compare "$out"/runs/* --out "$out/table.md"
