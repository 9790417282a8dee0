"""Runs side by side: mean and 95 % interval over seeds."""

import math
import shlex
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit

from spikebridge.base.errors import UserError
from spikebridge.base.files import write_json, write_text
from spikebridge.data.manifest import MARKS
from spikebridge.results.comparable import key_of, name_variants, settings_that_matter
from spikebridge.results.tables import (
    MARK_MEANS,
    RUN_COLUMNS,
    Table,
    csv_text,
    marks_of,
    run_cells,
    signed,
    with_interval,
)
from spikebridge.run_folder import RunFolder
from spikebridge.settings.presets import methods

_RESULT_KEYS = ("data", "protocol", "method", "seed", "seconds", "val_top1", "test_top1")
_ROUNDING = 1e-9
"""In percentage points; one of a million recordings is 1e-4."""
_TOLD = 7
"""Words of a command that a caption takes."""


@dataclass(frozen=True)
class Row:
    """One method, with one set of settings, on one data set and label budget."""

    data: str
    protocol: str
    """`clean`, `few-shot`, `published` or `leaked`."""
    method: str
    labelled_per_class: int | None
    """None where all recordings are labelled, or not alike many in each class."""
    seeds: tuple[int, ...]
    top1: tuple[float, ...]
    """Top-1 of each seed, in percent."""
    seconds: float
    """Mean duration of training."""
    labelled: str = "all"
    """Labelled recordings per class in words: 2, 8–12, all."""
    variant: str = ""
    """What tells its settings from those of other rows of the method; empty for its own ones."""
    proved: bool = True
    """Whether the protocol of every run is proved, as far as the runs say."""
    marks: tuple[str, ...] = ()
    """What `marks_of` says of the runs."""
    folders: tuple[Path, ...] = field(default=(), compare=False)
    """Of the runs, in the order of the seeds."""

    @property
    def name(self) -> str:
        """The method, and what its settings differ in."""
        return f"{self.method} ({self.variant})" if self.variant else self.method

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
        """Mean ± interval, marked where the protocol is not proved."""
        return with_interval(f"{self.mean:.1f}", self.interval, self.proved)


@dataclass(frozen=True)
class _Run:
    folder: Path
    result: dict[str, Any]
    settings: dict[str, Any]
    """Those that matter; empty where only their key is known."""
    key: str
    labelled: tuple[int, int] | None
    """Fewest and most labelled recordings of a class; None where all are labelled."""

    @property
    def budget(self) -> int | str:
        """Labelled recordings per class, where each class has as many."""
        if self.labelled is None:
            return "all"
        return self.labelled[0] if self.labelled[0] == self.labelled[1] else "uneven"


def interval_95(values: Sequence[float]) -> float:
    """Half-width of the 95 % interval of a mean by Student's t; NaN for one value."""
    if len(values) < 2:
        return math.nan
    return float(stdtrit(len(values) - 1, 0.975) * np.std(values, ddof=1) / len(values) ** 0.5)


@dataclass(frozen=True)
class Paired:
    """Differences to another method or arm, seed by seed, in percentage points."""

    against: str
    seeds: tuple[int, ...]
    by_seed: tuple[float, ...]
    proved: bool = True
    """Whether the protocol of every run of both is, as far as the runs say."""

    @property
    def mean(self) -> float:
        """Mean over the seeds that both have."""
        return float(np.mean(self.by_seed))

    @property
    def alike(self) -> bool:
        """Whether all seeds differ alike, but for rounding, as a single one does."""
        return float(np.ptp(self.by_seed)) < _ROUNDING

    @property
    def interval(self) -> float:
        """Half-width of the 95 % interval of the mean (Student's t).

        NaN for one seed, and where all differ alike: no scatter to tell chance by was seen.
        """
        return math.nan if self.alike else interval_95(self.by_seed)

    @property
    def p(self) -> float:
        """Two-sided p of the paired t-test; NaN for one seed, and where all differ alike."""
        if self.alike:
            return math.nan
        seeds = len(self.by_seed)
        t = self.mean / (np.std(self.by_seed, ddof=1) / seeds**0.5)
        return float(2 * stdtr(seeds - 1, -abs(t)))

    @property
    def text(self) -> str:
        """Mean with its sign ± interval, marked where the protocol is not proved."""
        return with_interval(signed(self.mean), self.interval, self.proved)


def paired(
    against: str,
    own: Mapping[int, float],
    other: Mapping[int, float],
    unproved: Collection[int] = (),
) -> Paired | None:
    """Differences of the seeds that both have; None without a common seed.

    Args:
        against: What the other is called.
        own: Top-1 by seed, in percent.
        other: The same of what it is compared with.
        unproved: Seeds of which one's or the other's protocol is not proved.
    """
    seeds = tuple(seed for seed in own if seed in other)
    differences = tuple(own[seed] - other[seed] for seed in seeds)
    proved = not set(seeds) & set(unproved)
    return Paired(against, seeds, differences, proved) if seeds else None


def compare(runs: Sequence[Path], split: str = "test") -> list[Row]:
    """Group runs by data, label budget, method and settings, in the order of the methods.

    Args:
        runs: Folders of finished runs.
        split: "test", or "validation" for choosing settings, which must not look at the test.

    Raises:
        UserError: a folder is no finished run, its settings are not known, or a seed occurs twice
            in a group.
    """
    methods: dict[tuple, dict[str, list[_Run]]] = defaultdict(lambda: defaultdict(list))
    for folder in runs:
        run = _read(folder)
        kind = (run.result["data"], run.result["protocol"], run.budget, run.result["method"])
        methods[kind][run.key].append(run)
    rows = []
    for kind, variants in methods.items():
        groups = list(variants.values())
        names = name_variants(kind[-1], [group[0].settings for group in groups])
        rows += [_row(g, name, split) for g, name in zip(groups, names, strict=True)]
    return sorted(rows, key=_place)


def _read(folder: Path) -> _Run:
    run = RunFolder(folder)
    run.require_network()
    result = run.result(_RESULT_KEYS)
    key = result.get("settings_key")
    if key is not None and not run.config_file.exists():
        labelled = labelled_recordings(folder, result, False)
        return _Run(folder, result, {"settings": key}, key, labelled)
    settings = settings_that_matter(run.settings(), result)
    by_manifest = "data.split.manifest" in settings
    labelled = labelled_recordings(folder, result, by_manifest)
    return _Run(folder, result, settings, key_of(settings), labelled)


def labelled_recordings(
    folder: Path, result: Mapping[str, Any], by_manifest: bool
) -> tuple[int, int] | None:
    """Fewest and most labelled recordings of a class; None where all that are left are labelled.

    Args:
        folder: The run's folder.
        result: What its ``result.json`` holds.
        by_manifest: Whether its split was taken from a manifest.

    Raises:
        UserError: its manifest.csv is needed, and missing or damaged.
    """
    each = result.get("labelled_per_class")
    if each is None and not by_manifest:
        return None
    if counted := result.get("labelled_recordings"):
        return counted["min"], counted["max"]
    if by_manifest or each is None:
        return RunFolder(folder).manifest().labelled_recordings
    return each, each


def in_words(ranges: Iterable[tuple[int, int] | None]) -> str:
    """What `labelled_recordings` returns of several runs: 2, 8–12, all."""
    known = [one for one in ranges if one is not None]
    if not known:
        return "all"
    least, most = min(low for low, _ in known), max(high for _, high in known)
    return str(least) if least == most else f"{least}–{most}"


def _row(members: list[_Run], variant: str, split: str) -> Row:
    members = sorted(members, key=lambda run: run.result["seed"])
    first, results = members[0].result, [run.result for run in members]
    for one, other in zip(members, members[1:], strict=False):
        if one.result["seed"] == other.result["seed"]:
            raise UserError(
                f"{one.folder} and {other.folder}: two runs of {first['method']} with seed "
                f"{one.result['seed']}; compare them in two calls"
            )

    labelled = in_words([run.labelled for run in members])
    return Row(
        first["data"],
        first["protocol"],
        first["method"],
        int(labelled) if labelled.isdecimal() else None,
        tuple(result["seed"] for result in results),
        tuple(_top1(result, split) for result in results),
        float(np.mean([result["seconds"] for result in results])),
        labelled,
        variant,
        all(result.get("proved") is not False for result in results),
        marks_of(first),
        tuple(run.folder for run in members),
    )


def _top1(result: Mapping[str, Any], split: str) -> float:
    """In percent; NaN where nothing was selected on validation."""
    top1 = result["val_top1" if split == "validation" else "test_top1"]
    return math.nan if top1 is None else top1


def _place(row: Row) -> tuple:
    known = ["teacher", *methods()]
    place = known.index(row.method) if row.method in known else len(known)
    labelled = math.inf if row.labelled_per_class is None else row.labelled_per_class
    return row.data, row.protocol, labelled, row.labelled, place, row.variant


def table(rows: Sequence[Row], split: str = "test") -> Table:
    """The rows as a table of text."""
    head = ["data", "protocol", "labelled per class", "method", f"{split} top-1, %", "seeds",
            "training, s"]  # fmt: skip
    cells = [
        [row.data, _protocol(row), row.labelled, row.name, row.text, str(len(row.seeds)),
         f"{row.seconds:.0f}"] for row in rows
    ]  # fmt: skip
    numbers = [False, False, True, False, True, True, True]
    return Table(head, numbers, cells, [] if all(row.proved for row in rows) else [MARK_MEANS])


def _protocol(row: Row) -> str:
    """Its name, or what says it."""
    named = [] if row.protocol in MARKS else [row.protocol]
    return ", ".join([*named, *row.marks])


def markdown(rows: Sequence[Row], split: str = "test") -> str:
    """The table in Markdown."""
    return table(rows, split).markdown()


def write_table(
    rows: Sequence[Row], path: Path, split: str = "test", command: Sequence[str] = ()
) -> None:
    """Write as Markdown, CSV, JSON or LaTeX, by the file's suffix.

    Args:
        rows: The table.
        path: The file.
        split: What `compare` was given.
        command: What makes the table, for the caption in LaTeX, which names few of many runs.

    Raises:
        UserError: another suffix.
    """
    match path.suffix:
        case ".md":
            write_text(path, markdown(rows, split))
        case ".tex":
            caption = f"{split.capitalize()} top-1 in %, mean ± 95 % interval over seeds."
            few = len(command) <= _TOLD
            told = "" if few else shlex.join([*command[:3], "…", command[-1]]).replace("'…'", "…")
            write_text(path, table(rows, split).latex(caption, shlex.join(command), told))
        case ".csv":
            write_text(path, csv_text(_csv_rows(rows, split)))
        case ".json":
            write_json(path, [{"split": split} | _as_json(row) for row in rows])
        case _:
            raise UserError(f"{path}: unknown table format; use .md, .tex, .csv or .json")


def write_per_run(rows: Sequence[Row], path: Path) -> None:
    """Write a CSV file with a row for each run."""
    head = ["data", "protocol", "labelled_per_class", "method", "settings", *RUN_COLUMNS]
    cells = [
        [row.data, row.protocol, row.labelled, row.method, row.variant,
         *run_cells(folder, RunFolder(folder).result())]
        for row in rows
        for folder in row.folders
    ]  # fmt: skip
    write_text(path, csv_text([head, *cells]))


def _csv_rows(rows: Sequence[Row], split: str) -> list[list[Any]]:
    head = ["data", "protocol", "labelled_per_class", "method", "settings", "mean", "interval95",
            "seeds", f"{split}_top1", "seconds", "proved"]  # fmt: skip
    return [head] + [
        [row.data, row.protocol, row.labelled, row.method, row.variant, f"{row.mean:.4f}",
         "" if math.isnan(row.interval) else f"{row.interval:.4f}", " ".join(map(str, row.seeds)),
         " ".join(f"{v:.4f}" for v in row.top1), f"{row.seconds:.1f}", row.proved] for row in rows
    ]  # fmt: skip


def _as_json(row: Row) -> dict[str, Any]:
    own = vars(row) | {"folders": [str(folder) for folder in row.folders]}
    return own | {"mean": row.mean, "interval95": row.interval}
