"""NIR: the graph of one time step, for neuromorphic tools and chips; SpikingJelly runs it."""

from functools import partial
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch
from torch import Tensor, nn

from spikebridge.results.export.graph import (
    FRAMES,
    HEAD,
    Activation,
    Affine,
    AveragePool,
    Convolution,
    Graph,
    Node,
    Spikes,
)
from spikebridge.results.export.outputs import Outputs

STEP_S = 1e-4
"""Duration of a time step in the file, in seconds, the value that NIR's readers take by default."""


def write(graph: Graph, path: Path, about: dict[str, str]) -> None:
    """Write a student of LIF neurons.

    Args:
        graph: The student.
        path: Where to.
        about: The file's metadata.
    """
    nodes: dict[str, nir.NIRNode] = {
        FRAMES: nir.Input({"input": np.array(graph.input_shape)}),
        "logits": nir.Output({"output": np.array(graph.shape_of(HEAD))}),
    }
    edges = [(HEAD, "logits")]
    for node in graph.nodes:
        inputs, operation = node.inputs, node.operation
        if isinstance(operation, Affine):
            shape = np.array(graph.shape_of(node.inputs[0]))
            nodes["flatten"] = nir.Flatten({"input": shape}, start_dim=0, end_dim=-1)
            edges += [(upstream, "flatten") for upstream in inputs]
            inputs = ("flatten",)
        nodes[node.name] = _node(node)
        edges += [(upstream, node.name) for upstream in inputs]
    nir.write(path, nir.NIRGraph(nodes, edges, metadata=dict(about)))


def _node(node: Node) -> nir.NIRNode:
    operation = node.operation
    match operation:
        case Convolution():
            return nir.Conv2d(
                input_shape=None,
                weight=operation.weight_OIHW.numpy(),
                stride=(operation.stride, operation.stride),
                padding=(operation.padding, operation.padding),
                dilation=(1, 1),
                groups=1,
                bias=operation.bias_O.numpy(),
            )
        case Spikes():
            # Euler's step of τ dv/dt = (v_leak − v) + r·i is v ← v + (i − v)·dt/τ.
            return nir.LIF(
                tau=np.full(node.shape, operation.tau * STEP_S),
                r=np.ones(node.shape),
                v_leak=np.zeros(node.shape),
                v_threshold=np.full(node.shape, operation.threshold),
                v_reset=np.zeros(node.shape),
            )
        case AveragePool():
            window = np.array(operation.window)
            return nir.AvgPool2d(kernel_size=window, stride=window, padding=np.array([0, 0]))
        case Affine():
            return nir.Affine(operation.weight_CF.numpy(), operation.bias_C.numpy())
        case Activation():
            raise TypeError("NIR has no ReLU")


@torch.no_grad()
def run(path: Path, graph: Graph, x_BTCHW: Tensor) -> Outputs:
    """Spikes and logits by SpikingJelly, one time step after the other."""
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    network = import_from_nir(str(path), dt=STEP_S)
    fired: dict[str, list[Tensor]] = {name: [] for name in graph.neurons}
    for name, kept in fired.items():
        network.get_submodule(name).register_forward_hook(partial(_keep, kept))
    logits, state = [], None
    for x_BCHW in x_BTCHW.unbind(1):
        logits_BC, state = network(x_BCHW, state)
        logits.append(logits_BC)
    return Outputs(torch.stack(logits), {name: torch.stack(x) for name, x in fired.items()})


def _keep(kept: list[Tensor], module: nn.Module, inputs: Any, output: tuple[Tensor, Any]) -> None:
    kept.append(output[0])
