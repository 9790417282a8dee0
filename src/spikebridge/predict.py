"""Classify event recordings by a trained student."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from spikebridge.data.frames import network_input
from spikebridge.data.prepared import frame_file
from spikebridge.errors import UserError
from spikebridge.models.inference import deploy
from spikebridge.models.student import Student
from spikebridge.runs import Trained


@dataclass(frozen=True)
class Prediction:
    """The most likely classes of one recording."""

    file: str
    classes: tuple[str, ...]
    """Best first."""
    confidences: tuple[float, ...]
    """Softmax of the logits averaged over T."""


@torch.no_grad()
def predict(trained: Trained, files: Sequence[str | Path], *, top: int = 5) -> list[Prediction]:
    """Top classes of recordings in any readable format, framed as the run's settings say.

    Args:
        trained: A student, from `load_run`.
        files: Recordings.
        top: Number of classes to report, at most all.

    Raises:
        UserError: a teacher was given, or a file cannot be read.
    """
    if not isinstance(trained.model, Student):
        raise UserError("this run is a teacher, which classifies photos; give a student's run")
    network, result = deploy(trained.model), []
    for file in files:
        counts_TCHW = frame_file(file, trained.config.data, trained.sensor)
        x_BTCHW = torch.from_numpy(network_input(counts_TCHW[None], trained.config.data.scale))
        logits_TBC = network(x_BTCHW.transpose(0, 1)).logits_TBC
        confidence_C = logits_TBC.mean((0, 1)).softmax(0)
        best = confidence_C.topk(min(top, len(trained.classes)))
        result.append(
            Prediction(
                str(file),
                tuple(trained.classes[i] for i in best.indices.tolist()),
                tuple(best.values.tolist()),
            )
        )
    return result
