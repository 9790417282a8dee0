"""A sweep's figures as SVG files: how the search went, and which settings mattered."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path

from matplotlib.ticker import MaxNLocator, NullLocator

from spikebridge.results.report.palette import style_of
from spikebridge.results.report.svg import drawing, new_figure, save
from spikebridge.runs.sweep.read import TrialRow

_BEST, _COMPLETE, _PRUNED = (style_of(name).light for name in ("ckd", "kt", "scratch"))


def draw_history(trials: Sequence[TrialRow], path: Path, title: str) -> Path:
    """Trials in the order of their numbers: complete, pruned, and the best so far.

    Args:
        trials: At least one is complete.
        path: The file.
        title: What it shows, for those who do not see it.
    """
    complete = [(one.number, one.value) for one in trials if one.value is not None]
    pruned = [
        (one.number, one.reported[-1][1])
        for one in trials
        if one.state == "pruned" and one.reported
    ]
    numbers, values = zip(*complete, strict=True)
    with drawing():
        figure = new_figure(2.8)
        axes = figure.add_subplot()
        axes.step(
            [*numbers, trials[-1].number],
            [*accumulate(values, max), max(values)],
            where="post",
            color=_BEST,
            label="best so far",
        )
        axes.plot(numbers, values, "o", color=_COMPLETE, label="complete, mean over seeds")
        if pruned:
            axes.plot(
                *zip(*pruned, strict=True),
                "x",
                color=_PRUNED,
                mew=1.2,
                label="pruned, mean of its epochs",
            )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("trial")
        axes.set_ylabel("validation top-1, %")
        figure.legend(loc="outside lower center", ncols=2)
        return save(figure, path, title)


def draw_importance(shares: Mapping[str, float], path: Path, title: str) -> Path:
    """A bar for each setting.

    Args:
        shares: By dotted name, largest first; their sum is 1.
        path: The file.
        title: What it shows, for those who do not see it.
    """
    with drawing():
        figure = new_figure(0.8 + 0.28 * len(shares))
        axes = figure.add_subplot()
        places = range(len(shares))
        percent = [100 * share for share in shares.values()]
        axes.barh(places, percent, height=0.55, color=_COMPLETE)
        for place, value in zip(places, percent, strict=True):
            axes.annotate(
                f"{value:.0f} %", (value, place), (4, 0), textcoords="offset points", va="center",
                fontsize=8,
            )  # fmt: skip
        axes.set_yticks(places, list(shares))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_ylim(len(shares) - 0.5, -0.5)
        axes.set_xlim(0, 1.15 * max(percent))
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("share of the variance explained, %")
        return save(figure, path, title)
