"""The dense bound: the student's convolutions and BatchNorm on as many frames, ReLU for LIF."""

import importlib.util
import os
import shutil
import time
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.problem import PROGRESS, BenchSettings, PlainStep
from benchmarks.reference import Fold, Parts, PlainStudent
from spikebridge.ckd.streams import photo_sequence, replace_samples
from spikebridge.data.feed.batches import Batch
from spikebridge.models.neurons.norm import Stream
from spikebridge.models.settings import StudentConfig
from spikebridge.training.precision import make_autocast


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
    """The network up to its logits, channels-last; each stream has its own statistics.

    Args:
        config: Architecture and width.
        classes: C.
        size: (height, width) of the input in pixels.
    """

    compiled = False
    """Whether the layers before the heads run through `torch.compile`."""

    def __init__(self, config: StudentConfig, classes: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.student = PlainStudent(ReLUParts(), config, classes, size)
        self.student.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, x_TBCHW: Tensor, stream: Stream) -> Tensor:
        """logits_TBC of one stream."""
        x_NCHW = x_TBCHW.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        features = self._compiled if self.compiled else self._features
        return self.student.head_dvs(features(x_NCHW.unflatten(0, x_TBCHW.shape[:2])))

    def _features(self, x_TBCHW: Tensor) -> Tensor:
        return self.student.backbone(x_TBCHW)[0].flatten(2)

    @cached_property
    def _compiled(self) -> Callable[[Tensor], Tensor]:
        return torch.compile(self._features, dynamic=False)


def dense_step(
    settings: BenchSettings, weights: dict[str, Tensor], batch: Batch
) -> tuple[PlainStep, str]:
    """Cross-entropy of both streams, backward and AdamW; and how it is run.

    A bound must be as low as it can be: the network is compiled unless eager PyTorch is faster.
    """
    config, device = settings.config, batch.label_B.device
    network = ReLUNetwork(config.student, settings.classes, config.data.size)
    network.student.load_state_dict(weights)
    network.to(device)
    autocast = make_autocast(config.train.precision, device)

    def loss(generator: torch.Generator) -> Tensor:
        photos_TBCHW = photo_sequence(batch.photo_B3HW, settings.time_steps)
        probability = config.objective.replacement(PROGRESS)
        hybrid = replace_samples(photos_TBCHW, batch.dvs_TBCHW, probability, generator)
        with autocast():
            logits = [network(hybrid.frames_TBCHW, "hybrid"), network(batch.dvs_TBCHW, "dvs")]
        entropies = [F.cross_entropy(z_TBC.float().mean(0), batch.label_B) for z_TBC in logits]
        return torch.stack(entropies).sum()

    step = PlainStep([network], loss)
    if reason := why_not_compiled(device):
        return step, f"eager, {reason}"
    ms = {}
    for network.compiled in (False, True):
        ms[network.compiled] = _quickest(step, device)
    network.compiled = ms[True] < ms[False]
    chosen = "torch.compile" if network.compiled else "eager"
    tried = f"compiled {ms[True]:,.0f} ms, eager {ms[False]:,.0f} ms in first tries"
    return step, f"{chosen}: {tried}"


def _quickest(step: PlainStep, device: torch.device) -> float:
    """Milliseconds of the best of three steps after one that is not timed."""
    ms = []
    for index in range(4):
        began = time.perf_counter()
        step(index)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        ms.append(1e3 * (time.perf_counter() - began))
    return min(ms[1:])


def why_not_compiled(device: torch.device) -> str | None:
    """Why `torch.compile` cannot be used here, or None."""
    if device.type == "cuda":
        return None if importlib.util.find_spec("triton") else "Triton is not installed"
    compilers = [os.environ.get("CXX"), "g++", "clang++"]
    return None if any(c and shutil.which(c) for c in compilers) else "there is no C++ compiler"
