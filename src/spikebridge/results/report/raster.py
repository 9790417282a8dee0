"""Spikes and membrane potentials over the time steps of one recording."""

import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spikebridge.results.report.activity import Activity
from spikebridge.results.report.palette import INK, style_of
from spikebridge.results.report.svg import new_figure

NEURONS, TRACES = 40, 4
_COLUMNS = 4


def sampled(count: int) -> np.ndarray:
    """Up to 40 of a layer's neurons, drawn with a fixed seed, in the order of the layer."""
    chosen = np.random.default_rng(0).permutation(count)[:NEURONS]
    return np.sort(chosen)


def raster(activity: Activity, method: str) -> Figure:
    """A small raster for each layer: sampled neurons over time steps, a mark for each spike."""
    layers = list(activity.spikes_TN)
    lines = math.ceil(len(layers) / _COLUMNS)
    figure = new_figure(0.35 + 1.25 * lines)
    panels = np.atleast_1d(figure.subplots(lines, _COLUMNS, sharex=True, squeeze=False)).ravel()
    steps = len(activity.membrane_TN)
    for place, axes in enumerate(panels):
        if place >= len(layers):
            axes.set_visible(False)
            continue
        spikes_TN = activity.spikes_TN[layers[place]]
        chosen = sampled(spikes_TN.shape[1])
        step, neuron = np.nonzero(spikes_TN[:, chosen])
        size = min(5.0, 40 / steps)
        axes.plot(step + 1, neuron, "_", color=style_of(method).light, ms=size, mew=1.5)
        axes.set_title(f"{layers[place]} {100 * spikes_TN.mean():.0f} %", fontsize=8.5)
        axes.set_xlim(0.4, steps + 0.6)
        axes.set_ylim(-1, len(chosen))
        axes.set_yticks([])
        axes.xaxis.set_major_locator(MaxNLocator(min(steps, 5), integer=True))
        axes.tick_params("x", labelsize=8.5, labelbottom=place + _COLUMNS >= len(layers))
        axes.grid(visible=False)
    figure.supxlabel("time step", fontsize=9)
    figure.supylabel("sampled neurons", fontsize=9)
    return figure


def chosen_neurons(activity: Activity) -> list[int]:
    """Neurons of the last layer at even ranks of their highest potential.

    The first reaches the highest of all; the others stand one, two and three eighths down the
    list, for most neurons of a trained layer are silent.
    """
    top_N = activity.membrane_TN.max(0)
    order = np.argsort(-top_N, kind="stable")
    places = np.arange(TRACES) * len(order) // (2 * TRACES)
    return [int(order[place]) for place in dict.fromkeys(places.tolist())]


def membrane(activity: Activity, method: str) -> Figure:
    """Potential of a few neurons of the last layer, with threshold, spikes and resets."""
    chosen = chosen_neurons(activity)
    figure = new_figure(0.5 + 0.85 * len(chosen))
    panels = figure.subplots(len(chosen), 1, sharex=True, squeeze=False)[:, 0]
    steps = len(activity.membrane_TN)
    for axes, neuron in zip(panels, chosen, strict=True):
        before_T = activity.membrane_TN[:, neuron]
        fires_T = before_T >= activity.threshold
        after_T = np.where(fires_T, 0, before_T)
        # From rest at step 0: up or down to the potential before reset, and at a spike to zero.
        t_K = np.concatenate([[0], np.repeat(np.arange(1, steps + 1), 2)])
        v_K = np.concatenate([[0], np.stack([before_T, after_T], 1).ravel()])
        axes.axhline(activity.threshold, color=INK, lw=0.8, ls=":")
        axes.plot(t_K, v_K, color=style_of(method).light, lw=1.4)
        axes.plot(np.flatnonzero(fires_T) + 1, before_T[fires_T], "o", color=INK, ms=3.5)
        axes.set_title(f"neuron {neuron}", fontsize=8.5, loc="left")
        axes.set_xlim(0, steps + 0.2)
        low, high = min(0.0, before_T.min()), max(activity.threshold, before_T.max())
        axes.set_ylim(low - 0.1 * (high - low), high + 0.15 * (high - low))
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.tick_params(labelsize=8.5)
    panels[-1].xaxis.set_major_locator(MaxNLocator(min(steps, 10), integer=True))
    panels[-1].set_xlabel("time step")
    figure.supylabel("membrane potential", fontsize=9)
    return figure
