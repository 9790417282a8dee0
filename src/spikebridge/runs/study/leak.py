"""What a leak is worth, and what selecting on test adds: from runs that were let see what tests."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from spikebridge.base.errors import UserError
from spikebridge.results.compare import interval_95
from spikebridge.results.tables import Table, csv_text, signed, with_interval
from spikebridge.run_folder import RunFolder
from spikebridge.runs.study.table import Outcome

_SWEEPS = 500
"""Most alternations of `_within`; runs with the same recordings need one."""


@dataclass(frozen=True)
class LeakRun:
    """One student's test recordings, and its curve on test where it was recorded."""

    seed: int
    right_by_file: dict[str, tuple[bool, bool]]
    """Whether each test recording's own photo was a source, and whether it was classified rightly;
    empty where protocol `leaked` was not the run's."""
    selecting_adds: float
    """Test top-1 of the epoch that is best on test minus that of the selected one, in points; NaN
    where test was not read during training."""

    def top1(self, leaked: bool) -> float:
        """Accuracy in percent on the leaked recordings, or on the others; NaN where none is."""
        right = [r for is_leaked, r in self.right_by_file.values() if is_leaked == leaked]
        return 100 * float(np.mean(right)) if right else math.nan

    @property
    def difference(self) -> float:
        """Leaked minus other recordings of this run, in points."""
        return self.top1(True) - self.top1(False)


@dataclass(frozen=True)
class LeakRow:
    """The runs of one arm."""

    recipe: str
    labelled: str
    arm: str
    runs: tuple[LeakRun, ...]


def read_leaks(outcomes: Sequence[Outcome]) -> list[LeakRow]:
    """Read the finished students of protocol `leaked` or with `train.read_test`, by arm.

    Runs without readable predictions are left out.

    Args:
        outcomes: The runs.
    """
    groups: dict[tuple[str, str, str], list[LeakRun]] = {}
    for one in outcomes:
        planned, result = one.planned, one.result
        if planned.job.kind == "student" and result:
            with suppress(UserError):
                run = _read(RunFolder(planned.job.folder), planned.seed)
                if run.right_by_file or not math.isnan(run.selecting_adds):
                    place = (planned.recipe, planned.labelled, planned.arm)
                    groups.setdefault(place, []).append(run)
    return [LeakRow(*place, tuple(runs)) for place, runs in groups.items()]


def _read(run: RunFolder, seed: int) -> LeakRun:
    result, right_by_file, adds = run.result(), {}, math.nan
    if result["protocol"] == "leaked":
        leaked = {e.file for e in run.manifest().leaked_recordings}
        said = run.predictions(len(result["classes"]))
        right_by_file = {one.file: (one.file in leaked, one.right) for one in said}
    if curve := run.metrics("test") if result.get("test_read") else []:
        adds = max(record["top1"] for record in curve) - result["test_top1"]
    return LeakRun(seed, right_by_file, adds)


def leak_effect(runs: Sequence[Mapping[str, tuple[bool, bool]]]) -> tuple[float, float]:
    """What its own photo among the sources does for a test recording, in points.

    Least squares with an effect of each recording and of each run, so that neither hard recordings
    nor lucky runs count: where halves change places from run to run, the mean of leaked minus other
    recordings of the same run. Errors are clustered by recording and by run (Cameron, Gelbach &
    Miller, JBES 2011), and not taken to be smaller than by either alone.

    Args:
        runs: For each, by recording: whether it was leaked, and whether it was classified rightly.

    Returns:
        The effect, and half of its 95 % interval by Student's t with one degree of freedom less
        than there are runs. Where no recording was leaked in one run and not in another, the plain
        difference and NaN.
    """
    files = {file: row for row, file in enumerate(dict.fromkeys(f for run in runs for f in run))}
    cells = [(files[f], s, *cell) for s, run in enumerate(runs) for f, cell in run.items()]
    recording_N, run_N, leaked_N, right_N = (
        np.array(values) for values in zip(*cells, strict=True)
    )
    places = (recording_N, run_N)
    leaked_N, right_N = leaked_N.astype(float), 100.0 * right_N
    own_N = _within(leaked_N, places)
    if (total := float(own_N @ own_N)) < 1e-6:
        return float(right_N[leaked_N > 0].mean() - right_N[leaked_N == 0].mean()), math.nan
    effect = float(own_N @ right_N) / total
    score_N = own_N * _within(right_N - effect * leaked_N, places)
    by_recording, by_run = (_clustered(score_N, place_N) for place_N in places)
    alone = float(score_N @ score_N)
    variance = max(by_recording + by_run - alone, by_recording, by_run) / total**2
    return effect, float(stdtrit(len(runs) - 1, 0.975) * math.sqrt(variance))


def _within(value_N: np.ndarray, places: Sequence[np.ndarray]) -> np.ndarray:
    """Values less the effects of recording and run."""
    for _ in range(_SWEEPS):
        before_N = value_N
        for place_N in places:
            mean = np.bincount(place_N, value_N) / np.bincount(place_N)
            value_N = value_N - mean[place_N]
        if np.abs(value_N - before_N).max() < 1e-10:
            break
    return value_N


def _clustered(score_N: np.ndarray, place_N: np.ndarray) -> float:
    """Sum of squares of the clusters' sums, corrected for few clusters."""
    sums = np.bincount(place_N, score_N)
    return float(sums @ sums) * len(sums) / (len(sums) - 1)


def leak_table(rows: Sequence[LeakRow]) -> Table:
    """The arms as a table of text."""
    head = ["data", "labelled per class", "arm", "seeds", "leaked, %", "others, %",
            "leaked − others", "each seed", "selecting on test adds"]  # fmt: skip
    cells = []
    for row in rows:
        leaks = [run for run in row.runs if run.right_by_file]
        told = ["–", "–", "–", "–"]
        if leaks:
            effect, interval = leak_effect([run.right_by_file for run in leaks])
            means = [np.mean([run.top1(leaked) for run in leaks]) for leaked in (True, False)]
            each = " ".join(signed(run.difference) for run in leaks)
            told = [*(f"{m:.1f}" for m in means), with_interval(signed(effect), interval), each]
        adds = [r.selecting_adds for r in row.runs if not math.isnan(r.selecting_adds)]
        added = with_interval(signed(float(np.mean(adds))), interval_95(adds)) if adds else "–"
        cells.append([row.recipe, row.labelled, row.arm, str(len(row.runs)), *told, added])
    notes = [
        "Leaked: test recordings whose own photo was among the sources, beside the others of the "
        "same run; ± half a 95 % interval, errors clustered by recording and by run.",
        "Selecting on test adds: test accuracy of the epoch that is best on test minus that of the "
        "epoch that validation chose, on the same curve; ± half a 95 % interval over seeds.",
    ]
    return Table(head, [place >= 3 for place in range(len(head))], cells, notes)


def leak_csv(rows: Sequence[LeakRow]) -> str:
    """A row for each run, as CSV."""
    head = ["data", "labelled_per_class", "arm", "seed", "leaked", "leaked_top1", "others",
            "others_top1", "leaked_minus_others", "selecting_on_test_adds"]  # fmt: skip
    lines = []
    for row in rows:
        for run in row.runs:
            leaked = sum(is_leaked for is_leaked, _ in run.right_by_file.values())
            others = len(run.right_by_file) - leaked
            figures = [leaked, run.top1(True), others, run.top1(False), run.difference,
                       run.selecting_adds]  # fmt: skip
            told = ["" if math.isnan(value) else f"{value:.6g}" for value in figures]
            lines.append([row.recipe, row.labelled, row.arm, run.seed, *told])
    return csv_text([head, *lines])
