"""Test recordings as pictures, with what the networks said of them."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np

from spikebridge.base.errors import UserError
from spikebridge.data.datasets.catalog import PhotoReader
from spikebridge.data.frames import network_input
from spikebridge.data.prepared import frame_file
from spikebridge.results.report.confusion import Pair
from spikebridge.results.report.pictures import event_pictures, grid, photo_uri, strip
from spikebridge.results.report.read import Prediction, Run
from spikebridge.results.trained import Trained, evenly

RIGHT, WRONG = 4, 6

_T = TypeVar("_T")


@dataclass(frozen=True)
class Guess:
    """What one network said of one recording."""

    method: str
    class_name: str
    confidence: float
    """Softmax of the mean logits."""
    right: bool


@dataclass(frozen=True)
class Example:
    """One test recording."""

    name: str
    class_name: str
    photo: str | None
    """Data URI; None where there is no photo to show."""
    photo_note: str
    """What the photo is."""
    frames: str | None
    """Data URI of the T time steps; None where the recording cannot be read any more."""
    time_steps: int
    size: tuple[int, int]
    """Height and width of a frame in pixels."""
    guesses: tuple[Guess, ...]


@dataclass(frozen=True)
class Mistake:
    """A confused pair of classes, each shown by a recording."""

    pair: Pair
    seed: int
    """Of the run that is pictured: the first one that made it."""
    pictures: tuple[Example, ...]
    """A recording of the true class that was taken for the other one, and, where one is tested, a
    recording of the class it was taken for."""


class Recordings:
    """The test recordings of a student's run.

    Args:
        run: The run.
        trained: Its network, which tells how recordings are framed.
        others: Further students, whose predictions of the same recordings are shown too.

    Raises:
        UserError: a run lacks its predictions.
    """

    def __init__(self, run: Run, trained: Trained, others: Sequence[Run] = ()) -> None:
        self.run, self._config, self._sensor = run, trained.config.data, trained.sensor
        self._said = [(r, {p.file: p for p in r.predictions}) for r in (run, *others)]
        self._entries = {e.file: e for e in run.manifest.entries if e.kind == "recording"}
        self._photos = [e for e in run.manifest.entries if e.kind == "photo"]
        self._reader = PhotoReader()
        self.input = cache(self._input)

    @property
    def right(self) -> list[Prediction]:
        """Up to four that were classified rightly, the first of classes that lie evenly."""
        return _spread([p for p in self.run.predictions if p.right], RIGHT)

    @property
    def wrong(self) -> list[Prediction]:
        """Up to six that were not."""
        return _spread([p for p in self.run.predictions if not p.right], WRONG)

    @property
    def readable(self) -> bool:
        """Whether any of these is still there."""
        return any(self.input(p.file) is not None for p in (*self.right, *self.wrong))

    def _input(self, file: str) -> np.ndarray | None:
        """A recording as network input x_TCHW; None where it cannot be read any more."""
        try:
            counts_TCHW = frame_file(file, self._config, self._sensor)
        except UserError:
            return None
        return network_input(counts_TCHW[None], self._config.scale)[0]

    def still(self, said: Prediction) -> Example:
        """A recording with its time steps side by side."""
        return self._example(said, grid)

    def film(self, said: Prediction) -> Example:
        """A recording with its time steps in one row, the frames of an animation."""
        return self._example(said, strip)

    def mistake(self, pair: Pair) -> Mistake | None:
        """A confused pair in pictures; None where this run did not make it."""
        ends = pair.truth, pair.prediction
        confused = _first(p for p in self.run.predictions if (p.label, p.prediction) == ends)
        if confused is None:
            return None
        of_class = [p for p in self.run.predictions if p.label == pair.prediction]
        other = _first(p for p in of_class if p.right) or _first(of_class)
        pictured = [confused] if other is None else [confused, other]
        return Mistake(pair, self.run.seed, tuple(map(self.still, pictured)))

    def _example(self, said: Prediction, arrange: Callable[[np.ndarray], str]) -> Example:
        x_TCHW = self.input(said.file)
        photo, note = self._photo(said)
        return Example(
            Path(said.file).name,
            self.run.classes[said.label],
            photo,
            note,
            None if x_TCHW is None else arrange(event_pictures(x_TCHW)),
            self._config.time_steps,
            self._config.size,
            tuple(
                Guess(r.name, r.classes[p.prediction], p.confidence, p.right)
                for r, by_file in self._said
                if (p := by_file.get(said.file)) is not None
            ),
        )

    def _photo(self, said: Prediction) -> tuple[str | None, str]:
        """The photo that was recorded, or else a training photo of the class; and which it is."""
        recording = self._entries.get(said.file)
        pair = recording.pair if recording else ""
        shown = _first(e for e in self._photos if pair and e.pair == pair)
        note = "the photo it was made of"
        if shown is None:
            shown = _first(e for e in self._photos if e.label == said.label and e.split == "train")
            note = "a training photo of the class"
        if shown is None:
            return None, "no photo of the class"
        try:
            return photo_uri(self._reader(shown)), note
        except UserError:
            return None, f"{note}: the file is no longer there"


def _first(some: Iterable[_T]) -> _T | None:
    return next(iter(some), None)


def _spread(said: list[Prediction], count: int) -> list[Prediction]:
    """Up to ``count``, first those of different classes that lie evenly among the classes."""
    by_class: dict[int, list[Prediction]] = defaultdict(list)
    for one in said:
        by_class[one.label].append(one)
    ranks = [(rank, label) for label, group in by_class.items() for rank in range(len(group))]
    ordered = [by_class[label][rank] for rank, label in sorted(ranks)]
    candidates = ordered[: max(count, len(by_class))]
    return [candidates[place] for place in evenly(len(candidates), count)]
