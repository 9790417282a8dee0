"""PyTorch's own export (torch.export): the whole sequence in plain operators, without our code."""

import io
from pathlib import Path
from typing import Any, cast

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
    Operation,
    Spikes,
)
from spikebridge.results.export.outputs import Outputs


class FoldedStudent(nn.Module):
    """A student's graph in plain PyTorch: frames_BTCHW → (logits_BC, step_logits_BTC).

    Args:
        graph: The student.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.nodes = nn.ModuleDict(
            {node.name: _module(node.operation, graph.time_steps) for node in graph.nodes}
        )
        self.eval()

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, mean over T, and those of each step."""
        found = {FRAMES: frames.transpose(0, 1).flatten(0, 1)}
        for node in self.graph.nodes:
            upstream, *more = (found[name] for name in node.inputs)
            for other in more:
                upstream = upstream + other
            found[node.name] = self.nodes[node.name](upstream)
        step_logits_TBC = found[HEAD].unflatten(0, (self.graph.time_steps, -1))
        return step_logits_TBC.mean(0), step_logits_TBC.transpose(0, 1)


class _UnrolledLIF(nn.Module):
    def __init__(self, operation: Spikes, steps: int) -> None:
        super().__init__()
        self.operation, self.steps = operation, steps

    def forward(self, current_NCHW: Tensor) -> Tensor:
        v_BCHW, spikes = None, []
        for current_BCHW in current_NCHW.unflatten(0, (self.steps, -1)).unbind(0):
            if v_BCHW is None:
                v_BCHW = current_BCHW / self.operation.tau
            else:
                v_BCHW = v_BCHW + (current_BCHW - v_BCHW) / self.operation.tau
            fires_BCHW = v_BCHW >= self.operation.threshold
            spikes.append(fires_BCHW.to(v_BCHW.dtype))
            v_BCHW = v_BCHW.masked_fill(fires_BCHW, 0.0)
        return torch.cat(spikes)


def _module(operation: Operation, steps: int) -> nn.Module:
    match operation:
        case Convolution():
            outputs, inputs, kernel, _ = operation.weight_OIHW.shape
            module = nn.Conv2d(inputs, outputs, kernel, operation.stride, operation.padding)
            module.load_state_dict({"weight": operation.weight_OIHW, "bias": operation.bias_O})
            return module
        case Spikes():
            return _UnrolledLIF(operation, steps)
        case Activation():
            return nn.ReLU()
        case AveragePool():
            return nn.AvgPool2d(operation.window)
        case Affine():
            classes, features = operation.weight_CF.shape
            head = nn.Linear(features, classes)
            head.load_state_dict({"weight": operation.weight_CF, "bias": operation.bias_C})
            return nn.Sequential(nn.Flatten(), head)


def write(graph: Graph, path: Path, about: dict[str, str]) -> None:
    """Write a student.

    Args:
        graph: The student.
        path: Where to.
        about: The file's extra files, by name.
    """
    frames = torch.zeros(2, graph.time_steps, *graph.input_shape)
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(
        FoldedStudent(graph), (frames,), dynamic_shapes={"frames": {0: batch}}
    )
    stream = io.BytesIO()  # PyTorch's writer ends the process where a disk is full.
    torch.export.save(program, stream, extra_files=dict(about))
    path.write_bytes(stream.getbuffer())


@torch.no_grad()
def run(path: Path, graph: Graph, x_BTCHW: Tensor) -> Outputs:
    """Spikes and logits of the loaded program."""
    with path.open("rb") as stream:
        program = torch.export.load(stream)
    watcher = _Watcher(cast(torch.fx.GraphModule, program.module()))
    _, step_logits_BTC = watcher.run(x_BTCHW)
    return Outputs(step_logits_BTC.transpose(0, 1), watcher.spikes(graph))


class _Watcher(torch.fx.Interpreter):
    """Runs a program and keeps what its neurons' operators give, in the order of computation."""

    def __init__(self, program: torch.fx.GraphModule) -> None:
        super().__init__(program)
        self._fired: list[Tensor] = []

    def call_function(self, target: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        output = super().call_function(target, args, kwargs)
        if target in (torch.ops.aten.ge.Scalar, torch.ops.aten.relu.default):
            self._fired.append(output.float())
        return output

    def spikes(self, graph: Graph) -> dict[str, Tensor]:
        """By layer, x_TBCHW."""
        steps, names = graph.time_steps, graph.neurons
        if not graph.spiking:
            found = [x_NCHW.unflatten(0, (steps, -1)) for x_NCHW in self._fired]
        else:
            found = [
                torch.stack(self._fired[first : first + steps])
                for first in range(0, len(self._fired), steps)
            ]
        return dict(zip(names, found, strict=True))
