"""Accuracy of students and teachers on one split."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from spikebridge.base.files import write_text
from spikebridge.data.feed.sets import EventSet, PhotoSet
from spikebridge.models.fast.inference import deploy
from spikebridge.models.student import Student
from spikebridge.training.precision import Autocast

_BATCH = 100


@dataclass(frozen=True)
class Evaluation:
    """Result on one split."""

    logits_NC: Tensor
    """Mean over T for a student."""
    label_N: np.ndarray
    files: tuple[str, ...]
    rates: dict[str, float]
    """Mean spikes per neuron and time step, by layer; empty for a teacher."""

    @property
    def prediction_N(self) -> np.ndarray:
        """Class indices."""
        return self.logits_NC.argmax(1).numpy()

    @property
    def top1(self) -> float:
        """Top-1 accuracy in percent."""
        return 100.0 * float((self.prediction_N == self.label_N).mean())

    @property
    def loss(self) -> float:
        """Cross-entropy of the mean logits."""
        return F.cross_entropy(self.logits_NC, torch.from_numpy(self.label_N)).item()

    def write(self, path: Path) -> None:
        """Write file, label, prediction and confidence as CSV, atomically."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("file", "label", "prediction", "confidence"))
        confidence_N = self.logits_NC.softmax(1).amax(1).tolist()
        for row in zip(self.files, self.label_N, self.prediction_N, confidence_N, strict=True):
            writer.writerow([*row[:3], f"{row[3]:.4f}"])
        write_text(path, text.getvalue())


@torch.no_grad()
def evaluate_student(
    student: Student,
    events: EventSet,
    *,
    device: torch.device,
    autocast: Autocast,
) -> Evaluation:
    """Run the DVS head over a split, with running statistics as the loop has measured them."""
    training = student.training
    student.eval()
    network: torch.nn.Module = student
    if device.type == "cpu":
        with autocast():
            network = deploy(student)
    logits, found = [], []
    for rows in _batches(len(events.label_N)):
        frames_BTCHW = torch.from_numpy(events.input(rows))
        with autocast():
            output = network(frames_BTCHW.to(device).transpose(0, 1))
        logits.append(output.logits_TBC.float().mean(0))
        found.append((output.rates, len(frames_BTCHW)))
    student.train(training)
    rates = {
        name: sum(rates[name].item() * count for rates, count in found) / len(events.label_N)
        for name in found[0][0]
    }
    return Evaluation(torch.cat(logits).cpu(), events.label_N, events.files, rates)


@torch.no_grad()
def evaluate_teacher(
    teacher: torch.nn.Module,
    photos: PhotoSet,
    *,
    device: torch.device,
    autocast: Autocast,
) -> Evaluation:
    """Run a teacher over a split of photos."""
    training = teacher.training
    teacher.eval()
    logits = []
    for rows in _batches(len(photos.label_N)):
        photo_B3HW = torch.from_numpy(photos.photos_N3HW[rows].astype(np.float32))
        with autocast():
            logits.append(teacher(photo_B3HW.to(device).div_(255)).float())
    teacher.train(training)
    return Evaluation(torch.cat(logits).cpu(), photos.label_N, photos.files, {})


def _batches(count: int) -> Iterator[slice]:
    for start in range(0, count, _BATCH):
        yield slice(start, start + _BATCH)
