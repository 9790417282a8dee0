"""The oracle: students and the CKD losses written down plainly, with nothing of `models`.

Layer by layer: convolution and BatchNorm on the T·B frames of one stream (KT), whose statistics
need all steps at once, then a Python loop over T of elementary operations that autograd records,
the potential carried from step to step. Eager, in the precision of the weights, contiguous in
memory, one stream after the other. The other rows of the benchmark are the same network with other
`Parts`; all take the weights of a `Student`, whose names they share.
"""

from abc import ABC, abstractmethod
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spikebridge.ckd.losses import alignment_loss, kd_loss, linear_cka, tet_loss
from spikebridge.ckd.settings import ObjectiveConfig
from spikebridge.ckd.streams import photo_sequence, replace_samples
from spikebridge.data.feed.batches import Batch
from spikebridge.models.convolution import square_convolution
from spikebridge.models.neurons.norm import Stream
from spikebridge.models.settings import StudentConfig
from spikebridge.models.student import StudentOutput

TAU, THRESHOLD, ALPHA = 2.0, 0.5, 2.0
"""KT's neuron (equations 1 and 2), and the sharpness of its surrogate QGate."""

_VGG_WIDTHS = (64, 128, 256, 256, 512, 512, 512, 512)
_RESNET_WIDTHS = (64, 128, 256, 512)


class Parts(ABC):
    """What a network's layers are made of."""

    @abstractmethod
    def fold(self, *layers: nn.Module) -> nn.Module:
        """Stateless layers that are applied to all time steps of x_TBCHW."""

    @abstractmethod
    def neuron(self, *, last: bool) -> nn.Module:
        """Maps current_TBCHW to spikes_TBCHW and the potential before reset, None but for last."""


class Fold(nn.Sequential):
    """Stateless layers with time folded into the batch."""

    def forward(self, input: Tensor) -> Tensor:
        """x_TBCHW to y_TBCHW."""
        return super().forward(input.flatten(0, 1)).unflatten(0, input.shape[:2])


class Spike(torch.autograd.Function):
    """H(x), with QGate max(0, α − α²|x|) in place of its derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """1 where x ≥ 0."""
        ctx.save_for_backward(x)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """The gradient times the surrogate."""
        (x,) = ctx.saved_tensors
        return grad * (ALPHA - ALPHA**2 * x.abs()).clamp(min=0)


class StepByStepLIF(nn.Module):
    """LIF by elementary operations, a time step at a time."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        self.last = last

    def forward(self, current_TN: Tensor) -> tuple[Tensor, Tensor | None]:
        """Spikes, and for the last layer the potentials before reset."""
        v_N = torch.zeros_like(current_TN[0])
        spikes, membranes = [], []
        for current_N in current_TN:
            v_N = v_N + (current_N - v_N) / TAU
            if self.last:
                membranes.append(v_N)
            spike_N = Spike.apply(v_N - THRESHOLD)
            v_N = v_N * (1 - spike_N.detach())
            spikes.append(spike_N)
        return torch.stack(spikes), torch.stack(membranes) if self.last else None


class ReferenceParts(Parts):
    """Plain PyTorch."""

    def fold(self, *layers: nn.Module) -> nn.Module:
        """Time folded into the batch."""
        return Fold(*layers)

    def neuron(self, *, last: bool) -> nn.Module:
        """The loop over T."""
        return StepByStepLIF(last)


class _Folded(nn.Module):
    """Layers under the name that `Student` gives them."""

    def __init__(self, parts: Parts, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = parts.fold(*layers)

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        return self.layers(x_TBCHW)


def _conv_norm(parts: Parts, inner: int, outer: int, kernel: int = 3, stride: int = 1) -> nn.Module:
    convolution = square_convolution(inner, outer, kernel, stride)
    return _Folded(parts, convolution, nn.BatchNorm2d(outer))


class _Layer(nn.Module):
    def __init__(
        self, parts: Parts, inner: int, outer: int, stride: int = 1, last: bool = False
    ) -> None:
        super().__init__()
        self.synapse = _conv_norm(parts, inner, outer, stride=stride)
        self.neuron = parts.neuron(last=last)

    def forward(self, x_TBCHW: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.neuron(self.synapse(x_TBCHW))


class _VGG(nn.Module):
    def __init__(self, parts: Parts, width: float, size: tuple[int, int]) -> None:
        super().__init__()
        self.layers, self.pools = nn.ModuleList(), nn.ModuleDict()
        widths, inner = [_scaled(c, width) for c in _VGG_WIDTHS], 2
        height, breadth = size
        for index, outer in enumerate(widths):
            self.layers.append(_Layer(parts, inner, outer, last=index == len(widths) - 1))
            inner = outer
            if index % 2 and min(height, breadth) > 1:
                self.pools[str(index)] = parts.fold(nn.AvgPool2d(2))
                height, breadth = height // 2, breadth // 2
        self.features = inner * height * breadth

    def forward(self, x_TBCHW: Tensor) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        membrane, rates = None, {}
        for index, layer in enumerate(self.layers):
            x_TBCHW, membrane = layer(x_TBCHW)
            rates[f"layer{index + 1}"] = x_TBCHW.detach().mean()
            if str(index) in self.pools:
                x_TBCHW = self.pools[str(index)](x_TBCHW)
        return x_TBCHW, membrane, rates


class _Block(nn.Module):
    def __init__(self, parts: Parts, inner: int, outer: int, stride: int, last: bool) -> None:
        super().__init__()
        self.first = _Layer(parts, inner, outer, stride)
        self.second = _conv_norm(parts, outer, outer)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and inner == outer
            else _conv_norm(parts, inner, outer, 1, stride)
        )
        self.neuron = parts.neuron(last=last)

    def forward(self, x_TBCHW: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        inner_TBCHW, _ = self.first(x_TBCHW)
        spikes, membrane = self.neuron(self.second(inner_TBCHW) + self.shortcut(x_TBCHW))
        return spikes, membrane, inner_TBCHW


class _ResNet(nn.Module):
    def __init__(self, parts: Parts, width: float) -> None:
        super().__init__()
        inner = _scaled(_RESNET_WIDTHS[0], width)
        self.stem = _Layer(parts, 2, inner)
        self.blocks = nn.ModuleList()
        for index in range(8):
            outer = _scaled(_RESNET_WIDTHS[index // 2], width)
            stride = 2 if index in (2, 4, 6) else 1
            self.blocks.append(_Block(parts, inner, outer, stride, last=index == 7))
            inner = outer
        self.features = inner

    def forward(self, x_TBCHW: Tensor) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        x_TBCHW, membrane = self.stem(x_TBCHW)
        rates = {"stem": x_TBCHW.detach().mean()}
        for index, block in enumerate(self.blocks):
            x_TBCHW, membrane, inner_TBCHW = block(x_TBCHW)
            rates[f"block{index + 1}a"] = inner_TBCHW.detach().mean()
            rates[f"block{index + 1}b"] = x_TBCHW.detach().mean()
        return x_TBCHW.mean((-2, -1)), membrane, rates


class PlainStudent(nn.Module):
    """A student's network from given parts; its `state_dict` is that of a `Student`.

    Args:
        parts: What its layers are made of.
        config: Architecture and width; the neuron is KT's.
        classes: C.
        size: (height, width) of the input in pixels.
    """

    def __init__(
        self, parts: Parts, config: StudentConfig, classes: int, size: tuple[int, int]
    ) -> None:
        super().__init__()
        self.momentum = 0.1
        vgg = config.name == "vgg-snn"
        self.backbone = _VGG(parts, config.width, size) if vgg else _ResNet(parts, config.width)
        self.head_dvs = nn.Linear(self.backbone.features, classes)

    def forward(self, x_TBCHW: Tensor, stream: Stream = "dvs") -> StudentOutput:
        """Run one stream from rest; only the DVS stream moves BatchNorm's running statistics."""
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = self.momentum if stream == "dvs" else 0.0
        features_TBCHW, membrane_TBCHW, rates = self.backbone(x_TBCHW)
        assert membrane_TBCHW is not None
        features_TBF = features_TBCHW.flatten(2)
        logits_TBC = self.head_dvs(features_TBF)
        return StudentOutput(logits_TBC, membrane_TBCHW.flatten(2), rates, features_TBF)


def plain_losses(
    student: nn.Module,
    coefficient: nn.Module,
    config: ObjectiveConfig,
    batch: Batch,
    teacher_BC: Tensor,
    progress: float,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """`CKDObjective` with its default switches, for photos of the frames' size.

    Args:
        student: Called once per stream.
        coefficient: Gives c_T.
        config: Weights and schedules.
        batch: Both streams' samples.
        teacher_BC: The teacher's logits.
        progress: u.
        generator: CPU generator of the replacement draws.
    """
    probability = config.replacement(progress)
    photos_TBCHW = photo_sequence(batch.photo_B3HW, len(batch.dvs_TBCHW))
    frames_TBCHW = replace_samples(
        photos_TBCHW, batch.dvs_TBCHW, probability, generator
    ).frames_TBCHW
    hybrid, dvs = student(frames_TBCHW, "hybrid"), student(batch.dvs_TBCHW, "dvs")
    tet = partial(tet_loss, regularisation=config.tet_regularisation, target=THRESHOLD)
    coefficient_T = coefficient()
    guidance = kd_loss(hybrid.logits_TBC, teacher_BC, temperature=config.kd_temperature)
    cka_T = linear_cka(hybrid.membrane_TBN, dvs.membrane_TBN)
    return {
        "hybrid": tet(hybrid.logits_TBC, batch.label_B),
        "kd": config.kd_weight * config.distillation(progress, probability) * guidance,
        "alignment": config.alignment_weight * alignment_loss(cka_T, coefficient_T),
        "dvs": tet(dvs.logits_TBC, batch.label_B, step_weight_T=1 - coefficient_T),
    }


def _scaled(channels: int, width: float) -> int:
    return max(1, round(channels * width))
