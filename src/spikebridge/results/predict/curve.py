"""Accuracy against time steps: of a fixed number, and of stopping at a confidence."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikebridge.base.console import console, each
from spikebridge.base.errors import UserError
from spikebridge.data.datasets.walk import composed
from spikebridge.data.frames import network_input
from spikebridge.data.prepared import frame_file
from spikebridge.results.predict.classify import Classifier, running_mean, steps_until
from spikebridge.results.predict.recordings import find_recordings
from spikebridge.results.trained import Trained, data_of_run

CONFIDENCES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
_BATCH = 20


@dataclass(frozen=True)
class CurvePoint:
    """How often a way to stop is right, and when it stops."""

    confidence: float | None
    """None: stops at a fixed number of steps."""
    steps: float
    """Mean over the recordings."""
    top1: float
    """In percent."""


@dataclass(frozen=True)
class Curve:
    """The logits of labelled recordings, and what stopping early makes of them."""

    of: str
    """Which recordings, in words."""
    logits_TNC: Tensor
    label_N: Tensor

    @cached_property
    def by_steps(self) -> list[CurvePoint]:
        """Stopping after 1 … T steps."""
        right_TN = running_mean(self.logits_TNC).argmax(2) == self.label_N
        return [
            CurvePoint(None, step, 100 * float(right_N.double().mean()))
            for step, right_N in enumerate(right_TN, 1)
        ]

    @cached_property
    def by_confidence(self) -> list[CurvePoint]:
        """Stopping at each of some confidences."""
        right_TN = running_mean(self.logits_TNC).argmax(2) == self.label_N
        points = []
        for confidence in CONFIDENCES:
            steps_N = steps_until(self.logits_TNC, confidence)
            right_N = right_TN.gather(0, steps_N[None] - 1)[0]
            mean = float(steps_N.double().mean())
            points.append(CurvePoint(confidence, mean, 100 * float(right_N.double().mean())))
        return points

    def as_json(self) -> dict[str, Any]:
        """What ``--curve --json`` prints."""
        return {
            "of": self.of,
            "recordings": len(self.label_N),
            "time_steps": len(self.logits_TNC),
            "by_steps": [{"steps": p.steps, "top1": p.top1} for p in self.by_steps],
            "by_confidence": [
                {"confidence": p.confidence, "mean_steps": p.steps, "top1": p.top1}
                for p in self.by_confidence
            ],
        }


def curve_of_run(folder: Path, trained: Trained) -> Curve:
    """The curve on the validation recordings of a run.

    Raises:
        UserError: a teacher, or the run's data or manifest have changed since.
    """
    classifier = Classifier(trained)
    events = data_of_run(folder, trained).events["validation"]
    count = len(events.label_N)
    rows = [slice(start, start + _BATCH) for start in range(0, count, _BATCH)]
    logits = [classifier.logits(events.input(r)) for r in rows]
    return Curve(f"{folder}: validation", torch.cat(logits, 1), torch.from_numpy(events.label_N))


def curve_of_folder(trained: Trained, paths: Sequence[str]) -> Curve:
    """The curve on recordings that lie in folders named as their classes.

    Recordings in other folders are left out with a note.

    Raises:
        UserError: a teacher, no recording of the run's classes, or one cannot be read.
    """
    classifier, data = Classifier(trained), trained.config.data
    label_of = {composed(name): label for label, name in enumerate(trained.classes)}
    found = list(find_recordings(paths))
    labels = [label_of.get(composed(Path(file).parent.name)) for file in found]
    files = [file for file, label in zip(found, labels, strict=True) if label is not None]
    if not files:
        raise UserError(
            f"{paths[0]}: no recording in a folder named as a class of the run; expected CLASS/FILE"
            f" with {', '.join(trained.classes[:3])} …"
        )
    if left_out := len(found) - len(files):
        console.print(f"{left_out} of {len(found)} recordings are of no class of the run: left out")

    def logits_TC(file: str) -> Tensor:
        counts_TCHW = frame_file(file, data, trained.sensor)
        return classifier.logits(network_input(counts_TCHW[None], data.scale))[:, 0]

    logits_TNC = torch.stack(each(logits_TC, files, "classifying"), 1)
    label_N = np.array([label for label in labels if label is not None])
    return Curve(", ".join(paths), logits_TNC, torch.from_numpy(label_N))
