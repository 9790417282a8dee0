"""What a GPU computes with is made on the GPU: a rule that the source is read for."""

import ast
from pathlib import Path

import pytest
import torch

import spikebridge
from spikebridge.base.devices import leaves, map_tensors
from spikebridge.training.packing import Packed, unpacked

FACTORIES = {"arange", "empty", "empty_strided", "eye", "full", "ones", "rand", "randn", "tensor",
             "zeros"}  # fmt: skip
ON_THE_HOST = {
    "base/distributed.py": {"tensor"},  # flags go over gloo
    "ckd/losses/regulariser.py": {"full"},  # parameters, before their module moves
    "ckd/objective.py": {"tensor"},  # what a step is given
    "ckd/streams.py": {"rand"},  # draws are the CPU's
    "models/resnet.py": {"empty"},  # a placeholder
    "models/teacher.py": {"tensor"},
}
"""Tensors that belong to the host, or are made before anything is on a device."""


def made_without_a_device(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("torch."):
            name = ast.unparse(node.func).removeprefix("torch.")
            if name in FACTORIES and not any(k.arg == "device" for k in node.keywords):
                found.add(name)
    return found


def test_tensors_are_made_where_they_are_used():
    root = Path(spikebridge.__file__).parent
    files = [root / "base/graphs.py", root / "base/devices.py", root / "base/distributed.py"]
    for folder in ("ckd", "models", "training"):
        files += sorted((root / folder).rglob("*.py"))
    found = {str(f.relative_to(root)): made for f in files if (made := made_without_a_device(f))}
    assert found == ON_THE_HOST


def test_tensors_in_containers_are_mapped_in_order():
    packed = Packed.of({"a": torch.tensor(1.0)})
    value = {"x": torch.tensor([1.0, 2.0]), "y": (torch.tensor(3.0), None, [packed])}
    doubled = map_tensors(lambda x: 2 * x, value)
    assert doubled["x"].tolist() == [2, 4]
    assert doubled["y"][0].item() == 6
    assert doubled["y"][1] is None
    assert unpacked(doubled["y"][2]) == [{"a": 2.0}]
    assert value["x"].tolist() == [1, 2]
    assert [type(leaf) for leaf in leaves(value)][:3] == [torch.Tensor, torch.Tensor, type(None)]


@pytest.mark.parametrize("count", [0, 3])
def test_what_is_packed_comes_out_as_numbers(count):
    packed = [
        Packed.of({"losses": {"a": torch.tensor(i / 4)}, "cka": torch.tensor([0.5, i])})
        for i in range(count)
    ]
    assert unpacked(packed) == [
        {"losses": {"a": i / 4}, "cka": [0.5, float(i)]} for i in range(count)
    ]
