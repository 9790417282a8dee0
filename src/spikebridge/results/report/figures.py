"""The report's figures. Each function returns a Matplotlib figure, or None without data."""

import os.path
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spikebridge.results.compare import Row
from spikebridge.results.report.palette import INK, style_of
from spikebridge.results.report.read import Run, binned, mean_rates
from spikebridge.results.report.svg import new_figure

Groups = Mapping[str, Sequence[Run]]
"""Runs by name, in the order of the table."""

_WRAPPED = 24
"""Characters of a row's name on a line."""
_MOST_BARS = 80
"""Beyond this, bars are too thin to tell apart, and lines are drawn instead."""


def accuracy(rows: Sequence[Row]) -> Figure:
    """Mean and 95 % interval of each method, and every seed."""
    names = [textwrap.wrap(row.name, _WRAPPED) for row in rows]
    figure = new_figure(0.7 + 0.36 * len(rows) * max(1, *(len(lines) / 2 for lines in names)))
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        style = style_of(row.name)
        if len(row.top1) > 1:
            axes.plot(row.top1, [place + 0.3] * len(row.top1), "|", color=style.light, ms=5, mew=1)
        if np.isfinite(row.interval):
            ends = [row.mean - row.interval, row.mean + row.interval]
            axes.plot(ends, [place, place], color=style.light, lw=2.4, solid_capstyle="round")
        axes.plot([row.mean], [place], style.marker, color=style.light, ms=8)
        axes.annotate(
            row.text, (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=9
        )
    axes.set_yticks(range(len(rows)), ["\n".join(lines) for lines in names])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    reach = [0.0 if np.isnan(row.interval) else row.interval for row in rows]
    low = min(min(r.mean - h, *r.top1) for r, h in zip(rows, reach, strict=True))
    high = max(max(r.mean + h, *r.top1) for r, h in zip(rows, reach, strict=True))
    pad = max(2.0, 0.05 * (high - low))
    axes.set_xlim(max(0.0, low - pad), min(101.0, high + pad))
    axes.set_xlabel("test top-1, %")
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    return figure


def alignment(runs: Sequence[Run]) -> Figure | None:
    """CKA per time step over progress: biased and debiased estimate side by side."""
    cka_TK = {}
    for key, title in (("cka", "biased"), ("cka_debiased", "debiased")):
        u_K, cka_RKT = binned(runs, lambda step, key=key: step.get(key))
        if not len(u_K):
            return None
        cka_TK[title] = cka_RKT.mean(0).T
    figure = new_figure(2.6)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, title in zip(panels, cka_TK, strict=True):
        steps = len(cka_TK[title])
        axes.imshow(
            cka_TK[title],
            vmin=0,
            vmax=1,
            cmap="cividis",
            aspect="auto",
            interpolation="none",
            origin="lower",
            extent=(0, 1, 0.5, steps + 0.5),
        )
        axes.set_title(title, fontsize=10)
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.set_xlabel("progress u")
        axes.yaxis.set_major_locator(MaxNLocator(min(steps, 10), integer=True))
        axes.grid(visible=False)
    panels[0].set_ylabel("time step")
    image = panels[0].images[0]
    bar = figure.colorbar(image, ax=panels, label="CKA", extend="min", aspect=14)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    return figure


def with_coefficients(groups: Groups) -> list[str]:
    """Methods whose last training step has coefficients c_t."""
    return [
        method
        for method, runs in groups.items()
        if all(run.steps and "coefficient" in run.steps[-1] for run in runs)
    ]


def coefficients(groups: Groups) -> Figure | None:
    """The regulariser's coefficient of each time step at the end of training."""
    final = {
        method: np.array([run.steps[-1]["coefficient"] for run in groups[method]], float)
        for method in with_coefficients(groups)
    }
    if not final:
        return None
    figure = new_figure(2.6)
    axes = figure.add_subplot()
    starts = {
        1 / (1 + np.exp(-groups[method][0].config.objective.coefficient_start)) for method in final
    }
    values = np.concatenate([c_RT.ravel() for c_RT in final.values()] + [np.array(list(starts))])
    for start in sorted(starts):
        above = values.mean() < start
        axes.axhline(start, color=INK, lw=1, ls=":")
        axes.annotate(
            "at the start",
            (0.99, start),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3 if above else -3),
            textcoords="offset points",
            ha="right",
            va="bottom" if above else "top",
            fontsize=9,
        )
    for place, (method, c_RT) in enumerate(final.items()):
        style = style_of(method)
        step_T = np.arange(1, c_RT.shape[1] + 1) + 0.12 * (place - (len(final) - 1) / 2)
        axes.vlines(step_T, c_RT.min(0), c_RT.max(0), color=style.light, lw=1.6)
        axes.plot(step_T, c_RT.mean(0), style.marker, color=style.light, ms=7)
    axes.set_ylim(max(0, values.min() - 0.03), min(1, values.max() + 0.03))
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    axes.set_xlabel("time step t")
    axes.set_ylabel("coefficient")
    return figure


def spike_rates(groups: Groups) -> Figure | None:
    """Mean spikes per neuron and time step on the test recordings, by layer and method.

    Networks of ReLU are left out.
    """
    spiking = {m: r for m, r in groups.items() if r[0].config.student.neuron == "lif"}
    rates = {method: r for method, runs in spiking.items() if (r := mean_rates(runs))}
    if not rates:
        return None
    layers = list(next(iter(rates.values())))
    figure = new_figure(2.9)
    axes = figure.add_subplot()
    width = 0.8 / len(rates)
    for place, (method, rate) in enumerate(rates.items()):
        style = style_of(method)
        heights = [rate.get(layer, 0.0) for layer in layers]
        if len(rates) * len(layers) > _MOST_BARS:
            axes.plot(range(len(layers)), heights, color=style.light, marker=style.marker, lw=1)
        else:
            left = np.arange(len(layers)) + width * (place - (len(rates) - 1) / 2)
            axes.bar(left, heights, 0.9 * width, color=style.light)
    axes.set_ylim(bottom=0)
    prefix = os.path.commonprefix(layers) if len(layers) > 1 else ""
    axes.set_xticks(
        range(len(layers)),
        [layer.removeprefix(prefix) for layer in layers],
        rotation=60 if len(layers) > 12 else 0,
    )
    axes.set_xlabel("spiking layer")
    axes.set_ylabel("spikes per neuron and step")
    axes.grid(visible=False, axis="x")
    return figure
