"""Runs side by side: mean and 95 % interval over seeds."""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from spikebridge.data.manifest import SELECTED_ON_TEST
from spikebridge.errors import UserError
from spikebridge.files import write_json, write_text
from spikebridge.recipes import method_names

ORDER = ("teacher", "scratch", "scratch+tet", "ann-on-frames", "pretrain-finetune", "sim-only",
         "sim-pretrain", "kt", "tmkt", "naive-kd", "kd-no-replacement", "kd-no-alignment", "ckd",
         "ckd-plus")  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One method on one data set and label budget."""

    data: str
    protocol: str
    """`clean`, `few-shot` or `kt`, which selects on test."""
    method: str
    labelled_per_class: int | None
    """None where all recordings are labelled, or for a teacher, which sees photos."""
    seeds: tuple[int, ...]
    top1: tuple[float, ...]
    """Top-1 of each seed, in percent."""
    seconds: float
    """Mean duration of training."""

    @property
    def mean(self) -> float:
        """Mean over seeds, in percent."""
        return float(np.mean(self.top1))

    @property
    def interval(self) -> float:
        """Half-width of the 95 % interval of the mean (Student's t); NaN for one seed."""
        return interval_95(self.top1)

    @property
    def text(self) -> str:
        """Mean ± interval."""
        return f"{self.mean:.1f}" + ("" if math.isnan(self.interval) else f" ± {self.interval:.1f}")


def interval_95(values: Sequence[float]) -> float:
    """Half-width of the 95 % interval of a mean by Student's t; NaN for one value."""
    if len(values) < 2:
        return math.nan
    return float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def read_result(run: Path) -> dict[str, Any]:
    """What a finished run's ``result.json`` holds.

    Raises:
        UserError: no finished run there.
    """
    try:
        result = json.loads((run / "result.json").read_text(encoding="utf-8"))
        if not isinstance(result, dict):
            raise ValueError("not an object")
        return result
    except FileNotFoundError as error:
        raise UserError(f"{run}: no finished run; train it first") from error
    except ValueError as error:
        raise UserError(f"{run}/result.json: damaged; train the run again") from error


def compare(runs: Sequence[Path], split: str = "test") -> list[Row]:
    """Group runs by data, label budget and method; order as in METHOD.md.

    Args:
        runs: Folders of finished runs.
        split: "test", or "validation" for choosing settings, which must not look at the test.

    Raises:
        UserError: a folder is no finished run, or a seed occurs twice in a group.
    """
    groups: dict[tuple, list[tuple[Path, dict[str, Any]]]] = defaultdict(list)
    for run in runs:
        result = read_result(run)
        kind = tuple(result[k] for k in ("data", "protocol", "labelled_per_class", "method"))
        groups[kind].append((run, result))
    rows = []
    for (data, protocol, labelled, method), members in groups.items():
        members.sort(key=lambda member: member[1]["seed"])
        seeds = [result["seed"] for _, result in members]
        for index in range(1, len(seeds)):
            if seeds[index] == seeds[index - 1]:
                raise UserError(
                    f"{members[index - 1][0]} and {members[index][0]}: two runs of {method} with "
                    f"seed {seeds[index]}; compare them in two calls"
                )
        key = "val_top1" if split == "validation" else "test_top1"
        top1 = tuple(result[key] for _, result in members)
        seconds = float(np.mean([result["seconds"] for _, result in members]))
        rows.append(Row(data, protocol, method, labelled, tuple(seeds), top1, seconds))
    return sorted(rows, key=_place)


def _place(row: Row) -> tuple:
    known = (*ORDER, *(m for m in method_names() if m not in ORDER))
    place = known.index(row.method) if row.method in known else len(known)
    labelled = math.inf if row.labelled_per_class is None else row.labelled_per_class
    return row.data, row.protocol, labelled, place


def markdown(rows: Sequence[Row], split: str = "test") -> str:
    """The table in Markdown."""
    lines = [
        "| data | protocol | labelled per class | method "
        f"| {split} top-1, % | seeds | training, s |",
        "| --- | --- | ---: | --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        labelled = "all" if row.labelled_per_class is None else row.labelled_per_class
        protocol = SELECTED_ON_TEST if row.protocol == "kt" else row.protocol
        lines.append(
            f"| {row.data} | {protocol} | {labelled} | {row.method} | {row.text} "
            f"| {len(row.seeds)} | {row.seconds:.0f} |"
        )
    return "\n".join(lines) + "\n"


def write_table(rows: Sequence[Row], path: Path, split: str = "test") -> None:
    """Write as Markdown, CSV or JSON, by the file's suffix.

    Raises:
        UserError: another suffix.
    """
    match path.suffix:
        case ".md":
            write_text(path, markdown(rows, split))
        case ".csv":
            lines = [
                "data,protocol,labelled_per_class,method,mean,interval95,seeds,"
                f"{split}_top1,seconds"
            ]
            for row in rows:
                labelled = "" if row.labelled_per_class is None else row.labelled_per_class
                seeds, top1 = " ".join(map(str, row.seeds)), " ".join(f"{v:.4f}" for v in row.top1)
                interval = "" if math.isnan(row.interval) else f"{row.interval:.4f}"
                lines.append(
                    f"{row.data},{row.protocol},{labelled},{row.method},{row.mean:.4f},{interval},{seeds},{top1},"
                    f"{row.seconds:.1f}"
                )
            write_text(path, "\n".join(lines) + "\n")
        case ".json":
            write_json(path, [{"split": split} | _as_json(row) for row in rows])
        case _:
            raise UserError(f"{path}: unknown table format; use .md, .csv or .json")


def _as_json(row: Row) -> dict[str, Any]:
    return {
        **vars(row),
        "mean": row.mean,
        "interval95": None if math.isnan(row.interval) else row.interval,
    }
