"""A study's figures as SVG files: accuracy over labels or by arm, and paired differences."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from spikebridge.results.report.palette import INK, style_of
from spikebridge.results.report.svg import drawing, new_figure, save
from spikebridge.results.tables import with_interval
from spikebridge.runs.study.spec import Study
from spikebridge.runs.study.table import ArmRow
from spikebridge.settings.presets import Style, methods

_MORE = ("#8b1e4b", "#3b3b98", "#5c4033", "#00818a", "#6b8e23")
_MARKERS = "oD^sv<>hpX"


def write_figures(study: Study, rows: Sequence[ArmRow], out: Path) -> list[tuple[str, Path]]:
    """Draw a study.

    Args:
        study: What was compared.
        rows: Its table.
        out: Folder of the SVG files.

    Returns:
        A sentence and the file of each figure.
    """
    made = []
    styles = arm_styles([row.arm for row in rows])
    for recipe in dict.fromkeys(row.recipe for row in rows):
        for tested_on in (None, *study.evaluate_at):
            some = [r for r in rows if (r.recipe, r.tested_on) == (recipe, tested_on) and r.top1]
            if not some:
                continue
            where = recipe if tested_on is None else f"{recipe}, tested on {tested_on}"
            name = file_name(where)
            with drawing():
                if len({row.budget for row in some}) > 1:
                    figure = _over_labels(some, styles)
                    title = f"{where}: test accuracy over labelled recordings per class"
                else:
                    figure = _by_arm(some, styles)
                    title = f"{where}: test accuracy by arm"
                made.append((title, save(figure, out / f"accuracy-{name}.svg", title)))
                for against in study.against:
                    if (figure := _differences(some, against, styles)) is not None:
                        title = f"{where}: difference to {against}, paired by seed"
                        path = out / f"minus-{against}-{name}.svg"
                        made.append((title, save(figure, path, title)))
    return made


def arm_styles(arms: Sequence[str]) -> dict[str, Style]:
    """A style for each arm: a method's own where the arm is named so, others in turn."""
    unknown = style_of("")
    found = {arm: style_of(arm) for arm in arms}
    colours = [*_MORE, *(style_of(method).light for method in methods() if method not in found)]
    others = [arm for arm, style in found.items() if style == unknown]
    for place, arm in enumerate(others):
        colour, marker = colours[place % len(colours)], _MARKERS[place % len(_MARKERS)]
        found[arm] = Style(colour, colour, marker, "")
    return found


def file_name(words: str) -> str:
    """Words as a part of a file's name."""
    return re.sub(r"[^\w.+-]+", "-", words)


def _over_labels(rows: Sequence[ArmRow], styles: dict[str, Style]) -> Figure:
    budgets = list(dict.fromkeys(row.labelled for row in rows))
    arms = list(dict.fromkeys(row.arm for row in rows))
    figure = new_figure(3.2 + 0.19 * math.ceil(len(arms) / 2))
    axes = figure.add_subplot()
    for place, arm in enumerate(arms):
        own = [row for row in rows if row.arm == arm]
        shift = 0.3 * (place / max(1, len(arms) - 1) - 0.5)
        style, x = styles[arm], [budgets.index(row.labelled) + shift for row in own]
        axes.errorbar(
            x,
            [row.mean for row in own],
            [0.0 if math.isnan(row.interval) else row.interval for row in own],
            color=style.light,
            marker=style.marker,
            ls="--" if arm.startswith("teacher") else "-",
            elinewidth=1.0,
            lw=1.2,
            label=own[0].name,
        )
    axes.set_xticks(range(len(budgets)), budgets)
    axes.set_xlim(-0.3, len(budgets) - 0.7)
    low = min(row.mean - (0 if math.isnan(row.interval) else row.interval) for row in rows)
    axes.set_ylim(max(0.0, low - 3), 101)
    axes.set_xlabel("labelled recordings per class")
    axes.set_ylabel("test top-1, %")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _by_arm(rows: Sequence[ArmRow], styles: dict[str, Style]) -> Figure:
    figure = new_figure(0.7 + 0.32 * len(rows))
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        style = styles[row.arm]
        axes.plot(row.top1, [place + 0.28] * len(row.top1), "|", color=style.light, ms=4, mew=1)
        text = with_interval(f"{row.mean:.1f}", row.interval, all(row.proved))
        _dot(axes, place, row.mean, row.interval, style, text)
    _name_lines(axes, [_lines(row) for row in rows])
    axes.set_xlim(max(0.0, axes.get_xlim()[0]), min(101.0, axes.get_xlim()[1]))
    axes.set_xlabel("test top-1, %")
    return figure


def _differences(rows: Sequence[ArmRow], against: str, styles: dict[str, Style]) -> Figure | None:
    several = len({row.budget for row in rows}) > 1
    lines = [(row, one) for row in rows for one in row.paired if one.against == against]
    if not lines:
        return None
    arms = list(dict.fromkeys(row.arm for row, _ in lines))
    lines.sort(key=lambda line: arms.index(line[0].arm))  # stable: budgets keep their order
    figure = new_figure(0.7 + 0.25 * len(lines))
    axes = figure.add_subplot()
    axes.axvline(0, color=INK, lw=0.8)
    for place, (row, one) in enumerate(lines):
        _dot(axes, place, one.mean, one.interval, styles[row.arm], one.text)
    names = [_lines(row) + (f", k = {row.labelled}" if several else "") for row, _ in lines]
    _name_lines(axes, names)
    axes.set_xlabel(f"test top-1 minus that of {against}, points")
    return figure


def _dot(axes: Axes, place: int, mean: float, interval: float, style: Style, text: str) -> None:
    """A mean with its interval on one line of a chart, and both in words at its end."""
    if not math.isnan(interval):
        ends = [mean - interval, mean + interval]
        axes.plot(ends, [place, place], color=style.light, lw=2.2, solid_capstyle="round")
    axes.plot([mean], [place], style.marker, color=style.light, ms=7)
    axes.annotate(text, (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=8)


def _lines(row: ArmRow) -> str:
    """The arm, and below it what its figures must say."""
    return ",\n".join([row.arm, *row.marks])


def _name_lines(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
