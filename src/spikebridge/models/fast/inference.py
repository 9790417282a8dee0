"""Students as they are used after training: BatchNorm folded into convolutions, zeros skipped."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikebridge.base.graphs import Graphs
from spikebridge.models.fast import sparse
from spikebridge.models.fast.sparse import SparseConvolution
from spikebridge.models.neurons import LIF
from spikebridge.models.resnet import ResNetBackbone, SpikingBlock
from spikebridge.models.student import (
    OverTime,
    SpikingLayer,
    Student,
    StudentOutput,
    spike_rate,
)
from spikebridge.models.vgg import VGGBackbone

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


class DenseConvolution:
    """A square convolution with bias and neurons, as `SparseConvolution`, by PyTorch.

    Args:
        weight_OIHW: Weights; its type is that of all it computes.
        bias_O: Bias.
        stride: Stride.
        padding: Padding on all sides.
    """

    def __init__(self, weight_OIHW: Tensor, bias_O: Tensor, stride: int, padding: int) -> None:
        self._weight = weight_OIHW.contiguous(memory_format=torch.channels_last)
        self._bias, self._stride, self._padding = bias_O, stride, padding

    def __call__(
        self, x_TBHWC: Tensor, neuron: LIF | None = None, residual_TBHWC: Tensor | None = None
    ) -> Tensor:
        """Spikes of neurons that the convolution's output drives, or that output, y_TBHWC."""
        x_NCHW = x_TBHWC.flatten(0, 1).permute(0, 3, 1, 2)
        y_NCHW = F.conv2d(x_NCHW, self._weight, self._bias, self._stride, self._padding)
        y_TBHWC = y_NCHW.permute(0, 2, 3, 1).unflatten(0, x_TBHWC.shape[:2])
        if residual_TBHWC is not None:
            y_TBHWC = y_TBHWC + residual_TBHWC
        return y_TBHWC if neuron is None else neuron(y_TBHWC)


Convolution = SparseConvolution | DenseConvolution


class DeployedStudent(nn.Module):
    """A student's DVS stream in evaluation: spikes and logits as its own, within rounding.

    Potentials are not kept. Later changes of the student's weights have no effect.

    Args:
        student: With LIF neurons, in float32; on the CPU zeros are skipped.
        kind: Type of weights and spikes on a GPU.
    """

    def __init__(self, student: Student, kind: torch.dtype = torch.float32) -> None:
        super().__init__()
        self._kind = kind
        backbone = student.backbone
        make = _vgg if isinstance(backbone, VGGBackbone) else _resnet
        self.layers = make(backbone, self._convolution)
        self.head = student.head_dvs
        self.eval()

    @torch.no_grad()
    def forward(self, x_TBCHW: Tensor) -> StudentOutput:
        """Run the DVS stream from rest; membrane_TBN has no columns."""
        x_TBHWC = x_TBCHW.to(self._kind).movedim(2, -1).contiguous()
        features_TBC, rates = self.layers(x_TBHWC)
        features_TBF = features_TBC.flatten(2).float()
        membrane_TBN = features_TBF.new_empty((*features_TBF.shape[:2], 0))
        with torch.autocast(x_TBCHW.device.type, enabled=False):
            logits_TBC = self.head(features_TBF)
        return StudentOutput(logits_TBC, membrane_TBN, rates, features_TBF)

    def _convolution(self, synapse: OverTime) -> Convolution:
        convolution, norm = synapse.layers
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        weight_OIHW, bias_O = fold_batch_norm(convolution, norm)
        where = convolution.stride[0], int(convolution.padding[0])
        if weight_OIHW.device.type == "cpu":
            return SparseConvolution(weight_OIHW, bias_O, *where)
        return DenseConvolution(weight_OIHW.to(self._kind), bias_O.to(self._kind), *where)


class GraphedStudent(nn.Module):
    """A deployed student on a GPU, captured as a CUDA graph for each shape that keeps coming.

    Args:
        student: The deployed student.
        device: A CUDA device.
    """

    def __init__(self, student: DeployedStudent, device: torch.device) -> None:
        super().__init__()
        self.student = student
        self._graphs = Graphs(student, device)

    def forward(self, x_TBCHW: Tensor) -> StudentOutput:
        """Run the DVS stream from rest; the input may still be on the host."""
        with torch.no_grad():
            return self._graphs(x_TBCHW)


def deploy(student: Student) -> Student | DeployedStudent | GraphedStudent:
    """The fastest form of a student for inference in the present autocast context.

    A copy of its weights with BatchNorm folded in: on the CPU in float32, skipping zeros; on CUDA
    in the context's precision, captured as a graph. Or the student itself where that form does not
    apply: another precision, neurons other than compiled LIF, no C compiler or no Triton.
    """
    parameters = list(student.parameters())
    device = parameters[0].device
    plain = all(p.device == device and p.dtype == torch.float32 for p in parameters)
    neurons = [m.neuron for m in student.modules() if isinstance(m, SpikingLayer | SpikingBlock)]
    lif = all(isinstance(neuron, LIF) and neuron.backend != "eager" for neuron in neurons)
    if not plain or not lif:
        return student
    if device.type == "cuda":
        fast = torch.is_autocast_enabled("cuda")
        kind = torch.get_autocast_dtype("cuda") if fast else torch.float32
        probe = torch.empty(0, dtype=kind, device=device)
        if all(cast(LIF, neuron).compiled(probe) for neuron in neurons):
            return GraphedStudent(DeployedStudent(student, kind), device)
        return student
    if torch.is_autocast_enabled("cpu") or sparse.library() is None:
        return student
    return DeployedStudent(student)


def _vgg(backbone: nn.Module, convolved: Callable[[OverTime], Convolution]) -> Layers:
    assert isinstance(backbone, VGGBackbone)
    layers = [cast(SpikingLayer, layer) for layer in backbone.layers]
    parts = [(convolved(layer.synapse), cast(LIF, layer.neuron)) for layer in layers]
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


def _resnet(backbone: nn.Module, convolved: Callable[[OverTime], Convolution]) -> Layers:
    assert isinstance(backbone, ResNetBackbone)
    stem, neuron = convolved(backbone.stem.synapse), cast(LIF, backbone.stem.neuron)
    blocks = []
    for block in backbone.blocks:
        assert isinstance(block, SpikingBlock)
        shortcut = convolved(block.shortcut) if isinstance(block.shortcut, OverTime) else None
        blocks.append((convolved(block.first.synapse), convolved(block.second), shortcut))

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
