"""The dense bound: the student's convolutions and BatchNorm on as many frames, ReLU for LIF."""

import importlib.util
import os
import shutil

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikebridge.bench.reference import Fold, Parts, PlainStudent
from spikebridge.config import StudentConfig
from spikebridge.neurons.norm import Stream


class ReLUParts(Parts):
    """Plain PyTorch without neurons."""

    def fold(self, *layers: nn.Module) -> nn.Module:
        """Time folded into the batch."""
        return Fold(*layers)

    def neuron(self, *, last: bool) -> nn.Module:
        """ReLU."""
        return _ReLU()


class _ReLU(nn.Module):
    def forward(self, current_TN: Tensor) -> tuple[Tensor, None]:
        return F.relu(current_TN), None


class ReLUNetwork(nn.Module):
    """The network up to its logits, channels-last; each stream has its own statistics and head.

    Args:
        config: Architecture and width.
        classes: C.
        size: (height, width) of the input in pixels.
        compiled: Give the layers before the heads to `torch.compile`.
    """

    def __init__(
        self, config: StudentConfig, classes: int, size: tuple[int, int], *, compiled: bool
    ) -> None:
        super().__init__()
        self.student = PlainStudent(ReLUParts(), config, classes, size)
        self.student.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self._features = torch.compile(self._eager, dynamic=False) if compiled else self._eager

    def forward(self, x_TBCHW: Tensor, stream: Stream) -> Tensor:
        """logits_TBC of one stream."""
        x_NCHW = x_TBCHW.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        features_TBN = self._features(x_NCHW.unflatten(0, x_TBCHW.shape[:2]))
        head = self.student.head_dvs if stream == "dvs" else self.student.head_hybrid
        return head(features_TBN)

    def _eager(self, x_TBCHW: Tensor) -> Tensor:
        return self.student.backbone(x_TBCHW)[0].flatten(2)


def why_not_compiled(device: torch.device) -> str | None:
    """Why `torch.compile` cannot be used here, or None."""
    if device.type == "cuda":
        return None if importlib.util.find_spec("triton") else "Triton is not installed"
    compilers = [os.environ.get("CXX"), "g++", "clang++"]
    return None if any(c and shutil.which(c) for c in compilers) else "there is no C++ compiler"
