"""Low memory: the same losses, gradients and statistics, for a second forward pass."""

import copy

import pytest
import torch

from spikebridge.models.build import build_student
from spikebridge.models.settings import StudentConfig

BACKENDS = pytest.mark.parametrize("backend", ["auto", "eager"])
STUDENTS = pytest.mark.parametrize("name", ["vgg-snn", "resnet18-snn"])


def both(name, backend, low, kind=torch.float32):
    """Logits of both streams, gradients and BatchNorm's buffers after a step."""
    torch.manual_seed(0)
    student = build_student(
        StudentConfig(name=name, width=1 / 8, neuron_backend=backend), 4, (8, 8)
    )
    student.backbone.low_memory = low
    x_TBCHW = 3 * torch.rand(2, 3, 4, 2, 8, 8)
    with torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16):
        outputs = [student(x, stream) for x, stream in zip(x_TBCHW, ("dvs", "hybrid"), strict=True)]
    losses = [(o.logits_TBC**2).sum() + o.membrane_TBN.sum() for o in outputs]
    torch.stack(losses).sum().backward()
    gradients = {name: parameter.grad for name, parameter in student.named_parameters()}
    logits = {f"logits{i}": o.logits_TBC.detach() for i, o in enumerate(outputs)}
    rates = {f"{i}{name}": rate for i, o in enumerate(outputs) for name, rate in o.rates.items()}
    return {**gradients, **dict(student.named_buffers()), **logits, **rates}


@STUDENTS
@BACKENDS
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_step_in_low_memory_is_the_same_bit_for_bit(name, backend, kind):
    expected, found = (both(name, backend, low, kind) for low in (False, True))
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        assert torch.equal(found[key], tensor), key
    assert expected["backbone." + ("layers.0" if name == "vgg-snn" else "stem")
                    + ".synapse.layers.1.num_batches_tracked"] == 1  # fmt: skip
    assert all(tensor.isfinite().all() for tensor in expected.values())
    assert expected["head_dvs.weight"].abs().sum() > 0


@STUDENTS
def test_less_is_kept_for_the_backward_pass(name):
    torch.manual_seed(0)
    student = build_student(StudentConfig(name=name, width=1 / 8), 4, (16, 16))
    x_TBCHW, kept = torch.rand(4, 4, 2, 16, 16), {}
    own = {p.data_ptr() for p in student.parameters()}
    for student.backbone.low_memory in (False, True):
        storages = {}

        def pack(x, storages=storages):
            if x.data_ptr() not in own:
                storages[x.data_ptr()] = x.nbytes
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            output = student(x_TBCHW)
        kept[student.backbone.low_memory] = sum(storages.values())
        del output
    assert kept[True] < kept[False] / 3


def test_without_gradients_nothing_is_computed_twice(monkeypatch):
    student = build_student(StudentConfig(width=1 / 16), 4, (8, 8)).eval()
    low = copy.deepcopy(student)
    low.backbone.low_memory = True
    monkeypatch.setattr("spikebridge.models.student.checkpoint", None)
    x_TBCHW = torch.rand(2, 2, 2, 8, 8)
    with torch.no_grad():
        assert torch.equal(low(x_TBCHW).logits_TBC, student(x_TBCHW).logits_TBC)
