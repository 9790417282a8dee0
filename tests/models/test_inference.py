"""The deployed form of a student computes what the student computes."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from oracles.reference import eager_lif
from spikebridge.models.build import build_student
from spikebridge.models.fast import inference, sparse
from spikebridge.models.fast.inference import DeployedStudent, deploy, fold_batch_norm
from spikebridge.models.fast.sparse import SparseConvolution
from spikebridge.models.neurons import LIF, surrogate
from spikebridge.models.settings import StudentConfig

needs_compiler = pytest.mark.skipif(
    sparse.library() is None, reason="needs a C compiler (apt-get install gcc)"
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def sparse_input(*shape, density=0.2, seed=0):
    """Spikes, pooled spikes and counts: mostly 0."""
    values = torch.randint(1, 5, shape, generator=generator(seed)) / 4
    return torch.where(torch.rand(shape, generator=generator(seed + 1)) < density, values, 0.0)


def trained(name, width=1 / 16, size=(8, 8), **options):
    """A student whose BatchNorm has seen data and whose layers all fire."""
    torch.manual_seed(0)
    student = build_student(StudentConfig(name=name, width=width, **options), 4, size)
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.5)
            nn.init.uniform_(module.bias, 0.0, 0.5)
            module.momentum = 1.0
    with torch.no_grad():
        student(sparse_input(4, 16, 2, *size))
    return student.eval()


@pytest.mark.parametrize("bias", [True, False])
def test_a_folded_convolution_is_both_layers(bias):
    torch.manual_seed(0)
    convolution, norm = nn.Conv2d(3, 5, 3, 2, 1, bias=bias).double(), nn.BatchNorm2d(5).double()
    norm(convolution(torch.randn(8, 3, 9, 7, dtype=torch.float64) * 3 + 1))
    norm.eval()
    x_NCHW = torch.randn(2, 3, 9, 7, dtype=torch.float64)
    weight, offset = fold_batch_norm(convolution, norm)
    assert not weight.requires_grad
    torch.testing.assert_close(F.conv2d(x_NCHW, weight, offset, 2, 1), norm(convolution(x_NCHW)))


@needs_compiler
@pytest.mark.parametrize(
    ("inner", "outer", "kernel", "stride", "size", "density"),
    [
        (2, 16, 3, 1, (48, 48), 0.1),
        (1, 3, 3, 1, (1, 1), 1.0),
        (7, 17, 3, 2, (9, 6), 0.3),
        (130, 70, 3, 1, (5, 5), 0.15),
        (5, 33, 1, 2, (7, 7), 0.5),
        (3, 129, 3, 1, (2, 3), 0.0),
    ],
)
def test_a_sparse_convolution_is_the_dense_one(inner, outer, kernel, stride, size, density):
    weight = torch.randn(outer, inner, kernel, kernel, generator=generator())
    bias = torch.randn(outer, generator=generator(1))
    x_TBCHW = sparse_input(3, 2, inner, *size, density=density)
    dense = F.conv2d(x_TBCHW.flatten(0, 1).double(), weight.double(), bias.double(), stride,
                     kernel // 2).unflatten(0, (3, 2))  # fmt: skip
    convolution = SparseConvolution(weight, bias, stride, kernel // 2)
    x_TBHWC = x_TBCHW.movedim(2, -1).contiguous()
    plain = convolution(x_TBHWC).movedim(-1, 2)
    torch.testing.assert_close(plain, dense.float(), rtol=1e-5, atol=1e-5)
    residual = torch.randn(plain.shape, generator=generator(2)).movedim(2, -1).contiguous()
    for tau in (1.0, 2.0, 3.5):
        spikes = convolution(x_TBHWC, LIF(tau, 0.5, surrogate("qgate")), residual)
        current = dense + residual.movedim(-1, 2).double()
        expected, membrane = eager_lif(current, tau, 0.5, "qgate", 2.0)
        clear = ((membrane - 0.5).abs() > 1e-4).all(0)
        assert clear.float().mean() > 0.99
        found = spikes.movedim(-1, 2)
        assert torch.equal(found[:, clear], expected.float()[:, clear])
        assert expected.sum() > 0


@needs_compiler
@pytest.mark.parametrize("name", ["vgg-snn", "resnet18-snn"])
@pytest.mark.parametrize(("size", "batch"), [((8, 8), 3), ((13, 9), 1)])
def test_a_deployed_student_fires_and_answers_as_the_student(name, size, batch):
    student = trained(name, size=size)
    x_TBCHW = sparse_input(4, batch, 2, *size, seed=99)
    expected, network = student(x_TBCHW), deploy(student)
    assert isinstance(network, DeployedStudent)
    found = network(x_TBCHW)
    rates = {name: rate.item() for name, rate in expected.rates.items()}
    assert {name: rate.item() for name, rate in found.rates.items()} == pytest.approx(rates)
    assert 0.02 < min(rates.values()) < max(rates.values()) < 0.95
    assert torch.equal(found.features_TBF, expected.features_TBF)
    torch.testing.assert_close(found.logits_TBC, expected.logits_TBC, rtol=1e-5, atol=1e-5)
    assert not found.logits_TBC.requires_grad
    assert torch.equal(network(x_TBCHW).logits_TBC, found.logits_TBC)


@needs_compiler
def test_a_recording_alone_and_in_a_batch_give_the_same_bits():
    network = deploy(trained("vgg-snn"))
    x_TBCHW = sparse_input(4, 5, 2, 8, 8)
    together = network(x_TBCHW).features_TBF
    alone = [network(x_TBCHW[:, b : b + 1]).features_TBF for b in range(5)]
    assert torch.equal(torch.cat(alone, 1), together)


@needs_compiler
def test_a_deployed_student_is_a_copy():
    student = trained("vgg-snn")
    network, x_TBCHW = deploy(student), sparse_input(4, 1, 2, 8, 8)
    before = network(x_TBCHW).features_TBF
    with torch.no_grad():
        for parameter in student.backbone.parameters():
            parameter.zero_()
    assert torch.equal(network(x_TBCHW).features_TBF, before)
    assert before.mean() > 0.01


def test_what_the_fast_form_does_not_compute_stays_as_it_is(monkeypatch):
    student = trained("vgg-snn")
    assert deploy(copy.deepcopy(student).double()).__class__ is student.__class__
    for other in (trained("vgg-snn", neuron="relu"), trained("vgg-snn", neuron_backend="eager")):
        assert deploy(other) is other
    with torch.autocast("cpu", torch.bfloat16):
        assert deploy(student) is student
    monkeypatch.setattr(inference.sparse, "library", lambda: None)
    assert deploy(student) is student
