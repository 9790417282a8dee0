"""A whole training run by ours and by a plain loop: where what is known already saves time.

Both train on the same batches for the same number of steps from the same weights, with the same
untrained teacher. The plain way runs the network of `reference` on both streams in turn, asks the
teacher in every step whatever its weight, and reads each recording of a batch from a file of dense
float32 frames.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.measure import row_environment, table
from benchmarks.reference import TAU, THRESHOLD
from benchmarks.run_rows import PARTS
from spikebridge.base.console import each
from spikebridge.base.errors import UserError
from spikebridge.ckd.settings import ObjectiveConfig
from spikebridge.data.collection import cache_folder
from spikebridge.data.prepared import prepare
from spikebridge.settings.config import Config

ROWS = ("reference", "ours")

_ROUNDS = 2
_RUN = """
import json, sys
from benchmarks.run_rows import cold_and_warm
print(json.dumps(cold_and_warm(*sys.argv[1:])))
"""


@dataclass(frozen=True)
class RunBench:
    """Seconds of whole runs."""

    config: Config
    steps: int
    """Training steps of a run."""
    cold: dict[str, dict[str, float]]
    """By row and part, the first run in a process with empty caches of compilers; `build` is what
    our kernels took of it."""
    warm: dict[str, dict[str, float]]
    """By row and part, the quickest later run."""

    @property
    def ratios(self) -> dict[str, float]:
        """The plain loop's time over ours, by part."""
        plain, fast = self.warm["reference"], self.warm["ours"]
        return {part: plain[part] / fast[part] for part in (*PARTS, "whole") if fast[part]}

    @property
    def saved(self) -> dict[str, float]:
        """By part, its share of the plain run's time that ours saves."""
        plain, fast = self.warm["reference"], self.warm["ours"]
        return {part: (plain[part] - fast[part]) / plain["whole"] for part in PARTS}

    def as_json(self) -> dict[str, Any]:
        """For a JSON file."""
        return {
            "rows": {
                row: {"s_cold": self.cold[row], "s_warm": self.warm[row]} for row in self.warm
            },
            "ratios": self.ratios,
            "saved": self.saved,
            "steps": self.steps,
            "settings": asdict(self.config),
        }


def bench_run(config: Config) -> RunBench:
    """Time whole runs of method ckd, each row in processes of its own, which take turns.

    Args:
        config: A recipe; its data are prepared first, which is no part of the time.

    Raises:
        UserError: another method or other neurons than `reference` knows, or a process failed.
    """
    _require_plain(config)
    config = replace(config, data=replace(config.data, cache=str(cache_folder(config.data))))
    data = prepare(config.data, config.seed)
    with tempfile.TemporaryDirectory() as folder:
        scratch, device = Path(folder), config.train.device
        (scratch / "config.json").write_text(json.dumps(asdict(config)))
        turns = [row for r in range(_ROUNDS) for row in (ROWS if r % 2 == 0 else ROWS[::-1])]
        found = each(lambda row: (row, _in_a_process(row, scratch, device)), turns, "running")
    cold = {row: [runs[0] for name, runs in found if name == row] for row in ROWS}
    warm = {row: [run for name, runs in found if name == row for run in runs[1:]] for row in ROWS}

    def quickest(runs: list[dict[str, float]]) -> dict[str, float]:
        return min(runs, key=lambda run: run["whole"])

    train = config.train
    per_epoch = train.batches_per_epoch or -(-len(data.events["train"].label_N) // train.batch_size)
    return RunBench(
        config,
        train.epochs * per_epoch,
        {row: quickest(cold[row]) for row in ROWS},
        {row: quickest(warm[row]) for row in ROWS},
    )


def _in_a_process(row: str, scratch: Path, device: str) -> list[dict[str, float]]:
    """`cold_and_warm` with empty caches of compilers; that of data stays."""
    with tempfile.TemporaryDirectory() as caches:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _RUN, row, str(scratch)],
            capture_output=True,
            text=True,
            env=row_environment(caches, device),
        )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it was killed"]
        raise UserError(f"bench run: the process of {row!r} failed ({lines[-1]})")
    return json.loads(done.stdout.splitlines()[-1])


def _require_plain(config: Config) -> None:
    known = ObjectiveConfig(
        tet_regularisation=config.objective.tet_regularisation,
        kd_weight=config.objective.kd_weight,
        kd_temperature=config.objective.kd_temperature,
        alignment_weight=config.objective.alignment_weight,
        replacement=config.objective.replacement,
        distillation=config.objective.distillation,
    )
    student = config.student
    if (
        config.objective != known
        or (student.tau, student.threshold, student.surrogate) != (TAU, THRESHOLD, "qgate")
        or student.neuron != "lif"
    ):
        raise UserError(
            "bench run: the plain loop knows method ckd with KT's neuron alone; leave out the "
            "settings of objective and student.neuron, tau, threshold and surrogate"
        )


def describe(found: RunBench) -> str:
    """The figures as Markdown tables."""
    plain, fast = found.warm["reference"], found.warm["ours"]
    lines = []
    for part in (*PARTS, "whole"):
        ratio = f"{found.ratios[part]:.2f}" if part in found.ratios else ""
        saved = found.saved.get(part, 1 - fast["whole"] / plain["whole"])
        lines.append([part, f"{plain[part]:.2f}", f"{fast[part]:.2f}", ratio, f"{saved:.1%}"])
    head = ["part", "reference, s", "ours, s", "ratio", "saved of the whole"]
    cold = ([row, f"{s['whole']:.2f}", f"{s['build']:.1f}"] for row, s in found.cold.items())
    cold_head = ["first run, cold", "s", "of it C kernels built, s"]
    return "\n".join([f"{found.steps} steps\n", table(head, lines), table(cold_head, cold)])
