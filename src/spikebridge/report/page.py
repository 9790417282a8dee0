"""From finished runs to one HTML page."""

import platform
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from spikebridge.compare import Row, compare
from spikebridge.errors import UserError
from spikebridge.files import write_text
from spikebridge.report import figures
from spikebridge.report.answer import BASELINE, answer, caveats, gain, subject_of, verdict
from spikebridge.report.closely import look_closely
from spikebridge.report.drawings import best, draw
from spikebridge.report.palette import EMPTY_RGB, OFF_RGB, ON_RGB, style_of, stylesheet, variable
from spikebridge.report.read import Run, read_run
from spikebridge.report.trust import verdicts

_SOFTWARE = ("spikebridge", "torch", "numpy", "scipy", "eventcv", "matplotlib")
_SHORT = 3
"""Longer names of classes stand upright above a column."""


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
    read = sorted((read_run(run) for run in runs), key=lambda run: (run.seed, run.method))
    rows = compare(runs)
    _require_one_setting(rows, read)
    groups = {row.method: [run for run in read if run.method == row.method] for row in rows}
    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    contents = _contents(rows, groups, read)
    contents |= {"title": title or f"Runs on {rows[0].data}", "note": note}
    write_text(path, environment.get_template("template.html").render(contents))


def _require_one_setting(rows: Sequence[Row], runs: Sequence[Run]) -> None:
    anywhere = [row for row in rows if row.method == "teacher" and row.labelled_per_class is None]
    settings = {(row.data, row.labelled_per_class) for row in rows if row not in anywhere}
    settings |= {(row.data, None) for row in anywhere if all(row.data != s[0] for s in settings)}
    if len(settings) > 1:
        names = ", ".join(sorted(f"{data} with {k or 'all'} labelled" for data, k in settings))
        raise UserError(f"runs of several data sets or label budgets ({names}); report on each")
    for method, count in Counter(row.method for row in rows).items():
        if count > 1:
            raise UserError(f"runs of {method} by several protocols; report on each")
    for run in runs:
        if run.classes != runs[0].classes:
            raise UserError(
                f"{run.folder} and {runs[0].folder}: runs of other classes; report on each"
            )


def _contents(rows: Sequence[Row], groups: figures.Groups, runs: Sequence[Run]) -> dict[str, Any]:
    students = [method for method in groups if method != "teacher"]
    hybrid = [m for m in students if groups[m][0].config.objective.hybrid_until]
    shown = subject_of(groups) or next(iter(hybrid or students), None)
    aligned = [m for m in ("ckd", "ckd-plus", "kt") if m in groups] or hybrid
    baseline = next((row for row in rows if row.method == BASELINE), None)
    closely = look_closely(groups, shown) if shown else None
    gains = closely.gains if closely else []
    pictures = draw(rows, groups, shown, aligned, gains, closely.activity if closely else None)
    coefficients = figures.with_coefficients(groups)
    return {
        "answer": _unbroken(answer(rows, runs)),
        "verdict": _unbroken(verdict(rows)),
        "caveats": caveats(runs),
        "audit": verdicts(runs),
        "seeds": sorted({seed for row in rows for seed in row.seeds}),
        "rows": [_table_row(row, baseline) for row in rows],
        "methods": [(m, variable(m), style_of(m).glyph) for m in groups],
        "figures": pictures,
        "aligned": [m for m in aligned if f"cka-{m}" in pictures],
        "coefficient_methods": [(m, variable(m), style_of(m).glyph) for m in coefficients],
        "shown": shown,
        "shown_seed": groups[shown][0].seed if shown else None,
        "shown_seeds": len(groups[shown]) if shown else 0,
        "closely": closely,
        "long_names": max(map(len, runs[0].classes)) > _SHORT,
        "details": [_detail(groups[row.method], row) for row in rows],
        "counts": _counts(runs[0]),
        "counts_seed": runs[0].seed,
        "run": groups[shown][0] if shown else runs[0],
        "protocols": sorted({run.result["protocol"] for run in runs}),
        "versions": [("Python", platform.python_version())] + [(n, version(n)) for n in _SOFTWARE],
        "light": Markup(stylesheet("light")),
        "dark": Markup(stylesheet("dark")),
        "on": _css(ON_RGB),
        "off": _css(OFF_RGB),
        "empty": _css(EMPTY_RGB),
    }


def _table_row(row: Row, baseline: Row | None) -> dict[str, Any]:
    student = row.method not in ("teacher", BASELINE)
    gained = gain(row, baseline) if student and baseline else None
    return {
        "row": row,
        "glyph": style_of(row.method).glyph,
        "variable": variable(row.method),
        "by_seed": dict(zip(row.seeds, row.top1, strict=True)),
        "gain": gained.text if gained else "–",
    }


def _detail(runs: Sequence[Run], row: Row) -> dict[str, Any]:
    train = runs[0].config.teacher if row.method == "teacher" else runs[0].config.train
    return {
        "method": row.method,
        "parameters": runs[0].result["parameters"],
        "epochs": train.epochs,
        "selected": ", ".join(str(run.result["best_epoch"] + 1) for run in runs),
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
