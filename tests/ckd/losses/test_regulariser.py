import math

import pytest
import torch

from spikebridge.ckd.losses import TemporalCoefficient


def test_every_step_starts_at_the_sigmoid_of_one():
    coefficient_T = TemporalCoefficient(4)()
    torch.testing.assert_close(coefficient_T, torch.full((4,), 1 / (1 + math.exp(-1))))


def test_another_start_is_taken():
    coefficient_T = TemporalCoefficient(2, initial=-math.log(3))()
    torch.testing.assert_close(coefficient_T, torch.tensor([0.25, 0.25]))


def test_each_step_learns_its_own_coefficient():
    regulariser = TemporalCoefficient(3)
    optimiser = torch.optim.SGD(regulariser.parameters(), lr=1.0)
    (regulariser() * torch.tensor([1.0, 0.0, -1.0])).sum().backward()
    optimiser.step()
    slope = math.exp(-1) / (1 + math.exp(-1)) ** 2
    torch.testing.assert_close(
        regulariser.logit_T.detach(), torch.tensor([1 - slope, 1.0, 1 + slope])
    )
    coefficient_T = regulariser()
    assert coefficient_T[0] < coefficient_T[1] < coefficient_T[2]


def test_gradient_is_the_numerical_one():
    regulariser = TemporalCoefficient(3).double()
    logit_T = torch.tensor([-1.0, 0.3, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda a: torch.func.functional_call(regulariser, {"logit_T": a}), logit_T
    )


@pytest.mark.parametrize("learned", [True, False])
def test_a_fixed_coefficient_is_kept_but_not_trained(learned):
    regulariser = TemporalCoefficient(3, initial=0.2, learned=learned)
    assert regulariser.logit_T.requires_grad == learned
    twin = TemporalCoefficient(3, learned=learned)
    twin.load_state_dict(regulariser.state_dict())
    assert torch.equal(twin(), regulariser())
