"""A few test recordings as pictures, with what the networks said of them."""

import base64
import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from spikebridge.data.catalog import PhotoReader
from spikebridge.data.manifest import Entry
from spikebridge.data.prepared import frame_file
from spikebridge.errors import UserError
from spikebridge.report.palette import EMPTY_RGB, OFF_RGB, ON_RGB
from spikebridge.report.read import Run
from spikebridge.runs import load_run

_CORRECT, _WRONG = 4, 2
_LARGEST = 160


@dataclass(frozen=True)
class Guess:
    """What one network said of one recording."""

    method: str
    class_name: str
    confidence: float
    """Softmax of the mean logits."""
    correct: bool


@dataclass(frozen=True)
class Example:
    """One test recording."""

    name: str
    class_name: str
    photo: str | None
    """Data URI; None where there is no photo to show."""
    photo_note: str
    """What the photo is."""
    frames: tuple[str, ...]
    """Data URIs of the T time steps; empty where the recording cannot be read any more."""
    guesses: tuple[Guess, ...]


@dataclass(frozen=True)
class _Line:
    """One line of ``predictions.csv``."""

    file: str
    label: int
    prediction: int
    confidence: float


def examples(run: Run, others: Sequence[Run]) -> list[Example]:
    """Up to four correctly and two wrongly classified test recordings of a student's run.

    The choice follows from predictions.csv alone: of each kind, the first recordings of classes
    that lie evenly in the list.

    Args:
        run: The student whose predictions choose.
        others: Further students, whose predictions of the same recordings are shown too.

    Raises:
        UserError: a run lacks its predictions or its weights.
    """
    trained = load_run(run.folder)
    lines = _read_predictions(run)
    correct = [line for line in lines if line.prediction == line.label]
    wrong = [line for line in lines if line.prediction != line.label]
    recordings = {e.file: e for e in run.manifest.entries if e.kind == "recording"}
    photos = [e for e in run.manifest.entries if e.kind == "photo"]
    reader = PhotoReader()
    said = [(run, {line.file: line for line in lines})]
    said += [(other, {line.file: line for line in _read_predictions(other)}) for other in others]
    found = []
    for line in _spread(correct, _CORRECT) + _spread(wrong, _WRONG):
        photo, photo_note = _photo(recordings.get(line.file), photos, line.label, reader)
        try:
            frames = _event_pictures(frame_file(line.file, trained.config.data, trained.sensor))
        except UserError:
            frames = ()
        found.append(
            Example(
                Path(line.file).name,
                trained.classes[line.label],
                photo,
                photo_note,
                frames,
                tuple(
                    _guess(member, by_file[line.file])
                    for member, by_file in said
                    if line.file in by_file
                ),
            )
        )
    return found


def _read_predictions(run: Run) -> list[_Line]:
    path = run.folder / "predictions.csv"
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            return [
                _Line(r["file"], int(r["label"]), int(r["prediction"]), float(r["confidence"]))
                for r in csv.DictReader(stream)
            ]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path}: missing or damaged; train the run again") from error


def _spread(lines: list[_Line], count: int) -> list[_Line]:
    """Up to ``count`` lines, first those of different classes that lie evenly among the classes."""
    by_class: dict[int, list[_Line]] = defaultdict(list)
    for line in lines:
        by_class[line.label].append(line)
    ranks = [(rank, label) for label, group in by_class.items() for rank in range(len(group))]
    ordered = [by_class[label][rank] for rank, label in sorted(ranks)]
    pool = ordered[: max(count, len(by_class))]
    places = np.linspace(0, len(pool) - 1, min(count, len(pool))).round().astype(int)
    return [pool[place] for place in places]


def _guess(run: Run, line: _Line) -> Guess:
    name = run.result["classes"][line.prediction]
    return Guess(run.method, name, line.confidence, line.prediction == line.label)


def _photo(
    recording: Entry | None, photos: list[Entry], label: int, reader: PhotoReader
) -> tuple[str | None, str]:
    """The photo that was recorded, or else a training photo of the class; and which it is."""
    pair = recording.pair if recording else ""
    shown = next((e for e in photos if pair and e.pair == pair), None)
    note = "the photo it was made of"
    if shown is None:
        shown = next((e for e in photos if e.label == label and e.split == "train"), None)
        note = "a training photo of the class"
    if shown is None:
        return None, "no photo of the class"
    try:
        photo_HWC = reader(shown)
    except UserError:
        return None, f"{note}: the file is no longer there"
    return _data_uri(photo_HWC), note


def _event_pictures(frames_TCHW: np.ndarray) -> tuple[str, ...]:
    """Time steps as pictures: ON and OFF mixed by their counts, brighter for more events."""
    off_THW, on_THW = frames_TCHW[:, 0].astype(float), frames_TCHW[:, 1].astype(float)
    total_THW = off_THW + on_THW
    brightest = max(1.0, float(np.quantile(total_THW[total_THW > 0], 0.95)))
    strength_THW1 = np.sqrt(np.minimum(total_THW / brightest, 1.0))[..., None]
    share_THW1 = (on_THW / np.maximum(total_THW, 1.0))[..., None]
    colour = share_THW1 * np.array(ON_RGB) + (1 - share_THW1) * np.array(OFF_RGB)
    picture_THWC = strength_THW1 * colour + (1 - strength_THW1) * np.array(EMPTY_RGB)
    return tuple(_data_uri(picture.round().astype(np.uint8)) for picture in picture_THWC)


def _data_uri(picture_HWC: np.ndarray) -> str:
    image = Image.fromarray(picture_HWC)
    if max(image.size) > _LARGEST:
        image.thumbnail((_LARGEST, _LARGEST))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
