"""From finished runs to one HTML page."""

import platform
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from spikebridge.compare import Row, compare
from spikebridge.errors import UserError
from spikebridge.files import write_text
from spikebridge.report import figures
from spikebridge.report.answer import BASELINE, SUBJECT, answer, caveats, gain, verdict
from spikebridge.report.examples import examples
from spikebridge.report.palette import (
    EMPTY_RGB,
    OFF_RGB,
    ON_RGB,
    style_of,
    stylesheet,
    variable,
)
from spikebridge.report.read import Run, mean_rates, read_run
from spikebridge.report.svg import drawing, inline

_SOFTWARE = ("spikebridge", "torch", "numpy", "scipy", "eventcv", "matplotlib")


def write_report(runs: Sequence[Path], path: Path, *, title: str, note: str = "") -> None:
    """Write one self-contained HTML page about runs of one data set and label budget.

    Args:
        runs: Folders of finished runs: students, and teachers if any.
        path: The page; written atomically.
        title: Its heading.
        note: How to repeat it, a command line say; shown as it is.

    Raises:
        UserError: no run was given, a folder is no finished run, or the runs are of several data
            sets or label budgets.
    """
    if not runs:
        raise UserError("no run was given to report on; name folders of finished runs")
    read = sorted((read_run(run) for run in runs), key=lambda run: (run.seed, run.method))
    rows = compare(runs)
    _require_one_setting(rows)
    groups = {row.method: [run for run in read if run.method == row.method] for row in rows}
    template = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    ).from_string(Path(__file__).with_name("template.html").read_text(encoding="utf-8"))
    write_text(path, template.render(_contents(rows, groups, read, title, note)))


def _require_one_setting(rows: Sequence[Row]) -> None:
    anywhere = [row for row in rows if row.method == "teacher" and row.labelled_per_class is None]
    settings = {(row.data, row.labelled_per_class) for row in rows if row not in anywhere}
    settings |= {(row.data, None) for row in anywhere if all(row.data != s[0] for s in settings)}
    if len(settings) > 1:
        names = ", ".join(sorted(f"{data} with {k or 'all'} labelled" for data, k in settings))
        raise UserError(f"runs of several data sets or label budgets ({names}); report on each")


def _contents(
    rows: Sequence[Row], groups: figures.Groups, runs: Sequence[Run], title: str, note: str
) -> dict[str, Any]:
    students = [method for method in groups if method != "teacher"]
    hybrid = [m for m in students if groups[m][0].config.objective.hybrid_until]
    shown = SUBJECT if SUBJECT in groups else next(iter(hybrid or students), None)
    aligned = [m for m in (SUBJECT, "kt") if m in groups] or hybrid
    baseline = next((row for row in rows if row.method == BASELINE), None)
    with drawing():
        pictures = _pictures(rows, groups, shown, aligned)
    return {
        "title": title,
        "note": note,
        "answer": _unbroken(answer(rows, runs)),
        "verdict": _unbroken(verdict(rows)),
        "caveats": caveats(runs),
        "seeds": sorted({seed for row in rows for seed in row.seeds}),
        "rows": [_table_row(row, baseline) for row in rows],
        "methods": [(m, variable(m), style_of(m).glyph) for m in groups],
        "figures": pictures,
        "aligned": [m for m in aligned if f"cka-{m}" in pictures],
        "coefficient_methods": [
            (m, variable(m), style_of(m).glyph) for m in figures.with_coefficients(groups)
        ],
        "shown": shown,
        "shown_seed": groups[shown][0].seed if shown else None,
        "examples": _examples(groups, shown) if shown else [],
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


def _pictures(
    rows: Sequence[Row], groups: figures.Groups, shown: str | None, aligned: Sequence[str]
) -> dict[str, Markup]:
    """The figures for which there are data, by name."""
    students = {method: runs for method, runs in groups.items() if method != "teacher"}
    drawn = {
        "accuracy": (
            figures.accuracy(rows),
            "Test accuracy: " + "; ".join(f"{row.method} {row.text} %" for row in rows),
        ),
        "curves": (
            figures.learning_curves(groups),
            "Validation accuracy over epochs. Best: "
            + "; ".join(f"{m} {_best(runs):.1f} %" for m, runs in groups.items()),
        ),
        "coefficients": (
            figures.coefficients(students),
            "Coefficient c_t of every time step at the end of training",
        ),
        "rates": (
            figures.spike_rates(students),
            "Mean spikes per neuron and time step by layer. Mean over the layers: "
            + "; ".join(
                f"{m} {np.mean(list(rate.values())):.3f}"
                for m, runs in students.items()
                if (rate := mean_rates(runs))
            ),
        ),
    }
    if shown:
        drawn["losses"] = (
            figures.loss_terms(groups[shown]),
            f"Terms of the training loss of {shown} over progress",
        )
        drawn["schedules"] = (
            figures.schedules(groups[shown][0]),
            f"Replacement probability P(u) and distillation weight W(u) of {shown} over progress",
        )
    for method in aligned:
        drawn[f"cka-{method}"] = (
            figures.alignment(groups[method]),
            f"CKA of the two streams of {method}, by time step and progress, biased and debiased",
        )
    return {
        name: inline(figure, f"figure-{index}", label)
        for index, (name, (figure, label)) in enumerate(drawn.items())
        if figure is not None
    }


def _best(runs: Sequence[Run]) -> float:
    return float(np.mean([run.result["val_top1"] for run in runs]))


def _examples(groups: figures.Groups, shown: str) -> list[Any]:
    run = groups[shown][0]
    beside = [r for r in groups.get(BASELINE, []) if r.seed == run.seed and shown != BASELINE]
    return examples(run, beside)


def _detail(runs: Sequence[Run], row: Row) -> dict[str, Any]:
    train = runs[0].config.teacher if row.method == "teacher" else runs[0].config.train
    return {
        "method": row.method,
        "parameters": runs[0].result["parameters"],
        "epochs": train.epochs,
        "selected": ", ".join(str(run.result["best_epoch"] + 1) for run in runs),
        "validation": _best(runs),
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
