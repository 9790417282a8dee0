"""VGG-SNN, the student of KT and CKD on N-Caltech101."""

from functools import partial

from torch import Tensor, nn

from spikebridge.base.errors import UserError
from spikebridge.models.neurons import Neuron
from spikebridge.models.pool import AveragePool2
from spikebridge.models.student import (
    Backbone,
    OverTime,
    SpikingLayer,
    Student,
    scaled,
    spike_rate,
)

_GROUPS = ((64, 128), (256, 256), (512, 512), (512, 512))


class VGGBackbone(Backbone):
    """3×3 convolution–BatchNorm–LIF layers in four groups, an average pool of 2 after each.

    Widths 64,128 | 256,256 | 512,512 | 512,512 (KT), times ``width``. A group's pool is left out
    once the picture has shrunk to 1 pixel.
    """

    def __init__(self, size: tuple[int, int], width: float, neuron: Neuron) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        self.pools = nn.ModuleDict()
        channels, (height, breadth) = 2, size
        for group in _GROUPS:
            for channels_out in group:
                channels_out = scaled(channels_out, width)
                self.layers.append(SpikingLayer(channels, channels_out, neuron))
                channels = channels_out
            if min(height, breadth) >= 2:
                self.pools[str(len(self.layers) - 1)] = OverTime(AveragePool2())
                height, breadth = height // 2, breadth // 2
        self.features = channels * height * breadth

    def forward(self, x_TBCHW: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Pooled spikes and membrane potential of the last layer, and all spike rates."""
        rates, membrane_TBCHW = {}, x_TBCHW
        for first in range(0, len(self.layers), 2):
            members = [self.layers[first], self.layers[first + 1]]
            x_TBCHW, membrane_TBCHW, found = self.group(
                partial(self._group, first), members, x_TBCHW
            )
            rates |= found
        return x_TBCHW, membrane_TBCHW, rates

    def _group(self, first: int, x_TBCHW: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        rates, membrane_TBCHW, last = {}, x_TBCHW, len(self.layers) - 1
        for index in (first, first + 1):
            layer = self.layers[index]
            assert isinstance(layer, SpikingLayer)
            if index == last:
                x_TBCHW, membrane_TBCHW = layer.with_membrane(x_TBCHW)
            else:
                x_TBCHW = layer(x_TBCHW)
            rates[f"layer{index + 1}"] = spike_rate(x_TBCHW)
        if str(index) in self.pools:
            x_TBCHW = self.pools[str(index)](x_TBCHW)
        return x_TBCHW, membrane_TBCHW, rates


def vgg_snn(
    classes: int, size: tuple[int, int], width: float, neuron: Neuron, *, two_heads: bool = False
) -> Student:
    """VGG-SNN (KT; docs/method.md, the student).

    Args:
        classes: C.
        size: (height, width) of the input in pixels.
        width: Channel multiplier; 1 is the published size.
        neuron: What fires; it has no state and no parameters, so all layers share it.
        two_heads: See `Student`.

    Raises:
        UserError: the input is smaller than 4×4.
    """
    if min(size) < 4:
        raise UserError(
            f"vgg-snn needs at least 4×4 pixels, got {size[0]}×{size[1]}; raise data.size"
        )
    backbone = VGGBackbone(size, width, neuron)
    return Student(backbone, backbone.features, classes, two_heads=two_heads)
