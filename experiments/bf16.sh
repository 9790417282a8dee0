#!/usr/bin/env bash
# bfloat16 beside float32: validation accuracy of the digits recipe over seeds, and the paired
# difference with its 95 % interval. EPOCHS=4 SEEDS="0 1 2 3 4" OUT=runs/bf16 bash experiments/bf16.sh
set -euo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-runs/bf16} epochs=${EPOCHS:-16}
for seed in ${SEEDS:-0 1 2 3 4}; do
    for precision in float32 bfloat16; do
        folder=$out/$precision-seed$seed
        [ -f "$folder/result.json" ] || spikebridge train digits --out "$folder" --seed "$seed" \
            --teacher_run "$out/teacher-$precision-seed$seed" --train.epochs "$epochs" \
            --train.precision "$precision"
    done
done
python - "$out" <<'PYTHON'
import json, statistics, sys
from pathlib import Path

from scipy.stats import t

top1 = {}
for precision in ("float32", "bfloat16"):
    folders = sorted(Path(sys.argv[1]).glob(f"{precision}-seed*"))
    results = [json.loads((folder / "result.json").read_text()) for folder in folders]
    top1[precision] = [result["val_top1"] for result in results]
    print(precision, *(f"{value:.1f}" for value in top1[precision]))
gaps = [b - a for a, b in zip(top1["float32"], top1["bfloat16"], strict=True)]
half = t.ppf(0.975, len(gaps) - 1) * statistics.stdev(gaps) / len(gaps) ** 0.5
print(f"bfloat16 - float32: {statistics.mean(gaps):+.1f} ± {half:.1f} points")
PYTHON
