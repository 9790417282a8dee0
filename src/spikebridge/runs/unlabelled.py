"""Photos without labels: a labeller answers once on each, and joins the sure ones to a class."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikebridge.base.console import working
from spikebridge.base.devices import all_to_device
from spikebridge.data.feed.sets import EventSet, PhotoSet
from spikebridge.data.manifest import UNKNOWN
from spikebridge.data.prepared import PreparedData
from spikebridge.data.simulation.converter import Converter
from spikebridge.models.student import Student
from spikebridge.models.teacher import Teacher
from spikebridge.training.evaluate import evaluate_student, evaluate_teacher
from spikebridge.training.precision import Autocast

_CHUNK = 400


@dataclass(frozen=True)
class Pool:
    """What a labeller answered on the photos without labels, N of them."""

    photos: PhotoSet
    """Their labels are those that a study hides, or `UNKNOWN`."""
    labeller: str
    """`teacher` or `student`."""
    least_confidence: float
    """From which on a photo is taken."""
    answer_N: np.ndarray
    """Class indices."""
    confidence_N: np.ndarray
    """Probability of each answer."""

    @cached_property
    def accepted_K(self) -> np.ndarray:
        """Indices of the photos that are taken."""
        return np.flatnonzero(self.confidence_N >= self.least_confidence)

    def beside(self, photos: PhotoSet) -> PhotoSet:
        """Labelled photos and, behind them, those that are taken."""
        accepted_K = self.accepted_K
        return photos.with_answers(self.photos, accepted_K, self.answer_N[accepted_K])

    def told(self, classes: Sequence[str]) -> dict[str, Any]:
        """What became of them, for ``result.json``."""
        accepted_K, label_N = self.accepted_K, self.photos.label_N
        counts = Counter(self.answer_N[accepted_K].tolist())
        known_K = accepted_K[label_N[accepted_K] != UNKNOWN]
        return {
            "photos": len(label_N),
            "labeller": self.labeller,
            "accepted": len(accepted_K),
            "turned_away": len(label_N) - len(accepted_K),
            "accepted_by_class": {name: counts[i] for i, name in enumerate(classes)},
            # Of those whose label a study hides.
            "known": int((label_N != UNKNOWN).sum()),
            "known_accepted": len(known_K),
            "known_right": int((self.answer_N[known_K] == label_N[known_K]).sum()),
        }

    def text(self, classes: Sequence[str]) -> str:
        """All of it as CSV."""
        text, accepted = io.StringIO(), set(self.accepted_K.tolist())
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("file", "class", "answer", "confidence", "accepted"))
        for row, file in enumerate(self.photos.files):
            label = int(self.photos.label_N[row])
            known = "" if label == UNKNOWN else classes[label]
            sure = f"{self.confidence_N[row]:.4f}"
            writer.writerow((file, known, classes[self.answer_N[row]], sure, row in accepted))
        return text.getvalue()


def left_out(photos: int) -> dict[str, Any]:
    """What ``result.json`` says where nobody answers on so many photos."""
    return {"photos": photos, "labeller": None, "accepted": 0, "turned_away": photos}


def answers(
    model: Teacher | Student, data: PreparedData, device: torch.device, autocast: Autocast
) -> tuple[np.ndarray, np.ndarray]:
    """Answer on each plain photo without a label; the same model gives the same bits.

    Args:
        model: A teacher sees the photo, a student a simulated recording of it.
        data: With such photos.
        device: Where the model is.
        autocast: Precision.

    Returns:
        answer_N, class indices, and confidence_N, their probabilities.
    """
    assert data.unlabelled is not None
    count = len(data.unlabelled.files)
    with working(f"answering on {count:,} photos without labels"):
        if isinstance(model, Teacher):
            found = evaluate_teacher(model, data.unlabelled, device=device, autocast=autocast)
            logits_NC = found.logits_NC
        else:
            logits_NC = _students(model, data, device, autocast)
    confidence_N, answer_N = logits_NC.softmax(1).max(1)
    return answer_N.numpy(), confidence_N.numpy()


def _students(
    student: Student, data: PreparedData, device: torch.device, autocast: Autocast
) -> Tensor:
    """A student's logits_NC on one simulated recording of each photo."""
    photos, like = data.unlabelled, data.events["train"]
    assert photos is not None
    parts = []
    for start in range(0, len(photos.files), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(photos.files)))
        counts_NTCHW = _recorded(photos, rows, like, device)
        events = EventSet(counts_NTCHW, photos.label_N[rows], ("",) * len(rows), like.scale)
        found = evaluate_student(student, events, device=device, autocast=autocast)
        parts.append(found.logits_NC)
    return torch.cat(parts)


def _recorded(
    photos: PhotoSet, rows: np.ndarray, like: EventSet, device: torch.device
) -> np.ndarray:
    """One recording of some photos as counts x_NTCHW: the first that was simulated, or a new one.

    A new one is by the camera in the middle, and depends on the photo's place alone.
    """
    if photos.simulated_NTCHW is not None:
        return photos.simulated_NTCHW[rows]
    source = photos.step_source
    assert source is not None
    time_steps, _, height, width = like.frames_NTCHW.shape[1:]
    converter = Converter(
        source.simulator, (height, width), time_steps, extent=source.extent, device=device
    )
    takes = converter.takes([source.simulator] * len(rows), rows.tolist())
    photo_B3HW = torch.from_numpy(photos.photos_N3HW[rows]).to(device).float().div_(255)
    with torch.no_grad():
        counts_NTCHW = converter(photo_B3HW, all_to_device(takes, device))
    return counts_NTCHW.cpu().numpy().astype(np.uint16)
