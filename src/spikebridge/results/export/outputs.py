"""Spikes and logits of a student, and how far those of its exported file are from them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spikebridge.models.resnet import SpikingBlock
from spikebridge.models.student import SpikingLayer, Student
from spikebridge.results.export.graph import Graph, Spikes
from spikebridge.results.watched import watched

# Rounding moves a potential across θ in a few recordings of a hundred, and the layers behind carry
# it on; an error in a file shows in every recording, and is far larger (docs/export.md).
LOGITS_TOLERANCE = 0.05
"""Of the range of the student's logits."""
SPIKES_TOLERANCE = 1e-3
"""Of all neurons and steps."""
PREDICTIONS_TOLERANCE = 0.01
"""Of the recordings, so that none may differ among fewer than 100."""
_SAME_ACTIVATION = 1e-3


@dataclass(frozen=True)
class Outputs:
    """What a student, or its exported file, makes of some recordings."""

    logits_TBC: Tensor
    spikes: dict[str, Tensor]
    """By layer, x_TBCHW; activations where the neurons are ReLU."""


@dataclass(frozen=True)
class Difference:
    """How far an exported file is from its student on some recordings."""

    recordings: int
    logits: float
    """Greatest |Δ| of a logit, mean over T."""
    logit_range: float
    """Greatest minus least of the student's logits, mean over T, to compare with."""
    spikes: int
    """Neurons and steps where only one of the two spikes; of ReLU, where the activations differ by
    more than 0.1 % of the layer's greatest."""
    of: int
    """All neurons and steps."""
    predictions: int
    """Recordings whose most likely class differs."""
    equal: int
    """Recordings in which every spike is the same."""
    silent: tuple[str, ...] = ()
    """Layers in which the student never spikes: what reads them is not put to the test."""

    @property
    def tolerable(self) -> bool:
        """Whether the file can stand for the student; NaN is never tolerable."""
        return (
            self.logits <= LOGITS_TOLERANCE * self.logit_range
            and self.spikes <= SPIKES_TOLERANCE * self.of
            and self.predictions <= PREDICTIONS_TOLERANCE * self.recordings
        )

    def __str__(self) -> str:
        """In words, with what is allowed."""
        return (
            f"{self.recordings} recordings: logits differ by at most {self.logits:.2g}, of a range "
            f"of {self.logit_range:.3g} (allowed {100 * LOGITS_TOLERANCE:g} % of it); "
            f"{self.spikes:,} of {self.of:,} neurons and steps spike otherwise (allowed "
            f"{100 * SPIKES_TOLERANCE:g} %), all equal in {self.equal} recordings; "
            f"{self.predictions} predictions differ (allowed {100 * PREDICTIONS_TOLERANCE:g} %)"
            + (f"; never a spike in {', '.join(self.silent)}" if self.silent else "")
        )


@torch.no_grad()
def student_outputs(student: Student, graph: Graph, x_BTCHW: Tensor) -> Outputs:
    """Spikes and logits of the student itself, from its own layers.

    Args:
        student: On the CPU, in evaluation, float32.
        graph: What it was folded to; its names are taken.
        x_BTCHW: Network input.
    """
    fired: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        fired.append(output if isinstance(output, Tensor) else output[0])

    layers = [m for m in student.modules() if isinstance(m, SpikingLayer | SpikingBlock)]
    with watched(student, ((layer, keep) for layer in layers)):
        output = student(x_BTCHW.transpose(0, 1))
    if len(fired) < len(graph.neurons):
        # A VGG's last layer is asked for its potential, not called.
        fired.append(_fired(output.membrane_TBN, graph))
    return Outputs(output.logits_TBC, dict(zip(graph.neurons, fired, strict=True)))


def difference(student: Outputs, file: Outputs) -> Difference:
    """Compare what a student and its file make of the same recordings.

    Raises:
        ValueError: other layers or shapes.
    """
    shapes = [{name: x.shape for name, x in one.spikes.items()} for one in (student, file)]
    if shapes[0] != shapes[1] or student.logits_TBC.shape != file.logits_TBC.shape:
        raise ValueError(f"layers {shapes[0]} and {shapes[1]}")
    logits_BC, other_BC = student.logits_TBC.mean(0), file.logits_TBC.mean(0)
    apart_B = torch.zeros(len(logits_BC), dtype=torch.int64)
    for name, x_TBCHW in student.spikes.items():
        allowed = _SAME_ACTIVATION * float(x_TBCHW.max())
        same_TBCHW = (x_TBCHW - file.spikes[name]).abs() <= allowed
        apart_B += (~same_TBCHW).flatten(2).sum((0, 2))
    return Difference(
        recordings=len(logits_BC),
        logits=float((logits_BC - other_BC).abs().max()),
        logit_range=float(logits_BC.max() - logits_BC.min()),
        spikes=int(apart_B.sum()),
        of=sum(x.numel() for x in student.spikes.values()),
        equal=int((apart_B == 0).sum()),
        predictions=int((logits_BC.argmax(1) != other_BC.argmax(1)).sum()),
        silent=tuple(name for name, x_TBCHW in student.spikes.items() if not x_TBCHW.any()),
    )


def _fired(membrane_TBN: Tensor, graph: Graph) -> Tensor:
    node = next(node for node in graph.nodes if node.name == graph.neurons[-1])
    membrane_TBCHW = membrane_TBN.unflatten(2, node.shape)
    if isinstance(node.operation, Spikes):
        return (membrane_TBCHW >= node.operation.threshold).float()
    return membrane_TBCHW.relu()
