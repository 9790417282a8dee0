#!/usr/bin/env bash
# What only a GPU can tell: runs with the share of time that they wait for samples, a kill and a
# resume, a step and a prediction beside their baselines, tests. What users need most comes first.
#
#   OUT=gpu-figures bash experiments/gpu.sh       one line and the seconds of each part as it ends;
#                                                 figures as JSON, logs beside them, in OUT
#   QUICK=1 …                                     its first six parts, in at most 400 s; all take 630
#   DEVICE=cpu SMALL=1 bash experiments/gpu.sh    a rehearsal without a GPU
#
# It needs no network and no installation: the package is taken from src. A bare machine with torch,
# triton, timm, scikit-learn, scipy, rich, matplotlib and tensorboard lacks, as wheels of PyPI:
#   eventcv h5py safetensors jinja2 pyyaml joblib nir nirtorch onnx onnxruntime
#   spikingjelly pytest hypothesis sortedcontainers
# Photos of Caltech101 are taken from $SPIKEBRIDGE_DATA/caltech101 (DIR/CLASS/*.jpg; 25 classes of 80
# are 16 MB); without them the runs take the embedded digits, and say so.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${OUT:-gpu-figures}") device=${DEVICE:-cuda} small=${SMALL:-}
mkdir -p "$out"
export PYTHONPATH=$PWD/src PYTHONUNBUFFERED=1 SPIKEBRIDGE_GPU=1
[ "$device" = cpu ] && export SPIKEBRIDGE_GPU=pretend
failed=0

part() { # NAME LIMIT COMMAND…: what it printed goes to NAME.log, its last line here.
    local name=$1 limit=$(($2 * stretch)) began=$SECONDS code=0
    shift 2
    timeout --signal INT --kill-after 10 "$limit" "$@" >"$out/$name.log" 2>&1 || code=$?
    printf '%-20s %4d s  %s\n' "$name" $((SECONDS - began)) \
        "$([ $code = 0 ] || echo "FAILED ($code): ")$(grep -v '^ *$' "$out/$name.log" | tail -n 1)"
    [ $code = 0 ] || failed=1
}

bench() { # NAME LIMIT training|inference OPTION…
    local name=$1 limit=$2
    shift 2
    part "$name" "$limit" python -m benchmarks "$@" --device "$device" --json "$out/$name.json"
    [ ! -f "$out/$name.json" ] || python - "$out/$name.json" <<'PYTHON'
import json, sys

found = json.load(open(sys.argv[1]))
rows = {name: row.get("ms_warm", row.get("ms_p50")) for name, row in found["rows"].items()}
print("   ", ", ".join(f"{name} {ms:.2f} ms" for name, ms in rows.items()))
print("   ", ", ".join(f"{name} {ratio:.2f}" for name, ratio in found["ratios"].items()))
PYTHON
}

network=() narrow_network=(--width 0.25 --size 32 --time-steps 4)
full=(--batch 120) narrow=("${narrow_network[@]}" --batch 20 --classes 25) few=(--repeats 6)
calls=200 fast=bfloat16 stretch=1 rows=reference,spikingjelly,ours,relu-bound
if [ -n "$small" ]; then
    fast=float32 rows=reference,ours # A CPU may take minutes for the others.
    stretch=6                        # No limit tells anything about a GPU here.
    network=(--width 0.1 --size 16 --time-steps 2) narrow_network=("${network[@]}")
    full=("${network[@]}" --batch 4) narrow=("${full[@]}") few=(--repeats 2) calls=100
fi

part machine 20 python experiments/gpu_runs.py machine "$out" "$device"
part wait-narrow 60 python experiments/gpu_runs.py wait "$out" "$device" narrow ${small:+small}
part resume 60 python experiments/gpu_runs.py resume "$out" "$device"
bench step-$fast 90 training "${full[@]}" "${few[@]}" --precision $fast --rows reference,ours
bench inference 40 inference "${network[@]}" --repeats $calls
part tests "${TESTS_LIMIT:-130}" python -m pytest tests/gpu -m gpu -q -p no:cacheprovider ${small:+-k sent_each_time}
if [ -z "${QUICK:-}" ]; then
    part wait-full 60 python experiments/gpu_runs.py wait "$out" "$device" full ${small:+small}
    bench narrow-$fast 40 training "${narrow[@]}" --precision $fast --rows ${rows%,relu-bound}
    [ $fast = float32 ] || bench step-float32 45 training "${full[@]}" "${few[@]}" --precision float32 --rows reference,ours
    bench inference-narrow 25 inference "${narrow_network[@]}" --repeats $calls
    [ $fast = float32 ] || bench baselines-$fast 60 training "${full[@]}" "${few[@]}" --precision $fast --rows $rows
fi
echo "in all $SECONDS s; figures and logs in $out"
exit $failed
