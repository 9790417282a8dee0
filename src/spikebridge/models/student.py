"""What every spiking student shares: blocks over time, heads, one output."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from spikebridge.models.convolution import square_convolution
from spikebridge.models.neurons import Neuron
from spikebridge.models.neurons.norm import Stream, StreamBatchNorm2d


@dataclass(frozen=True)
class StudentOutput:
    """What a student returns for one stream."""

    logits_TBC: Tensor
    """Logits per time step; the prediction is the softmax of their mean over T."""
    membrane_TBN: Tensor
    """Membrane potential before reset at the last spiking layer, flattened, float32."""
    rates: dict[str, Tensor]
    """Mean spikes per neuron and time step of each spiking layer, by layer name; no gradient."""
    features_TBF: Tensor
    """Pooled spikes of the last spiking layer, flattened: what the heads read."""


class OverTime(nn.Module):
    """Applies stateless layers to all time steps at once, time folded into the batch."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """x_TBCHW to y_TB… ."""
        steps, batch = x_TBCHW.shape[:2]
        y_N = self.layers(x_TBCHW.flatten(0, 1))
        return y_N.unflatten(0, (steps, batch))


def conv_norm(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1) -> OverTime:
    """Convolution without bias and stream-wise BatchNorm over T·B."""
    convolution = square_convolution(channels_in, channels_out, kernel, stride)
    return OverTime(convolution, StreamBatchNorm2d(channels_out))


class Backbone(nn.Module):
    """Spiking layers in groups that can be computed again instead of kept for the backward pass."""

    low_memory = False
    """Keep the groups' inputs alone, for a second forward pass of each."""

    def group(self, run: Callable[[Tensor], Any], layers: list[nn.Module], x_TBCHW: Tensor) -> Any:
        """What ``run`` makes of the input of ``layers``, all that it computes with."""
        if not (self.low_memory and torch.is_grad_enabled()):
            return run(x_TBCHW)
        norms = [m for layer in layers for m in layer.modules() if isinstance(m, StreamBatchNorm2d)]
        again = _again(norms, norms[0].stream)
        return checkpoint(
            run,
            x_TBCHW,
            use_reentrant=False,
            preserve_rng_state=False,
            context_fn=lambda: (nullcontext(), again),
        )


@contextmanager
def _again(norms: list[StreamBatchNorm2d], stream: Stream) -> Iterator[None]:
    """Normalise a stream once more; its statistics are in the running ones already."""
    before: list[tuple[Stream, Any, Any]] = [
        (norm.stream, norm.momentum, norm.num_batches_tracked) for norm in norms
    ]
    for norm in norms:
        norm.stream, norm.momentum = stream, 0.0
        norm.num_batches_tracked = torch.zeros_like(cast(Tensor, norm.num_batches_tracked))
    try:
        yield
    finally:
        for norm, (last, momentum, tracked) in zip(norms, before, strict=True):
            norm.stream, norm.momentum, norm.num_batches_tracked = last, momentum, tracked


class Student(nn.Module):
    """A spiking backbone with a fully connected head, or one per stream (KT).

    Args:
        backbone: Maps x_TBCHW to (spikes_TBCHW, membrane_TBCHW, rates) of its last spiking layer.
        features: Number of features that the heads read at each step.
        classes: C.
        two_heads: The hybrid stream has a head of its own; else both use the DVS head.
    """

    def __init__(
        self, backbone: Backbone, features: int, classes: int, *, two_heads: bool = False
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head_dvs = nn.Linear(features, classes)
        self.head_hybrid = nn.Linear(features, classes) if two_heads else None

    def forward(self, x_TBCHW: Tensor, stream: Stream = "dvs") -> StudentOutput:
        """Run one stream from rest: no state is kept between calls."""
        for norm in self.modules():
            if isinstance(norm, StreamBatchNorm2d):
                norm.stream = stream
        shape = x_TBCHW.shape[:2]
        x_NCHW = x_TBCHW.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        features_TBCHW, membrane_TBCHW, rates = self.backbone(x_NCHW.unflatten(0, shape))
        head = self.head_hybrid if stream == "hybrid" and self.head_hybrid else self.head_dvs
        features_TBF = features_TBCHW.flatten(2)
        return StudentOutput(head(features_TBF), membrane_TBCHW.flatten(2), rates, features_TBF)


class SpikingLayer(nn.Module):
    """Convolution, BatchNorm, LIF."""

    def __init__(
        self, channels_in: int, channels_out: int, neuron: Neuron, stride: int = 1
    ) -> None:
        super().__init__()
        self.synapse = conv_norm(channels_in, channels_out, stride=stride)
        self.neuron = neuron

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """Spikes of all time steps."""
        return self.neuron.normalised(*self._current(x_TBCHW))

    def with_membrane(self, x_TBCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Spikes and the membrane potential before reset."""
        return self.neuron.normalised(*self._current(x_TBCHW), membrane=True)

    def _current(self, x_TBCHW: Tensor) -> tuple[Tensor, StreamBatchNorm2d, int]:
        convolution, norm = self.synapse.layers
        assert isinstance(norm, StreamBatchNorm2d)
        return convolution(x_TBCHW.flatten(0, 1)), norm, len(x_TBCHW)


def spike_rate(spikes: Tensor) -> Tensor:
    """Mean spikes per neuron and time step, without gradient."""
    return spikes.detach().mean(dtype=torch.float32)


def scaled(channels: int, width: float) -> int:
    """Number of channels under a width multiplier, at least 1."""
    return max(1, round(channels * width))
