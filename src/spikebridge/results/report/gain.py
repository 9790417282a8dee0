"""What a method gains over another, class by class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from spikebridge.results.report.confusion import count_confusions
from spikebridge.results.report.palette import INK, style_of
from spikebridge.results.report.read import Run
from spikebridge.results.report.svg import new_figure
from spikebridge.results.tables import signed

WHOLE, ENDS = 40, 15
"""Beyond 40 classes the 15 best and the 15 worst are drawn."""
_LONGEST = 20


@dataclass(frozen=True)
class ClassGain:
    """One class's difference of accuracy, in percentage points."""

    class_name: str
    by_seed: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.by_seed))


def class_gains(runs: Sequence[Run], baseline: Sequence[Run]) -> list[ClassGain]:
    """Differences of each class's test accuracy at equal seeds, best first.

    Args:
        runs: Runs of the method.
        baseline: Runs of the method that it is compared with.

    Returns:
        Classes that are tested in every common seed; empty without a common seed.

    Raises:
        UserError: a run lacks its predictions.
    """
    of_baseline = {run.seed: run for run in baseline}
    pairs = [(run, of_baseline[run.seed]) for run in runs if run.seed in of_baseline]
    if not pairs:
        return []
    gain_SC = np.array([_accuracy_C(own) - _accuracy_C(other) for own, other in pairs])
    gains = [
        ClassGain(name, tuple(gain_S.tolist()))
        for name, gain_S in zip(runs[0].classes, gain_SC.T, strict=True)
        if np.isfinite(gain_S).all()
    ]
    return sorted(gains, key=lambda g: (-round(g.mean, 9), g.class_name))


def gains_figure(gains: Sequence[ClassGain], method: str) -> Figure:
    """A bar for each class, and every seed."""
    split = len(gains) > WHOLE
    shown = [*gains[:ENDS], *gains[-ENDS:]] if split else list(gains)
    place_B = np.arange(len(shown), dtype=float)
    if split:
        place_B[ENDS:] += 1
    figure = new_figure(0.7 + 0.2 * (place_B[-1] + 1))
    axes = figure.add_subplot()
    axes.axvline(0, color=INK, lw=0.8)
    colour = style_of(method).light
    axes.barh(place_B, [g.mean for g in shown], 0.66, color=colour, alpha=0.55)
    for place, gain in zip(place_B, shown, strict=True):
        if len(gain.by_seed) > 1:
            axes.plot(gain.by_seed, [place] * len(gain.by_seed), "|", color=INK, ms=7, mew=1)
        axes.annotate(signed(gain.mean), (1.02, place), xycoords=("axes fraction", "data"),
                      va="center", fontsize=8.5)  # fmt: skip
    if split:
        between = f"… {len(gains) - 2 * ENDS} classes between …"
        axes.annotate(between, (0.5, ENDS), xycoords=("axes fraction", "data"),
                      ha="center", va="center", fontsize=8.5)  # fmt: skip
    names = [g.class_name for g in shown]
    axes.set_yticks(place_B, [n if len(n) <= _LONGEST else n[: _LONGEST - 1] + "…" for n in names])
    axes.tick_params("y", labelsize=8.5)
    axes.set_ylim(place_B[-1] + 0.6, -0.6)
    axes.set_xlabel("gain in test accuracy, points")
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    return figure


def _accuracy_C(run: Run) -> np.ndarray:
    """Test accuracy of each class in percent; NaN for a class that is not tested."""
    count_CC = count_confusions([run])
    of_C = count_CC.sum(1)
    return np.where(of_C > 0, 100 * count_CC.diagonal() / np.maximum(of_C, 1), np.nan)
