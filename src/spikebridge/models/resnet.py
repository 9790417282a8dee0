"""Spiking ResNet-18, the student of KT and CKD on CEP-DVS."""

import torch
from torch import Tensor, nn

from spikebridge.base.errors import UserError
from spikebridge.models.neurons import Neuron
from spikebridge.models.student import (
    Backbone,
    SpikingLayer,
    Student,
    conv_norm,
    scaled,
    spike_rate,
)

_STAGES = (64, 128, 256, 512)


class SpikingBlock(nn.Module):
    """Basic residual block with the addition before the second neuron, so that it stays spiking."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, neuron: Neuron) -> None:
        super().__init__()
        self.first = SpikingLayer(channels_in, channels_out, neuron, stride)
        self.second = conv_norm(channels_out, channels_out)
        self.shortcut = (
            conv_norm(channels_in, channels_out, kernel=1, stride=stride)
            if stride != 1 or channels_in != channels_out
            else nn.Identity()
        )
        self.neuron = neuron

    def forward(self, x_TBCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Spikes and membrane potential of the second neuron, and spikes of the first."""
        inner_TBCHW = self.first(x_TBCHW)
        current_TBCHW = self.second(inner_TBCHW) + self.shortcut(x_TBCHW)
        spikes_TBCHW, membrane_TBCHW = self.neuron(current_TBCHW, membrane=True)
        return spikes_TBCHW, membrane_TBCHW, inner_TBCHW


class ResNetBackbone(Backbone):
    """A 3×3 stem and four stages of two blocks; stages 2–4 halve the picture; global mean."""

    def __init__(self, width: float, neuron: Neuron) -> None:
        super().__init__()
        channels = scaled(_STAGES[0], width)
        self.stem = SpikingLayer(2, channels, neuron)
        self.blocks = nn.ModuleList()
        for stage, channels_out in enumerate(_STAGES):
            channels_out = scaled(channels_out, width)
            for position in range(2):
                stride = 2 if stage and position == 0 else 1
                self.blocks.append(SpikingBlock(channels, channels_out, stride, neuron))
                channels = channels_out
        self.features = channels

    def forward(self, x_TBCHW: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Mean spikes and membrane potential of the last layer, and all spike rates."""
        x_TBCHW = self.group(self.stem, [self.stem], x_TBCHW)
        rates = {"stem": spike_rate(x_TBCHW)}
        membrane_TBCHW = torch.empty(0)
        for index, block in enumerate(self.blocks):
            x_TBCHW, membrane_TBCHW, inner_TBCHW = self.group(block, [block], x_TBCHW)
            rates[f"block{index + 1}a"] = spike_rate(inner_TBCHW)
            rates[f"block{index + 1}b"] = spike_rate(x_TBCHW)
        return x_TBCHW.mean((-2, -1)), membrane_TBCHW, rates


def resnet18_snn(
    classes: int, size: tuple[int, int], width: float, neuron: Neuron, *, two_heads: bool = False
) -> Student:
    """Spiking ResNet-18 (KT on CEP-DVS; docs/method.md, the student); see `vgg_snn`."""
    if min(size) < 8:
        raise UserError(
            f"resnet18-snn needs at least 8×8 pixels, got {size[0]}×{size[1]}; raise data.size"
        )
    backbone = ResNetBackbone(width, neuron)
    return Student(backbone, backbone.features, classes, two_heads=two_heads)
