"""Spikes, synaptic operations and MACs of a student, layer by layer and step by step."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from spikebridge.models.neurons import LIF
from spikebridge.models.resnet import ResNetBackbone, SpikingBlock
from spikebridge.models.student import OverTime, SpikingLayer, Student
from spikebridge.models.vgg import VGGBackbone
from spikebridge.results.energy.connections import channel_pairs, conv_connections, pool_connections
from spikebridge.results.watched import Watch, watched

MAC_PJ, AC_PJ = 4.6, 0.9
"""Picojoules of a 32-bit floating-point multiply-accumulate and accumulate at 45 nm (Horowitz,
"Computing's energy problem", ISSCC 2014: multiplication 3.7 pJ, addition 0.9 pJ)."""


@dataclass(frozen=True)
class LayerOperations:
    """What the connections into one layer cost."""

    name: str
    spiking: bool
    """Its input is spikes: operations happen where they arrive; else at every connection."""
    identity: bool
    """A residual shortcut without weights: one accumulate per connection, never a MAC."""
    pooled: bool
    """An average pool is folded into its connections."""
    dense: int
    """Connections in use at one step of one recording: the operations of an ANN's layer."""
    neurons: int
    """Neurons that its sum goes into; 0 for shortcuts and the head."""
    spikes_NT: np.ndarray
    """Spikes that arrive, before a folded pool; 0 where the layer is not spiking."""
    sops_NT: np.ndarray
    """Synaptic operations: each spike times the connections it reaches, all accumulates."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates at one step of one recording."""
        return 0 if self.spiking or self.identity else self.dense

    @property
    def dense_pj(self) -> float:
        """Energy of one step where every connection is used, as in an ANN."""
        return self.dense * (AC_PJ if self.identity else MAC_PJ)

    @property
    def pj_NT(self) -> np.ndarray:
        """Energy of each recording and step."""
        if self.spiking:
            return self.sops_NT * AC_PJ
        return np.full(self.sops_NT.shape, self.dense_pj)


@dataclass(frozen=True)
class Operations:
    """Counts of N recordings, layer by layer in forward order."""

    layers: tuple[LayerOperations, ...]

    @property
    def pj_NT(self) -> np.ndarray:
        """Energy of each recording and step."""
        return np.sum([layer.pj_NT for layer in self.layers], axis=0)

    @property
    def dense_pj(self) -> float:
        """Energy of one pass of the ANN with the same connections."""
        return sum(layer.dense_pj for layer in self.layers)

    @property
    def pools_as_macs(self) -> "Operations":
        """Inputs behind pools, which are not binary, taken for dense MACs."""
        return Operations(
            tuple(replace(x, spiking=x.spiking and not x.pooled) for x in self.layers)
        )

    @property
    def updates(self) -> int:
        """Neuron updates at one step of one recording."""
        return sum(layer.neurons for layer in self.layers)


def joined(parts: Sequence[Operations]) -> Operations:
    """Counts of several batches of recordings as one."""
    return Operations(
        tuple(
            replace(
                same[0],
                spikes_NT=np.concatenate([x.spikes_NT for x in same]),
                sops_NT=np.concatenate([x.sops_NT for x in same]),
            )
            for same in zip(*(part.layers for part in parts), strict=True)
        )
    )


@torch.no_grad()
def count_operations(student: Student, x_TBCHW: Tensor) -> Operations:
    """Run a student in evaluation mode and count what its DVS stream costs.

    The first layer's input is no spikes and is counted as MACs. A pool, and ResNet's global mean,
    are folded into the layer that reads them: a spike costs one accumulate per connection of its
    pooled cell. A student of ReLU has MACs everywhere.

    Args:
        student: VGG-SNN or ResNet-18.
        x_TBCHW: Recordings as the network takes them.

    Returns:
        Counts of B recordings.

    Raises:
        TypeError: another architecture.
        ValueError: what should be spikes is neither 0 nor 1.
    """
    steps = len(x_TBCHW)
    fires = any(isinstance(module, LIF) for module in student.modules())
    parts = _synapses(student)
    found: dict[str, LayerOperations] = {}

    def counter(part: _Synapses) -> Watch:
        def count(module: nn.Module, inputs: Any, output: Any) -> None:
            x = output[0] if part.side == "output" else inputs[0]
            x = x[..., None, None] if isinstance(module, nn.Linear) else x
            x_TBCHW = x.reshape(steps, -1, *x.shape[-3:])
            found[part.name] = _operations(part, x_TBCHW, spiking=fires and part is not parts[0])

        return count

    with watched(student, ((part.source, counter(part)) for part in parts)):
        student(x_TBCHW)
    return Operations(tuple(found[part.name] for part in parts))


@dataclass(frozen=True)
class _Synapses:
    """The connections into one layer, and where the spikes that cross them can be read."""

    name: str
    layer: nn.Conv2d | nn.Linear | None
    """None is a shortcut without weights."""
    source: nn.Module
    side: Literal["input", "output"] = "input"
    pool: nn.AvgPool2d | None = None
    mean: bool = False
    """The layer reads the mean over all pixels."""
    neurons: bool = True
    """Its sum goes into neurons of its own."""


def _synapses(student: Student) -> list[_Synapses]:
    """All connections of the DVS stream, in forward order."""
    backbone, head = student.backbone, student.head_dvs
    if isinstance(backbone, VGGBackbone):
        return [*_vgg_synapses(backbone, head)]
    if isinstance(backbone, ResNetBackbone):
        return [*_resnet_synapses(backbone, head)]
    raise TypeError(f"operations of a {type(backbone).__name__} cannot be counted")


def _vgg_synapses(backbone: VGGBackbone, head: nn.Linear) -> Iterator[_Synapses]:
    pool = None
    for index, layer in enumerate(backbone.layers):
        assert isinstance(layer, SpikingLayer)
        conv = _conv(layer.synapse)
        yield _Synapses(f"layer{index + 1}", conv, pool or conv, pool=pool)
        pool = _pool(backbone.pools[str(index)]) if str(index) in backbone.pools else None
    yield _Synapses("head", head, pool or head, pool=pool, neurons=False)


def _resnet_synapses(backbone: ResNetBackbone, head: nn.Linear) -> Iterator[_Synapses]:
    stem = _conv(backbone.stem.synapse)
    yield _Synapses("stem", stem, stem)
    for index, block in enumerate(backbone.blocks):
        assert isinstance(block, SpikingBlock)
        name, first, second = f"block{index + 1}", _conv(block.first.synapse), _conv(block.second)
        shortcut = None if isinstance(block.shortcut, nn.Identity) else _conv(block.shortcut)
        yield _Synapses(f"{name}a", first, first)
        yield _Synapses(f"{name}b", second, second)
        yield _Synapses(f"{name}-shortcut", shortcut, block, neurons=False)
    yield _Synapses("head", head, backbone.blocks[-1], "output", mean=True, neurons=False)


def _conv(layers: nn.Module) -> nn.Conv2d:
    assert isinstance(layers, OverTime)
    conv = layers.layers[0]
    assert isinstance(conv, nn.Conv2d)
    return conv


def _pool(layers: nn.Module) -> nn.AvgPool2d:
    assert isinstance(layers, OverTime)
    pool = layers.layers[0]
    assert isinstance(pool, nn.AvgPool2d)
    return pool


def _operations(part: _Synapses, x_TBCHW: Tensor, *, spiking: bool) -> LayerOperations:
    fan_out_HW, dense, neurons = _connections(part, tuple(x_TBCHW.shape[-3:]))
    spikes_TB = sops_TB = torch.zeros(x_TBCHW.shape[:2])
    if spiking:
        if not bool(((x_TBCHW == 0) | (x_TBCHW == 1)).all()):
            raise ValueError(f"the input of {part.name} should be spikes, but is not binary")
        spikes_TBHW = x_TBCHW.sum(2, dtype=torch.float32).cpu().double()
        spikes_TB = spikes_TBHW.sum((-2, -1))
        sops_TB = (spikes_TBHW * torch.from_numpy(fan_out_HW)).sum((-2, -1))
    return LayerOperations(
        part.name,
        spiking,
        identity=part.layer is None,
        pooled=part.pool is not None or part.mean,
        dense=dense,
        neurons=neurons if part.neurons else 0,
        spikes_NT=spikes_TB.T.numpy().astype(np.int64),
        sops_NT=sops_TB.T.numpy().astype(np.int64),
    )


def _connections(part: _Synapses, shape_CHW: tuple[int, ...]) -> tuple[np.ndarray, int, int]:
    """Fan-out of each position before a folded pool, all connections after it, and neurons."""
    layer, (channels, *size) = part.layer, shape_CHW
    pools = [pool_connections(part.pool, axis, pixels) for axis, pixels in enumerate(size)]
    if layer is None:
        return np.ones(size, np.int64), channels * size[0] * size[1], 0
    if isinstance(layer, nn.Linear):
        reach_HW = np.outer(*(pool_OI.sum(0) for pool_OI in pools))
        return layer.out_features * reach_HW, layer.in_features * layer.out_features, 0
    convs = [conv_connections(layer, axis, len(pool_OI)) for axis, pool_OI in enumerate(pools)]
    reach_HW = np.outer(*((conv @ pool).sum(0) for conv, pool in zip(convs, pools, strict=True)))
    return (
        layer.out_channels // layer.groups * reach_HW,
        channel_pairs(layer) * int(convs[0].sum() * convs[1].sum()),
        layer.out_channels * len(convs[0]) * len(convs[1]),
    )
