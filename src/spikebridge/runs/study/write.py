"""A study's table as Markdown, LaTeX, CSV and JSON."""

import math
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from spikebridge.base.files import write_json, write_text
from spikebridge.results.compare import Paired, in_words
from spikebridge.results.tables import (
    MARK,
    MARK_MEANS,
    RUN_COLUMNS,
    Table,
    csv_text,
    run_cells,
    with_interval,
)
from spikebridge.runs.study.hard import Tested, as_csv, never_right
from spikebridge.runs.study.leak import LeakRow, leak_csv, leak_table
from spikebridge.runs.study.spec import Study
from spikebridge.runs.study.table import NOT_RUN, ArmRow, Outcome

_SOFTWARE = ("spikebridge", "torch", "numpy", "scipy", "eventcv")
TABLE = "table.md"
"""The table's file in the study's folder."""


def write_tables(
    study: Study,
    rows: Sequence[ArmRow],
    outcomes: Sequence[Outcome],
    tested: Sequence[Tested],
    leaks: Sequence[LeakRow],
    out: Path,
    command: str = "spikebridge study",
) -> str:
    """Write table.md, .tex and .csv, per-run.csv, never-right.csv and results.json.

    Of runs that were let see what tests, leak.csv, and a second table in table.md.

    Returns:
        What table.md holds.
    """
    whole = table(study, rows, tested)
    text = whole.markdown()
    if leaks:
        text += "\n" + leak_table(leaks).markdown()
        write_text(out / "leak.csv", leak_csv(leaks))
    write_text(out / TABLE, text)
    write_text(out / "table.tex", whole.latex(study.title, command))
    write_text(out / "table.csv", csv_text(_csv_rows(study, rows)))
    write_text(out / "per-run.csv", csv_text(_per_run(rows, outcomes)))
    write_text(out / "never-right.csv", as_csv(tested))
    write_json(out / "results.json", _as_json(study, rows, outcomes))
    return text


def table(study: Study, rows: Sequence[ArmRow], tested: Sequence[Tested] = ()) -> Table:
    """The table as text, with a line for every run that failed.

    Args:
        study: What is compared.
        rows: The table.
        tested: What was said of each test recording.
    """
    spiking = any(not math.isnan(row.spikes) for row in rows)
    counted = any(not math.isnan(row.energy_nj) for row in rows)
    names = ["data", "labelled per class", *(["tested on"] if study.evaluate_at else []), "arm"]
    head = [*names, "seeds", "test top-1, %", *(f"− {arm} (p)" for arm in study.against),
            "each seed", "training, s", *(["spikes"] if spiking else []),
            *(["energy, nJ"] if counted else [])]  # fmt: skip
    lines = []
    for row in rows:
        start = [row.recipe, row.labelled]
        if study.evaluate_at:
            start.append(row.tested_on or "own test")
        total = len({*row.seeds, *(seed for seed, _ in row.failures)})
        seeds = str(total) if len(row.seeds) == total else f"{len(row.seeds)} of {total}"
        paired = {one.against: one for one in row.paired}
        marks = ("" if proved else MARK for proved in row.proved)
        each = (f"{value:.1f}{mark}" for value, mark in zip(row.top1, marks, strict=True))
        mean = with_interval(_number(row.mean, ".1f"), row.interval, all(row.proved))
        lines.append(
            [*start, row.name, seeds, mean,
             *(_difference(paired.get(arm)) for arm in study.against), " ".join(each) or "–",
             _number(row.seconds, ".0f"), *([_number(row.spikes, ".3f")] if spiking else []),
             *([_number(row.energy_nj, ",.0f")] if counted else [])]
        )  # fmt: skip
        if row.tested_on is None:
            for seed, reason in row.failures:
                word = reason if reason == NOT_RUN else f"failed: {reason}"
                cells = [*start, f"{row.arm}, seed {seed}", "", word]
                lines.append(cells + [""] * (len(head) - len(cells)))
    notes = ["Mean ± 95 % interval (Student's t) over seeds."]
    if study.against:
        notes.append(
            "Differences are paired by seed, on the same split; p of a paired t-test, not "
            "corrected for the number of comparisons."
        )
    if unlike := [f"{row.arm} and {arm}, seed {s}" for row in rows for arm, s in row.unlike]:
        notes.append(
            f"Not compared, for their test recordings differ: {'; '.join(dict.fromkeys(unlike))}."
        )
    if spiking:
        notes.append("Spikes: per neuron and time step, mean over layers.")
    if counted:
        notes.append("Energy per recording by `spikebridge energy`.")
    notes += [
        f"Energy of {row.arm} was not counted: {row.uncounted}; repeat the command."
        for row in rows
        if row.uncounted is not None and row.tested_on is None
    ]
    if hard := never_right(tested):
        notes.append(hard)
    if not all(all(row.proved) for row in rows):
        notes.append(MARK_MEANS)
    return Table(head, [place >= len(names) for place in range(len(head))], lines, notes)


def _difference(paired: Paired | None) -> str:
    if paired is None:
        return "–"
    p = "" if math.isnan(paired.p) else f" ({'<0.001' if paired.p < 0.001 else f'{paired.p:.3f}'})"
    return paired.text + p


def _number(value: float, form: str) -> str:
    return "–" if math.isnan(value) else format(value, form)


def _csv_rows(study: Study, rows: Sequence[ArmRow]) -> list[list[Any]]:
    head = ["data", "labelled_per_class", "tested_on", "arm", "protocol", "n", "mean",
            "interval95", "seeds", "test_top1"]  # fmt: skip
    for arm in study.against:
        head += [f"minus_{arm}", f"minus_{arm}_interval95", f"minus_{arm}_p"]
    lines: list[list[Any]] = [[*head, "seconds", "spikes", "energy_nj", "proved", "failures"]]
    for row in rows:
        paired = {one.against: one for one in row.paired}
        cells: list[Any] = [
            row.recipe, row.labelled, row.tested_on or "", row.arm, row.protocol or "",
            len(row.seeds), _exact(row.mean), _exact(row.interval), " ".join(map(str, row.seeds)),
            " ".join(_exact(value) for value in row.top1),
        ]  # fmt: skip
        for arm in study.against:
            one = paired.get(arm)
            cells += ["", "", ""] if one is None else map(_exact, (one.mean, one.interval, one.p))
        failures = "; ".join(f"seed {seed}: {reason}" for seed, reason in row.failures)
        cells += [_number(row.seconds, ".1f"), _exact(row.spikes), _exact(row.energy_nj)]
        lines.append([*cells, all(row.proved), failures])
    return lines


def _per_run(rows: Sequence[ArmRow], outcomes: Sequence[Outcome]) -> list[list[Any]]:
    """A row for each run on each set of test recordings, failed ones included."""
    head = ["data", "labelled_per_class", "tested_on", "arm", "protocol", *RUN_COLUMNS]
    lines: list[list[Any]] = [[*head, "energy_nj", "failure"]]
    for tested_on in dict.fromkeys(row.tested_on for row in rows):
        for one in outcomes:
            planned, result = one.planned, one.result
            if tested_on is not None and planned.job.kind == "teacher":
                continue
            words = planned.labelled if one.labelled is None else in_words([one.labelled])
            place = [planned.recipe, words, tested_on, planned.arm, result.get("protocol")]
            figures = {"seed": planned.seed} | result | one.tested(tested_on)
            if tested_on is not None and not one.tested(tested_on):
                figures |= {"test_top1": None, "test_loss": None}
            cells = run_cells(planned.job.folder, figures)
            lines.append([*place, *cells, _exact(one.energy_nj), one.failure])
    return lines


def _exact(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def _as_json(study: Study, rows: Sequence[ArmRow], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    versions = {"python": platform.python_version()} | {name: version(name) for name in _SOFTWARE}
    return {
        "name": study.name,
        "title": study.title,
        "study": study.text,
        "git": _commit(),
        "versions": versions,
        "rows": [_row_json(row) for row in rows],
        "runs": [_run_json(one) for one in outcomes],
    }


def _row_json(row: ArmRow) -> dict[str, Any]:
    paired = [
        vars(one) | {"mean": one.mean, "interval95": one.interval, "p": one.p} for one in row.paired
    ]
    own = {"mean": row.mean, "interval95": row.interval, "n": len(row.seeds)}
    return vars(row) | own | {"paired": paired}


def _run_json(one: Outcome) -> dict[str, Any]:
    job = one.planned.job
    return {
        "folder": str(job.folder),
        "recipe": one.planned.recipe,
        "budget": one.planned.budget,
        "arm": one.planned.arm,
        "seed": one.planned.seed,
        "of_arms": list(one.planned.arms),
        "failure": one.failure,
        "result": one.result,
        "energy_nj": one.energy_nj,
    }


def _commit() -> str | None:
    """The commit of this program's working tree, marked where files differ from it."""
    here = Path(__file__)
    tracked = _git(here.parent, "ls-files", "--error-unmatch", here.name)
    described = _git(here.parent, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    return described if tracked else None


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
