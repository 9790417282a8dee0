import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spikebridge.models.build import build_student
from spikebridge.models.neurons import ReLU
from spikebridge.models.neurons.norm import StreamBatchNorm2d
from spikebridge.models.settings import StudentConfig


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_positive_input_passes_and_stands_as_potential():
    current_TN = torch.tensor([[-1.0, 2.0], [0.5, -3.0]])
    active_TN, membrane_TN = ReLU()(current_TN, membrane=True)
    assert active_TN.tolist() == [[0.0, 2.0], [0.5, 0.0]]
    assert torch.equal(membrane_TN, current_TN)
    assert torch.equal(ReLU()(current_TN), active_TN)


def test_each_step_is_on_its_own():
    current_TN = normal(4, 5)
    assert torch.equal(ReLU()(current_TN)[2:], ReLU()(current_TN[2:]))


@pytest.mark.parametrize("training", [True, False])
def test_behind_a_norm_it_is_that_norm_and_relu(training):
    norm = StreamBatchNorm2d(3).train(training)
    nn.init.uniform_(norm.weight, 0.5, 2.0)
    twin = copy.deepcopy(norm)
    x_NCHW = normal(8, 3, 4, 5)
    active_TBCHW, membrane_TBCHW = ReLU().normalised(x_NCHW, norm, 2, membrane=True)
    expected = twin(x_NCHW).reshape(2, 4, 3, 4, 5)
    assert torch.equal(membrane_TBCHW, expected)
    assert torch.equal(active_TBCHW, F.relu(expected))
    assert torch.equal(norm.running_mean, twin.running_mean)


def test_half_precision_activations_and_float32_potentials():
    active_TN, membrane_TN = ReLU()(normal(2, 3).bfloat16(), membrane=True)
    assert active_TN.dtype == torch.bfloat16
    assert membrane_TN.dtype == torch.float32


@pytest.mark.parametrize("name", ["vgg-snn", "resnet18-snn"])
def test_a_student_of_relus_is_an_ann_without_memory(name):
    torch.manual_seed(0)
    config = StudentConfig(name=name, width=1 / 16, neuron="relu")
    student = build_student(config, 5, (8, 8)).eval()
    spiking = build_student(StudentConfig(name=name, width=1 / 16), 5, (8, 8))
    assert student.state_dict().keys() == spiking.state_dict().keys()
    x_TBCHW = normal(3, 2, 2, 8, 8).abs()
    whole, last = student(x_TBCHW), student(x_TBCHW[2:])
    torch.testing.assert_close(whole.logits_TBC[2:], last.logits_TBC)
    assert last.features_TBF.any()
    # Twice the input is twice the output of a net whose running statistics are 0 and 1.
    bare = student.head_dvs.bias
    twice = student(2 * x_TBCHW).logits_TBC - bare
    torch.testing.assert_close(twice, 2 * (whole.logits_TBC - bare), rtol=1e-4, atol=1e-6)
