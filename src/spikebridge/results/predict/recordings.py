"""Classes of stored recordings, whole or window by window."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from spikebridge.base.errors import UserError
from spikebridge.data.datasets.catalog import read_recording
from spikebridge.data.datasets.walk import files_below
from spikebridge.data.events import EVENT_SUFFIXES, Events
from spikebridge.results.predict.classify import Classifier, Guess
from spikebridge.results.predict.windows import WindowCutter
from spikebridge.results.trained import Trained


@dataclass(frozen=True)
class Prediction:
    """The most likely classes of one recording."""

    file: str
    events: int
    guess: Guess

    @property
    def classes(self) -> tuple[str, ...]:
        """Best first."""
        return self.guess.classes

    @property
    def confidences(self) -> tuple[float, ...]:
        """Softmax of the mean of the logits of the time steps that were taken."""
        return self.guess.confidences

    def as_json(self) -> dict[str, Any]:
        """One line of ``--json``."""
        return {"file": self.file, "events": self.events, **self.guess.as_json()}


@dataclass(frozen=True)
class TimedGuess:
    """One line of a time line."""

    start_ms: float
    """From the first event of the recording or the stream."""
    end_ms: float
    events: int
    guess: Guess | None
    """None where there are too few events."""

    def as_json(self) -> dict[str, Any]:
        """One line of ``--json``, without the file's name."""
        line = {"start_ms": self.start_ms, "end_ms": self.end_ms, "events": self.events}
        if self.guess is None:
            return {**line, "too_few_events": True, "steps": None, "top": []}
        return {**line, "too_few_events": False, **self.guess.as_json()}


def find_recordings(paths: Iterable[str]) -> Iterator[str]:
    """Files as they are given, and the recordings in folders, at any depth, in order of name.

    Raises:
        UserError: a folder holds no recording.
    """
    for path in paths:
        if not os.path.isdir(path):
            yield path
            continue
        files = files_below(Path(path), EVENT_SUFFIXES)
        if not files:
            raise UserError(
                f"{path}: no recording found; expected files that end in "
                f"{', '.join(EVENT_SUFFIXES)}"
            )
        yield from map(str, files)


def predict(
    trained: Trained,
    files: Sequence[str | Path],
    *,
    top: int = 5,
    confidence: float | None = None,
) -> list[Prediction]:
    """Top classes of recordings in any readable format, framed as the run's settings say.

    Args:
        trained: A student, from `load_run`.
        files: Recordings.
        top: Number of classes to report, at most all.
        confidence: As `Classifier` takes it.

    Raises:
        UserError: a teacher was given, or a file cannot be read.
    """
    classifier = Classifier(trained, top=top, confidence=confidence)
    return [classify_file(classifier, file) for file in files]


def classify_file(classifier: Classifier, file: str | Path) -> Prediction:
    """The most likely classes of one recording.

    Raises:
        UserError: the file cannot be read, or holds too few events.
    """
    events = _read(classifier, file)
    if len(events) < classifier.min_events > classifier.trained.config.data.time_steps:
        raise UserError(
            f"{file}: {len(events)} events are fewer than min-events; lower it or remove the file"
        )
    try:
        return Prediction(str(file), len(events), classifier(events))
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def time_line(
    classifier: Classifier, file: str | Path, window_ms: float, stride_ms: float | None = None
) -> Iterator[TimedGuess]:
    """Classes of a recording's windows [k·stride, k·stride + window) in order, from event 0 on.

    The last window ends with the recording. Windows are framed as recordings of their own, but for
    their extent, which is the whole recording's. Neighbours without any event are one line.

    Args:
        classifier: Of the run.
        file: The recording.
        window_ms: Length of a window in ms.
        stride_ms: From one start to the next in ms; None takes ``window_ms``.

    Raises:
        UserError: the file cannot be read, or a length is below 1 µs.
    """
    events = _read(classifier, file)
    cutter = WindowCutter(window_ms, stride_ms, events.sensor)
    extent = (int(events.x_N.max()) + 1, int(events.y_N.max()) + 1)
    pushed = cutter.push((events.x_N, events.y_N, events.t_N, events.polarity_N))
    for window in chain(pushed, cutter.flush()):
        few = len(window.events) < classifier.min_events
        guess = None if few else classifier(window.events, extent)
        start_ms, end_ms = window.start_us / 1e3, window.end_us / 1e3
        yield TimedGuess(start_ms, end_ms, len(window.events), guess)


def _read(classifier: Classifier, file: str | Path) -> Events:
    return read_recording(file, classifier.trained.config.data, classifier.trained.sensor)
