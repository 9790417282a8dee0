"""ONNX: the whole sequence, LIF unrolled over T in plain operators; onnxruntime runs it."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

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

OPSET = 18
_IR = 8


def write(graph: Graph, path: Path, about: dict[str, str]) -> None:
    """Write a student: ``frames`` B×T×C×H×W → ``logits`` B×classes, ``step_logits`` B×T×classes.

    Args:
        graph: The student.
        path: Where to.
        about: The file's metadata.
    """
    steps, classes = graph.time_steps, graph.shape_of(HEAD)[0]
    model = helper.make_model(
        _Writer(graph).graph(
            [_tensor(FRAMES, ("batch", steps, *graph.input_shape))],
            [
                _tensor("logits", ("batch", classes)),
                _tensor("step_logits", ("batch", steps, classes)),
            ],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR,
        producer_name="spikebridge",
    )
    helper.set_model_props(model, dict(about))
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


class _Writer:
    """Turns nodes into operators; time is folded into the batch, time-major."""

    def __init__(self, graph: Graph) -> None:
        self._student = graph
        self._operators: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def graph(
        self, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
    ) -> onnx.GraphProto:
        steps = self._student.time_steps
        channels, height, width = self._student.input_shape
        self._add("Transpose", [FRAMES], "time_major", perm=[1, 0, 2, 3, 4])
        shape = self._constant("frame_shape", [-1, channels, height, width])
        self._add("Reshape", ["time_major", shape], "frame")
        for node in self._student.nodes:
            self._node(node)
        shape = self._constant("step_shape", [steps, -1, self._student.shape_of(HEAD)[0]])
        self._add("Reshape", [HEAD, shape], "head_by_step")
        self._add("Transpose", ["head_by_step"], "step_logits", perm=[1, 0, 2])
        axis = self._constant("time_axis", [1])
        self._add("ReduceMean", ["step_logits", axis], "logits", keepdims=0)
        return helper.make_graph(self._operators, "student", inputs, outputs, self._constants)

    def _node(self, node: Node) -> None:
        name, operation = node.name, node.operation
        upstream, *more = ("frame" if one == FRAMES else one for one in node.inputs)
        for index, other in enumerate(more):
            upstream = self._add("Add", [upstream, other], f"{name}_sum{index}")
        match operation:
            case Convolution():
                weights = [
                    self._constant(f"{name}_weight", operation.weight_OIHW.numpy()),
                    self._constant(f"{name}_bias", operation.bias_O.numpy()),
                ]
                self._add(
                    "Conv",
                    [upstream, *weights],
                    name,
                    strides=[operation.stride] * 2,
                    pads=[operation.padding] * 4,
                )
            case Spikes():
                self._spikes(name, operation, upstream)
            case Activation():
                self._add("Relu", [upstream], name)
            case AveragePool():
                window = list(operation.window)
                self._add("AveragePool", [upstream], name, kernel_shape=window, strides=window)
            case Affine():
                flat = self._add("Flatten", [upstream], f"{name}_input", axis=1)
                weights = [
                    self._constant(f"{name}_weight", operation.weight_CF.numpy()),
                    self._constant(f"{name}_bias", operation.bias_C.numpy()),
                ]
                self._add("Gemm", [flat, *weights], name, transB=1)

    def _spikes(self, name: str, operation: Spikes, upstream: str) -> None:
        steps = range(self._student.time_steps)
        rate, threshold, rest = (
            self._constant(f"{name}_{word}", np.float32(value))
            for word, value in (
                ("rate", 1 / operation.tau),
                ("threshold", operation.threshold),
                ("rest", 0.0),
            )
        )
        current = [f"{name}_current{t}" for t in steps]
        self._add("Split", [upstream], *current, axis=0, num_outputs=len(steps))
        before, spikes = "", []
        for t in steps:
            if t:
                apart = self._add("Sub", [current[t], before], f"{name}_apart{t}")
                step = self._add("Mul", [apart, rate], f"{name}_step{t}")
                v = self._add("Add", [before, step], f"{name}_v{t}")
            else:
                v = self._add("Mul", [current[t], rate], f"{name}_v{t}")
            fires = self._add("GreaterOrEqual", [v, threshold], f"{name}_fires{t}")
            spikes.append(self._add("Cast", [fires], f"{name}_spikes{t}", to=TensorProto.FLOAT))
            if t < steps[-1]:
                before = self._add("Where", [fires, rest, v], f"{name}_rest{t}")
        self._add("Concat", spikes, name, axis=0)

    def _add(self, operator: str, inputs: list[str], *outputs: str, **attributes: Any) -> str:
        node = helper.make_node(operator, inputs, outputs, name=f"{outputs[0]}.op", **attributes)
        self._operators.append(node)
        return outputs[0]

    def _constant(self, name: str, value: Any) -> str:
        self._constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def run(path: Path, graph: Graph, x_BTCHW: Tensor) -> Outputs:
    """Logits of the file as it is, and spikes of the same file with its neurons as outputs."""
    frames = {FRAMES: x_BTCHW.numpy()}
    (step_logits_BTC,) = _session(path.read_bytes()).run(["step_logits"], frames)
    model = onnx.load_model_from_string(path.read_bytes())
    shapes = {name: graph.shape_of(name) for name in graph.neurons}
    model.graph.output.extend(_tensor(name, ("all", *shape)) for name, shape in shapes.items())
    spikes = _session(model.SerializeToString()).run(list(shapes), frames)
    return Outputs(
        torch.from_numpy(step_logits_BTC).transpose(0, 1),
        {
            name: torch.from_numpy(x_NCHW).unflatten(0, (graph.time_steps, -1))
            for name, x_NCHW in zip(shapes, spikes, strict=True)
        },
    )


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _tensor(name: str, shape: tuple[str | int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
