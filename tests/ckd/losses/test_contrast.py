import math

import pytest
import torch

from oracles import reference
from spikebridge.ckd.losses import contrast_loss

LABELS = torch.tensor([0, 1, 0, 2, 1, 0])


def features(seed=0, kind=torch.float64):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(6, 7, generator=random, dtype=torch.float64).to(kind)


def test_value_by_hand():
    # Temperature 1; the second stream's rows lie along the axes, whatever their length.
    x_BF = torch.tensor([[3.0, 0.0], [0.0, 0.5]])
    y_BF = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    share = math.e / (math.e + 1)
    found = contrast_loss(x_BF, y_BF, torch.tensor([0, 1]), temperature=1.0)
    assert found.item() == pytest.approx(-math.log(share), rel=1e-6)
    found = contrast_loss(x_BF, y_BF, torch.tensor([1, 1]), temperature=1.0)
    assert found.item() == pytest.approx(-(math.log(share) + math.log(1 - share)) / 2, rel=1e-6)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_value_is_the_references(temperature):
    x_BF, y_BF = features(), features(1)
    expected = reference.contrast(x_BF.numpy(), y_BF.numpy(), LABELS.numpy(), temperature)
    found = contrast_loss(x_BF, y_BF, LABELS, temperature=temperature)
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_streams_that_agree_by_class_lose_least():
    centre_BF = torch.nn.functional.one_hot(LABELS, 7).double()
    right = contrast_loss(centre_BF, centre_BF, LABELS)
    wrong = contrast_loss(centre_BF, centre_BF.roll(1, -1), LABELS)
    # All samples of a class share the probability evenly: log 3, log 2, 0 by the class's size.
    assert right.item() == pytest.approx((3 * math.log(3) + 2 * math.log(2)) / 6, abs=1e-3)
    assert wrong > right + 1


def test_gradient_is_the_numerical_one():
    inputs = features().requires_grad_(), features(1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: contrast_loss(x, y, LABELS), inputs)


def test_silent_features_stay_finite_and_half_precision_is_float32():
    x_BF = torch.zeros(6, 7, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        loss = contrast_loss(x_BF, features(kind=torch.bfloat16), LABELS)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(6), rel=1e-5)
    assert x_BF.grad.isfinite().all()
