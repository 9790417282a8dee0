"""From finished runs to one HTML page."""

import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from spikebridge.base.console import working
from spikebridge.base.errors import UserError
from spikebridge.base.files import write_text
from spikebridge.results.compare import Row, compare
from spikebridge.results.report import figures
from spikebridge.results.report.answer import (
    answer,
    baseline_of,
    caveats,
    gain,
    subject_of,
    verdict,
)
from spikebridge.results.report.closely import look_closely
from spikebridge.results.report.drawings import best, draw
from spikebridge.results.report.palette import (
    EMPTY_RGB,
    OFF_RGB,
    ON_RGB,
    names_styled,
    style_of,
    stylesheet,
    variable,
)
from spikebridge.results.report.read import Run, read_run
from spikebridge.results.report.trust import verdicts
from spikebridge.results.tables import MARK, marks_of

_SOFTWARE = ("spikebridge", "torch", "numpy", "scipy", "eventcv", "matplotlib")
_SHORT = 3
"""Longer names of classes stand upright above a column."""
_ALIGNED = ("ckd", "ckd-plus", "kt")
"""Methods whose alignment is drawn."""


def write_report(runs: Sequence[Path], path: Path, *, title: str = "", note: str = "") -> None:
    """Write one self-contained HTML page about runs of one data set and label budget.

    Recordings are read and spikes and energy counted for one run: the first seed of CKD, or of the
    method that stands for it. Where its recordings are gone, a sentence takes their place.

    Args:
        runs: Folders of finished runs: students, and teachers if any.
        path: The page; written atomically.
        title: Its heading; empty takes one that names the data.
        note: How to repeat it, a command line say; shown as it is.

    Raises:
        UserError: no run was given, a folder is no finished run, or the runs are of several data
            sets, label budgets or sets of classes.
    """
    if not runs:
        raise UserError("no run was given to report on; name folders of finished runs")
    by_folder = {folder: read_run(folder) for folder in runs}
    rows = compare(runs)
    _require_one_setting(rows, list(by_folder.values()))
    groups = {
        row.name: [replace(by_folder[folder], group=row.name) for folder in row.folders]
        for row in rows
    }
    read = sorted((r for group in groups.values() for r in group), key=lambda r: (r.seed, r.name))
    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    with names_styled(groups):
        contents = _contents(rows, groups, read)
    contents |= {"title": title or f"Runs on {rows[0].data}", "note": note}
    write_text(path, environment.get_template("template.html").render(contents))


def _require_one_setting(rows: Sequence[Row], runs: Sequence[Run]) -> None:
    anywhere = [row for row in rows if row.method == "teacher" and row.labelled == "all"]
    settings = {(row.data, row.labelled) for row in rows if row not in anywhere}
    settings |= {(row.data, "all") for row in anywhere if all(row.data != s[0] for s in settings)}
    if len(settings) > 1:
        names = ", ".join(sorted(f"{data} with {k} labelled" for data, k in settings))
        raise UserError(f"runs of several data sets or label budgets ({names}); report on each")
    for method, count in Counter(m for m, _ in {(r.method, r.protocol) for r in rows}).items():
        if count > 1:
            raise UserError(f"runs of {method} by several protocols; report on each")
    for run in runs:
        if run.classes != runs[0].classes:
            raise UserError(
                f"{run.folder} and {runs[0].folder}: runs of other classes; report on each"
            )


def _contents(rows: Sequence[Row], groups: figures.Groups, runs: Sequence[Run]) -> dict[str, Any]:
    students = [row.name for row in rows if row.method != "teacher"]
    hybrid = [m for m in students if groups[m][0].config.objective.hybrid_until]
    subject, baseline = subject_of(rows), baseline_of(rows)
    shown = subject.name if subject else next(iter(hybrid or students), None)
    aligned = [row.name for m in _ALIGNED for row in rows if row.method == m] or hybrid
    closely = look_closely(groups, shown, baseline and baseline.name) if shown else None
    methods = [(m, variable(m), style_of(m).glyph) for m in groups]
    gains = closely.gains if closely else []
    with working("drawing"):
        pictures = draw(rows, groups, shown, aligned, gains, closely.activity if closely else None)
    coefficients = figures.with_coefficients(groups)
    return {
        "answer": _unbroken(answer(rows, runs)),
        "verdict": _unbroken(verdict(rows)),
        "caveats": caveats(runs),
        "audit": verdicts(runs),
        "seeds": sorted({seed for row in rows for seed in row.seeds}),
        "rows": [_table_row(row, groups[row.name], baseline) for row in rows],
        "methods": methods,
        "students": [one for one in methods if one[0] in students],
        "has_teacher": len(students) < len(methods),
        "figures": pictures,
        "aligned": [m for m in aligned if f"cka-{m}" in pictures],
        "coefficient_methods": [(m, variable(m), style_of(m).glyph) for m in coefficients],
        "shown": shown,
        "shown_seed": groups[shown][0].seed if shown else None,
        "shown_seeds": len(groups[shown]) if shown else 0,
        "closely": closely,
        "long_names": max(map(len, runs[0].classes)) > _SHORT,
        "details": [_detail(groups[row.name], row) for row in rows],
        "counts": _counts(runs[0]),
        "counts_seed": runs[0].seed,
        "labelled": next((row.labelled for row in rows if row.method != "teacher"), "all"),
        "run": groups[shown][0] if shown else runs[0],
        "protocols": sorted({run.result["protocol"] for run in runs}),
        "marks": sorted({mark for run in runs for mark in marks_of(run.result)}),
        "versions": [("Python", platform.python_version())] + [(n, version(n)) for n in _SOFTWARE],
        "light": Markup(stylesheet("light")),
        "dark": Markup(stylesheet("dark")),
        "on": _css(ON_RGB),
        "off": _css(OFF_RGB),
        "empty": _css(EMPTY_RGB),
    }


def _table_row(row: Row, runs: Sequence[Run], baseline: Row | None) -> dict[str, Any]:
    compared = baseline and row is not baseline and row.method != "teacher"
    gained = gain(row, baseline) if baseline and compared else None
    unproved = {run.seed for run in runs if run.result.get("proved") is False}
    return {
        "row": row,
        "glyph": style_of(row.name).glyph,
        "variable": variable(row.name),
        "by_seed": {
            seed: f"{value:.1f}{MARK if seed in unproved else ''}"
            for seed, value in zip(row.seeds, row.top1, strict=True)
        },
        "gain": gained.text if gained else "–",
    }


def _detail(runs: Sequence[Run], row: Row) -> dict[str, Any]:
    train = runs[0].config.teacher if row.method == "teacher" else runs[0].config.train
    return {
        "method": row.name,
        "parameters": runs[0].result["parameters"],
        "epochs": train.epochs,
        "selected": ", ".join(str(run.result["best_epoch"]) for run in runs),
        "validation": best(runs),
        "seconds": row.seconds,
    }


def _counts(run: Run) -> list[tuple[str, str, int]]:
    """Kind, role and number of the files of the split."""
    counted = Counter((e.kind, run.manifest.role(e)) for e in run.manifest.entries)
    return [(kind, role, number) for (kind, role), number in sorted(counted.items(), reverse=True)]


def _unbroken(text: str) -> str:
    """No line break within 84.1 ± 2.0 %."""
    return text.replace(" ± ", "\u00a0±\u00a0").replace(" %", "\u00a0%")


def _css(rgb: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)
