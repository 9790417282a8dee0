"""A trained student as a small graph of plain layers, BatchNorm folded, for every format."""

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from spikebridge.models.fast.inference import fold_batch_norm
from spikebridge.models.neurons import LIF, Neuron
from spikebridge.models.resnet import ResNetBackbone, SpikingBlock
from spikebridge.models.student import OverTime, SpikingLayer, Student
from spikebridge.models.vgg import VGGBackbone

FRAMES = "frames"
"""Name of the input: frames of the DVS stream."""
HEAD = "head"
"""Name of the last node, whose outputs are the logits of each step."""


@dataclass(frozen=True)
class Convolution:
    """A convolution with the BatchNorm behind it folded in."""

    weight_OIHW: Tensor
    bias_O: Tensor
    stride: int
    padding: int


@dataclass(frozen=True)
class Spikes:
    """v ← v + (i − v)/τ; spike where v ≥ θ; v ← 0 after a spike."""

    tau: float
    threshold: float


@dataclass(frozen=True)
class Activation:
    """max(0, i)."""


@dataclass(frozen=True)
class AveragePool:
    """Means of windows that do not overlap; what is left over at the end is dropped."""

    window: tuple[int, int]


@dataclass(frozen=True)
class Affine:
    """A fully connected layer on the flattened input."""

    weight_CF: Tensor
    bias_C: Tensor


Operation = Convolution | Spikes | Activation | AveragePool | Affine


@dataclass(frozen=True)
class Node:
    """One operation on the sum of its inputs, at each time step."""

    name: str
    operation: Operation
    inputs: tuple[str, ...]
    """Names of nodes before it, or `FRAMES`."""
    shape: tuple[int, ...]
    """Of its output for one recording and step: (channels, height, width), or (classes,)."""


@dataclass(frozen=True)
class Graph:
    """Nodes in the order of computation, from `FRAMES` to `HEAD`."""

    nodes: tuple[Node, ...]
    input_shape: tuple[int, int, int]
    """Channels, height and width of one frame."""
    time_steps: int

    @property
    def neurons(self) -> tuple[str, ...]:
        """Names of the spiking (or ReLU) layers, those of `StudentOutput.rates`."""
        return tuple(n.name for n in self.nodes if isinstance(n.operation, Spikes | Activation))

    @property
    def spiking(self) -> bool:
        """Whether its neurons spike."""
        return any(isinstance(n.operation, Spikes) for n in self.nodes)

    def shape_of(self, name: str) -> tuple[int, ...]:
        """Shape of a node's output, or of a frame."""
        if name == FRAMES:
            return self.input_shape
        return next(node.shape for node in self.nodes if node.name == name)


def folded_graph(student: Student, size: tuple[int, int], time_steps: int) -> Graph:
    """The DVS stream of a student in evaluation, without its hybrid head.

    Args:
        student: Trained, in float32.
        size: Height and width of its frames in pixels.
        time_steps: T.
    """
    build = _Builder((2, *size))
    if isinstance(student.backbone, VGGBackbone):
        last = _vgg(build, student.backbone)
    else:
        last = _resnet(build, student.backbone)
    head = student.head_dvs
    weight_CF, bias_C = (x.detach().clone().cpu() for x in (head.weight, head.bias))
    build.add(HEAD, Affine(weight_CF, bias_C), last)
    return Graph(tuple(build.nodes), (2, *size), time_steps)


def _vgg(build: "_Builder", backbone: VGGBackbone) -> str:
    last = FRAMES
    for index, layer in enumerate(backbone.layers):
        last = build.layer(f"layer{index + 1}", cast(SpikingLayer, layer), last)
        if str(index) in backbone.pools:
            (pool,) = cast(OverTime, backbone.pools[str(index)]).layers
            side = cast(int, cast(nn.AvgPool2d, pool).kernel_size)
            last = build.add(f"{last}_pool", AveragePool((side, side)), last)
    return last


def _resnet(build: "_Builder", backbone: nn.Module) -> str:
    assert isinstance(backbone, ResNetBackbone)
    last = build.layer("stem", backbone.stem, FRAMES)
    for index, block in enumerate(backbone.blocks):
        assert isinstance(block, SpikingBlock)
        name = f"block{index + 1}"
        inner = build.layer(f"{name}a", block.first, last)
        current = build.synapse(f"{name}b_conv", block.second, inner)
        if isinstance(block.shortcut, OverTime):
            last = build.synapse(f"{name}b_shortcut", block.shortcut, last)
        last = build.neuron(f"{name}b", block.neuron, current, last)
    return build.add("mean", AveragePool(build.shape(last)[1:]), last)  # pyright: ignore[reportArgumentType]


class _Builder:
    """Adds nodes and follows their shapes."""

    def __init__(self, input_shape: tuple[int, int, int]) -> None:
        self.nodes: list[Node] = []
        self._shapes: dict[str, tuple[int, ...]] = {FRAMES: input_shape}

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def add(self, name: str, operation: Operation, *inputs: str) -> str:
        shape = self._shapes[name] = _shape(operation, self._shapes[inputs[0]])
        self.nodes.append(Node(name, operation, inputs, shape))
        return name

    def layer(self, name: str, layer: SpikingLayer, upstream: str) -> str:
        return self.neuron(
            name, layer.neuron, self.synapse(f"{name}_conv", layer.synapse, upstream)
        )

    def synapse(self, name: str, synapse: OverTime, upstream: str) -> str:
        convolution, norm = synapse.layers
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        weight_OIHW, bias_O = (
            x.detach().cpu().contiguous() for x in fold_batch_norm(convolution, norm)
        )
        stride, padding = convolution.stride[0], int(convolution.padding[0])
        return self.add(name, Convolution(weight_OIHW, bias_O, stride, padding), upstream)

    def neuron(self, name: str, neuron: Neuron, *upstream: str) -> str:
        if isinstance(neuron, LIF):
            return self.add(name, Spikes(neuron.tau, neuron.threshold), *upstream)
        return self.add(name, Activation(), *upstream)


def _shape(operation: Operation, shape: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(operation, Convolution):
        outputs, _, kernel, _ = operation.weight_OIHW.shape
        reach = kernel - 2 * operation.padding
        return (outputs, *((side - reach) // operation.stride + 1 for side in shape[1:]))
    if isinstance(operation, AveragePool):
        sides = zip(shape[1:], operation.window, strict=True)
        return (shape[0], *(side // window for side, window in sides))
    if isinstance(operation, Affine):
        return (len(operation.bias_C),)
    return shape
