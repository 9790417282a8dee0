"""Students as they are used after training: BatchNorm folded into convolutions, zeros skipped."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikebridge.models import sparse
from spikebridge.models.resnet import ResNetBackbone, SpikingBlock
from spikebridge.models.sparse import SparseConvolution
from spikebridge.models.student import (
    OverTime,
    SpikingLayer,
    Student,
    StudentOutput,
    spike_rate,
)
from spikebridge.models.vgg import VGGBackbone
from spikebridge.neurons import LIF

Layers = Callable[[Tensor], tuple[Tensor, dict[str, Tensor]]]


@torch.no_grad()
def fold_batch_norm(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one convolution that equals both in evaluation.

    Args:
        convolution: With or without bias.
        norm: The BatchNorm behind it, with running statistics.

    Returns:
        weight_OIHW and bias_O, computed in float64, of the convolution's type.
    """
    mean_O, var_O = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    scale_O = norm.weight.double() * (var_O.double() + norm.eps).rsqrt()
    bias_O = 0.0 if convolution.bias is None else convolution.bias.double()
    weight_OIHW = convolution.weight.double() * scale_O[:, None, None, None]
    bias_O = norm.bias.double() + (bias_O - mean_O.double()) * scale_O
    kind = convolution.weight.dtype
    return weight_OIHW.to(kind), bias_O.to(kind)


class DeployedStudent(nn.Module):
    """A student's DVS stream in evaluation: spikes and logits as its own, within rounding.

    Potentials are not kept. Later changes of the student's weights have no effect.

    Args:
        student: On the CPU, float32, with LIF neurons.
    """

    def __init__(self, student: Student) -> None:
        super().__init__()
        backbone = student.backbone
        self.layers = _vgg(backbone) if isinstance(backbone, VGGBackbone) else _resnet(backbone)
        self.head = student.head_dvs
        self.eval()

    @torch.no_grad()
    def forward(self, x_TBCHW: Tensor) -> StudentOutput:
        """Run the DVS stream from rest; membrane_TBN has no columns."""
        x_TBHWC = x_TBCHW.float().movedim(2, -1).contiguous()
        features_TBC, rates = self.layers(x_TBHWC)
        features_TBF = features_TBC.flatten(2)
        membrane_TBN = features_TBF.new_empty((*features_TBF.shape[:2], 0))
        return StudentOutput(self.head(features_TBF), membrane_TBN, rates, features_TBF)


def deploy(student: Student) -> Student | DeployedStudent:
    """The fastest form of a student for inference in the present autocast context.

    A copy of its weights on the CPU in float32, or the student itself where that form does not
    apply: another device or precision, neurons other than compiled LIF, no C compiler.
    """
    parameters = list(student.parameters())
    plain = all(p.device.type == "cpu" and p.dtype == torch.float32 for p in parameters)
    neurons = [m.neuron for m in student.modules() if isinstance(m, SpikingLayer | SpikingBlock)]
    lif = all(isinstance(neuron, LIF) and neuron.backend != "eager" for neuron in neurons)
    if not plain or not lif or torch.is_autocast_enabled("cpu") or sparse.library() is None:
        return student
    return DeployedStudent(student)


def _sparse(synapse: OverTime) -> SparseConvolution:
    convolution, norm = synapse.layers
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    stride, padding = convolution.stride[0], int(convolution.padding[0])
    return SparseConvolution(*fold_batch_norm(convolution, norm), stride, padding)


def _vgg(backbone: VGGBackbone) -> Layers:
    layers = [cast(SpikingLayer, layer) for layer in backbone.layers]
    parts = [(_sparse(layer.synapse), cast(LIF, layer.neuron)) for layer in layers]
    pooled = {int(index) for index in backbone.pools}

    def run(x_TBHWC: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        rates = {}
        for index, (convolution, neuron) in enumerate(parts):
            x_TBHWC = convolution(x_TBHWC, neuron)
            rates[f"layer{index + 1}"] = spike_rate(x_TBHWC)
            if index in pooled:
                x_NCHW = F.avg_pool2d(x_TBHWC.flatten(0, 1).permute(0, 3, 1, 2), 2)
                x_TBHWC = x_NCHW.permute(0, 2, 3, 1).unflatten(0, x_TBHWC.shape[:2]).contiguous()
        return x_TBHWC.movedim(-1, 2), rates

    return run


def _resnet(backbone: nn.Module) -> Layers:
    assert isinstance(backbone, ResNetBackbone)
    stem, neuron = _sparse(backbone.stem.synapse), cast(LIF, backbone.stem.neuron)
    blocks = []
    for block in backbone.blocks:
        assert isinstance(block, SpikingBlock)
        shortcut = _sparse(block.shortcut) if isinstance(block.shortcut, OverTime) else None
        blocks.append((_sparse(block.first.synapse), _sparse(block.second), shortcut))

    def run(x_TBHWC: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        x_TBHWC = stem(x_TBHWC, neuron)
        rates = {"stem": spike_rate(x_TBHWC)}
        for index, (first, second, shortcut) in enumerate(blocks):
            inner_TBHWC = first(x_TBHWC, neuron)
            x_TBHWC = second(
                inner_TBHWC, neuron, x_TBHWC if shortcut is None else shortcut(x_TBHWC)
            )
            rates[f"block{index + 1}a"] = spike_rate(inner_TBHWC)
            rates[f"block{index + 1}b"] = spike_rate(x_TBHWC)
        return x_TBHWC.mean((2, 3)), rates

    return run
