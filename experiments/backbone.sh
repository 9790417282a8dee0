#!/usr/bin/env bash
# The backbone that ships, photos-v1: taught on Caltech101 (CC BY 4.0) without Faces, then exported.
# Usage: experiments/backbone.sh OUT [--SETTING VALUE …]
# $SPIKEBRIDGE_DATA/caltech101-full holds CLASS/image_NNNN.jpg. Repeat it to go on where it stopped.
set -euo pipefail
out=$1
shift
data=${SPIKEBRIDGE_DATA:-../shared/data}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}

# Google's background is of no class; its photos would teach the network a class of anything.
spikebridge backbone --photos "$data/caltech101-full" --exclude Faces BACKGROUND_Google \
    --out "$out" --backbone.sets '["Caltech101"]' --train.epochs 20 "$@" \
    $([ -e "$out/checkpoint.pt" ] && echo --resume)
python experiments/ship_backbone.py "$out" --name photos-v1 \
    --command "experiments/backbone.sh OUT $*" \
    --licence "CC BY 4.0 (Caltech101: Li, Andreeto, Ranzato, Perona 2022, doi:10.22002/D1.20086)"
