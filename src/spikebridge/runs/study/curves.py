"""Validation accuracy over training: where arms part, and whether they were done learning."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spikebridge.base.errors import UserError
from spikebridge.results.report.read import validation_curve
from spikebridge.results.report.svg import drawing, new_figure, save
from spikebridge.run_folder import RunFolder
from spikebridge.runs.study.figures import arm_styles, file_name
from spikebridge.runs.study.table import ArmRow, Outcome
from spikebridge.settings.presets import Style

_COLUMNS = 2

Arms = dict[str, list[list[dict[str, Any]]]]
"""The evaluations of each seed, by arm."""


def write_curves(
    rows: Sequence[ArmRow], outcomes: Sequence[Outcome], out: Path
) -> list[tuple[str, Path]]:
    """Draw the students' validation accuracy over progress u, a panel for each label budget.

    Args:
        rows: The table, whose colours the curves take.
        outcomes: The runs; those that were selected on test are left out.
        out: Folder of the SVG files.

    Returns:
        A sentence and the file of each recipe's figure.
    """
    recipes: dict[str, dict[str, Arms]] = {}
    for one in outcomes:
        found = _evaluations(one.planned.job.folder) if one.result else []
        if found and one.planned.job.kind == "student":
            arms = recipes.setdefault(one.planned.recipe, {}).setdefault(one.planned.labelled, {})
            arms.setdefault(one.planned.arm, []).append(found)
    styles, made = arm_styles([row.arm for row in rows]), []
    for recipe, budgets in recipes.items():
        title = f"{recipe}: validation accuracy over training, mean over seeds"
        with drawing():
            path = out / f"validation-{file_name(recipe)}.svg"
            made.append((title, save(_figure(budgets, styles), path, title)))
    return made


def _evaluations(folder: Path) -> list[dict[str, Any]]:
    """A run's evaluations on validation; empty where they are damaged or on other recordings."""
    try:
        found = RunFolder(folder).metrics("eval")
        return found if all(r["split"] == "validation" for r in found) else []
    except (KeyError, UserError):
        return []


def _figure(budgets: dict[str, Arms], styles: dict[str, Style]) -> Figure:
    columns = min(_COLUMNS, len(budgets))
    lines = -(-len(budgets) // columns)
    names = list(dict.fromkeys(name for arms in budgets.values() for name in arms))
    figure = new_figure(0.6 + 2.0 * lines + 0.19 * -(-len(names) // 2))
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    panels = list(grid.flat)
    for axes, (labelled, arms) in zip(panels, budgets.items(), strict=False):
        _panel(axes, arms, styles)
        if len(budgets) > 1:
            axes.set_title(f"k = {labelled}")
    for axes in panels[len(budgets) :]:
        axes.set_axis_off()
    for axes in panels[len(budgets) - columns : len(budgets)]:  # the lowest of each column
        axes.tick_params("x", labelbottom=True)
        axes.set_xlabel("progress u")
    for axes in grid[:, 0]:
        axes.set_ylabel("validation top-1, %")
    panels[0].set_xlim(0, 1)
    panels[0].set_xticks([0, 0.5, 1])
    known = {line.get_label(): line for axes in panels for line in axes.lines}
    figure.legend([known[name] for name in names], names, loc="outside lower center", ncols=2)
    return figure


def _panel(axes: Axes, arms: Arms, styles: dict[str, Style]) -> None:
    for name, seeds in arms.items():
        u_E, top1_RE = validation_curve(seeds)
        if len(u_E):
            axes.plot(
                u_E,
                top1_RE.mean(0),
                color=styles[name].light,
                marker=styles[name].marker,
                markevery=max(1, len(u_E) // 5),
                lw=1.2,
                label=name,
            )
