import math

import pytest
import torch
from spikingjelly.activation_based import surrogate as spikingjelly_surrogate

from oracles.reference import spike
from spikebridge.models.neurons import surrogate

TWINS = {
    "qgate": spikingjelly_surrogate.PiecewiseQuadratic,
    "atan": spikingjelly_surrogate.ATan,
    "sigmoid": spikingjelly_surrogate.Sigmoid,
}


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("alpha", [0.7, 2.0, 5.0])
def test_slope_is_spikingjellys(name, alpha):
    x = torch.linspace(-2, 2, 401, dtype=torch.float64, requires_grad=True)
    TWINS[name](alpha=alpha)(x).sum().backward()
    torch.testing.assert_close(surrogate(name, alpha)(x.detach()), x.grad, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("alpha", [0.7, 2.0, 5.0])
def test_slope_is_the_derivative_of_its_primitive(name, alpha):
    x = torch.linspace(-2, 2, 401, dtype=torch.float64, requires_grad=True)
    spike(x, name, alpha).sum().backward()
    torch.testing.assert_close(surrogate(name, alpha)(x.detach()), x.grad)


def test_qgate_by_hand():
    x = torch.tensor([-0.6, -0.5, -0.25, 0.0, 0.25, 0.5, 0.6])
    slope = surrogate("qgate", 2.0)(x)
    # max(0, 2 - 4|x|)
    torch.testing.assert_close(slope, torch.tensor([0.0, 0.0, 1.0, 2.0, 1.0, 0.0, 0.0]))


def test_atan_and_sigmoid_by_hand():
    x = torch.tensor([0.0, 1 / math.pi], dtype=torch.float64)
    # alpha 2: 1 / (1 + (pi x)^2)
    torch.testing.assert_close(
        surrogate("atan", 2.0)(x), torch.tensor([1.0, 0.5], dtype=torch.float64)
    )
    # alpha 4: 4 s (1 - s), s = 1 / 2 at 0 and 3 / 4 where 4 x = log 3
    x = torch.tensor([0.0, math.log(3) / 4], dtype=torch.float64)
    torch.testing.assert_close(
        surrogate("sigmoid", 4.0)(x), torch.tensor([1.0, 0.75], dtype=torch.float64)
    )


@pytest.mark.parametrize(("name", "customary"), [("qgate", 2.0), ("atan", 2.0), ("sigmoid", 4.0)])
def test_customary_sharpness_is_the_default(name, customary):
    x = torch.linspace(-1, 1, 21)
    assert torch.equal(surrogate(name)(x), surrogate(name, customary)(x))


@pytest.mark.parametrize("name", TWINS)
def test_input_is_left_alone(name):
    x = torch.linspace(-1, 1, 21)
    before = x.clone()
    surrogate(name)(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", TWINS)
def test_slope_integrates_to_one(name):
    x = torch.linspace(-300, 300, 600_001, dtype=torch.float64)
    assert torch.trapezoid(surrogate(name)(x), x).item() == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize(("name", "alpha"), [("relu", None), ("qgate", 0.0), ("atan", -1.0)])
def test_bad_settings_are_refused(name, alpha):
    with pytest.raises(ValueError, match="surrogate"):
        surrogate(name, alpha)
