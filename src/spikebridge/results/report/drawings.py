"""All figures of the page as SVG, each with its words."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from spikebridge.results.compare import Row
from spikebridge.results.report import curves, figures, gain, raster
from spikebridge.results.report.activity import Activity
from spikebridge.results.report.read import Run, mean_rates
from spikebridge.results.report.svg import drawing, inline
from spikebridge.results.tables import signed

Drawn = Mapping[str, tuple[Figure | None, str]]


def draw(
    rows: Sequence[Row],
    groups: Mapping[str, Sequence[Run]],
    shown: str | None,
    aligned: Sequence[str],
    gains: Sequence[gain.ClassGain],
    activity: Activity | None,
) -> dict[str, Markup]:
    """The figures for which there are data, by name.

    Args:
        rows: The table.
        groups: Runs by name, in the order of the table.
        shown: The student that the page shows closely.
        aligned: Names of those whose CKA is drawn.
        gains: Its gains, class by class.
        activity: Its spikes on one recording.
    """
    with drawing():
        drawn = {**_of_all(rows, groups, shown), **_of_one(groups, shown, gains, activity)}
        for method in aligned:
            drawn[f"cka-{method}"] = (
                figures.alignment(groups[method]),
                f"CKA of the two streams of {method}, by time step and progress, biased and "
                "debiased",
            )
        return {
            name: inline(figure, f"figure-{index}", label)
            for index, (name, (figure, label)) in enumerate(drawn.items())
            if figure is not None
        }


def best(runs: Sequence[Run]) -> float:
    """Validation top-1 of the selected epochs, mean over seeds; NaN where nothing selected."""
    found = [run.result["val_top1"] for run in runs]
    return float(np.mean([math.nan if top1 is None else top1 for top1 in found]))


def _of_all(
    rows: Sequence[Row], groups: Mapping[str, Sequence[Run]], shown: str | None
) -> dict[str, tuple[Figure | None, str]]:
    students = {method: runs for method, runs in groups.items() if runs[0].method != "teacher"}
    run = groups[shown][0] if shown else None
    hybrid = run is not None and run.config.objective.hybrid_until
    schedules = f"; below, P(u) and W(u) of {shown}" if hybrid else ""
    return {
        "accuracy": (
            figures.accuracy(rows),
            "Test accuracy: " + "; ".join(f"{row.name} {row.text} %" for row in rows),
        ),
        "curves": (
            curves.training(groups, run),
            "Validation accuracy over progress. Best: "
            + "; ".join(
                f"{m} {best(runs):.1f} %"
                for m, runs in groups.items()
                if not math.isnan(best(runs))
            )
            + schedules,
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
                if runs[0].config.student.neuron == "lif" and (rate := mean_rates(runs))
            ),
        ),
    }


def _of_one(
    groups: Mapping[str, Sequence[Run]],
    shown: str | None,
    gains: Sequence[gain.ClassGain],
    activity: Activity | None,
) -> dict[str, tuple[Figure | None, str]]:
    if shown is None:
        return {}
    drawn: dict[str, tuple[Figure | None, str]] = {
        "losses": (
            curves.losses(groups[shown]),
            f"Terms of the training loss of {shown} over progress",
        )
    }
    if gains:
        drawn["gains"] = (
            gain.gains_figure(gains, shown),
            f"Gain in accuracy of each class. Highest: {gains[0].class_name} "
            f"{signed(gains[0].mean)}; lowest: {gains[-1].class_name} {signed(gains[-1].mean)}",
        )
    if activity is not None:
        rates = "; ".join(f"{x} {100 * activity.rate(x):.0f} %" for x in activity.spikes_TN)
        drawn["raster"] = (raster.raster(activity, shown), f"Spikes of sampled neurons: {rates}")
        drawn["membrane"] = (
            raster.membrane(activity, shown),
            f"Membrane potential of {len(raster.chosen_neurons(activity))} neurons of "
            f"{activity.last} over the time steps",
        )
    return drawn
