"""Finished runs as the report needs them: result, settings and training curves."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from spikebridge.data.collection import file_from
from spikebridge.data.manifest import LAST_EPOCH, Manifest
from spikebridge.run_folder import Prediction, RunFolder
from spikebridge.settings.config import Config
from spikebridge.settings.parsing import config_from

_RESULT_KEYS = ("method", "seed", "labelled_per_class", "protocol", "data", "classes",
                "best_epoch", "val_top1", "test_top1", "seconds", "parameters",
                "manifest_sha256")  # fmt: skip
_BINS = 50


@dataclass(frozen=True)
class Run:
    """One finished run."""

    folder: Path
    result: dict[str, Any]
    """What ``result.json`` holds."""
    config: Config
    steps: list[dict[str, Any]]
    """Records of the training steps."""
    evaluations: list[dict[str, Any]]
    """Records of the evaluations on validation."""
    group: str = ""
    """Its row's name in the table; empty where it is in none."""

    @property
    def name(self) -> str:
        """The method, and what tells its settings from those of others of the method."""
        return self.group or self.method

    @property
    def method(self) -> str:
        """Method preset, or `teacher`."""
        return self.result["method"]

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.result["seed"]

    @cached_property
    def manifest(self) -> Manifest:
        """The split."""
        manifest = RunFolder(self.folder).manifest()
        return replace(manifest, entries=tuple(map(self._from_here, manifest.entries)))

    def _from_here(self, one: Any) -> Any:
        """A line of a table, its file as it is found from here."""
        return replace(one, file=file_from(self.result.get("origin"), one.file))

    @property
    def classes(self) -> list[str]:
        """Names of the classes, by index."""
        return self.result["classes"]

    @cached_property
    def predictions(self) -> list[Prediction]:
        """What it said of the test recordings, or photos for a teacher.

        Raises:
            UserError: predictions.csv is missing or damaged.
        """
        said = RunFolder(self.folder).predictions(len(self.classes))
        return [self._from_here(one) for one in said]

    @cached_property
    def config_text(self) -> str:
        """``config.yaml`` as it was written."""
        return RunFolder(self.folder).config_file.read_text(encoding="utf-8")


def read_run(folder: Path) -> Run:
    """Read a finished run.

    Raises:
        UserError: no finished run there, or a file of it is missing or damaged.
    """
    run = RunFolder(folder)
    run.require_network()
    result = run.result(_RESULT_KEYS)
    config = config_from(run.settings(), str(run.config_file))
    evaluations = [one for one in run.metrics("eval") if one["split"] != LAST_EPOCH]
    return Run(folder, result, config, run.metrics("step"), evaluations)


def binned(
    runs: Sequence[Run], pick: Callable[[dict[str, Any]], Any]
) -> tuple[np.ndarray, np.ndarray]:
    """A logged value over progress, averaged over the steps of each of up to 50 bins.

    Args:
        runs: Runs of one method.
        pick: The value, or list of values, in a step's record; None where there is none.

    Returns:
        Progress u_K at the bins' centres, and value_RK… of each run, NaN in bins in which the run
        logged no finite value. Both are empty where no run logged any.
    """
    count = max(1, min(_BINS, min(len(run.steps) for run in runs) // 2))
    value_RK: list[list[Any]] = []
    for run in runs:
        bins: list[list[Any]] = [[] for _ in range(count)]
        for step in run.steps:
            # A value that was not finite is null in the file, or a list with nulls.
            value = np.array(pick(step), float)
            if np.isfinite(value).all():
                bins[min(int(step["progress"] * count), count - 1)].append(value)
        value_RK.append([np.mean(values, axis=0) if values else None for values in bins])
    some = next((value for value_K in value_RK for value in value_K if value is not None), None)
    if some is None:
        return np.empty(0), np.empty((len(runs), 0))
    nothing = np.full_like(some, np.nan)
    filled = [[nothing if value is None else value for value in value_K] for value_K in value_RK]
    return (np.arange(count) + 0.5) / count, np.array(filled)


def validation_curve(
    evaluations: Sequence[Sequence[dict[str, Any]]],
) -> tuple[np.ndarray, np.ndarray]:
    """Progress u_E after the epochs that every run evaluated, and top1_RE in percent."""
    curves = [{e["epoch"]: e for e in of_run} for of_run in evaluations]
    epochs = sorted(set.intersection(*(set(curve) for curve in curves)))
    u_E = np.array([curves[0][epoch]["progress"] for epoch in epochs])
    return u_E, np.array([[curve[epoch]["top1"] for epoch in epochs] for curve in curves])


def mean_rates(runs: Sequence[Run]) -> dict[str, float]:
    """Mean spikes per neuron and time step, by layer, averaged over runs; empty for a teacher."""
    layers = runs[0].result.get("rates", {})
    return {name: math.fsum(r.result["rates"][name] for r in runs) / len(runs) for name in layers}
