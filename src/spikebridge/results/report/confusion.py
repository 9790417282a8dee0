"""Which classes a method takes for which, from its predictions of the test recordings."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spikebridge.results.report.read import Run

WHOLE, WORST = 30, 20
"""Beyond 30 classes the matrix shows the 20 worst."""


@dataclass(frozen=True)
class Pair:
    """Recordings of one class taken for another."""

    truth: int
    prediction: int
    count: int
    of: int
    """Test recordings of the true class."""

    @property
    def percent(self) -> float:
        """Share of the class's recordings."""
        return 100 * self.count / self.of


@dataclass(frozen=True)
class Matrix:
    """Confusions of some classes, in percent of each row's recordings."""

    classes: tuple[int, ...]
    percent_RC: np.ndarray
    others_R: np.ndarray
    """Percent that went to classes that are not shown; zeros where all are."""
    whole: bool


def count_confusions(runs: Sequence[Run]) -> np.ndarray:
    """count_CC of true class and prediction, summed over the runs' test recordings.

    Raises:
        UserError: a run lacks its predictions.
    """
    classes = len(runs[0].classes)
    count_CC = np.zeros((classes, classes), np.int64)
    for run in runs:
        for said in run.predictions:
            count_CC[said.label, said.prediction] += 1
    return count_CC


def worst_pairs(count_CC: np.ndarray, most: int) -> list[Pair]:
    """The most frequent confusions, by their share of the true class's recordings."""
    of_C = count_CC.sum(1)
    pairs = [
        Pair(int(truth), int(prediction), int(count_CC[truth, prediction]), int(of_C[truth]))
        for truth, prediction in zip(*np.nonzero(count_CC), strict=True)
        if truth != prediction
    ]
    pairs.sort(key=lambda p: (-p.percent, -p.count, p.truth, p.prediction))
    return pairs[:most]


def matrix(count_CC: np.ndarray) -> Matrix:
    """All tested classes, or of more than 30 the 20 in the worst pairs, in the order of classes."""
    tested = np.flatnonzero(count_CC.sum(1) + count_CC.sum(0))
    whole = len(tested) <= WHOLE
    if whole:
        shown = tested
    else:
        ends = [
            end for p in worst_pairs(count_CC, count_CC.size) for end in (p.truth, p.prediction)
        ]
        shown = np.sort(np.array(list(dict.fromkeys([*ends, *tested.tolist()]))[:WORST]))
    percent_CC = 100 * count_CC / np.maximum(count_CC.sum(1, keepdims=True), 1)
    percent_RC = percent_CC[np.ix_(shown, shown)]
    others_R = percent_CC[shown].sum(1) - percent_RC.sum(1)
    return Matrix(tuple(shown.tolist()), percent_RC, others_R.clip(min=0).round(9), whole)
