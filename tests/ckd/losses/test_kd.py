import math

import pytest
import torch

from oracles.reference import kd
from spikebridge.ckd.losses import kd_loss

LOG = math.log
MODES = pytest.mark.parametrize("per_step", [False, True])


def logits(*shape, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=random, dtype=torch.float64) * 3


def test_mean_mode_by_hand():
    # Over temperature 2: teacher (3/4, 1/4), the student's mean over steps (1/2, 1/2).
    teacher_BC = torch.tensor([[2 * LOG(3), 0.0]])
    student_TBC = torch.tensor([[[5.0, 1.0]], [[-1.0, 3.0]]])
    divergence = 3 / 4 * LOG(3 / 4 / (1 / 2)) + 1 / 4 * LOG(1 / 4 / (1 / 2))
    found = kd_loss(student_TBC, teacher_BC, temperature=2.0)
    assert found.item() == pytest.approx(4 * divergence, rel=1e-5)


def test_per_step_mode_by_hand():
    # Over temperature 2: teacher (1/2, 1/2), the student's steps (3/4, 1/4) and (1/5, 4/5).
    teacher_BC = torch.tensor([[1.0, 1.0]])
    student_TBC = torch.tensor([[[2 * LOG(3), 0.0]], [[0.0, 2 * LOG(4)]]])
    first = 1 / 2 * LOG(1 / 2 / (3 / 4)) + 1 / 2 * LOG(1 / 2 / (1 / 4))
    second = 1 / 2 * LOG(1 / 2 / (1 / 5)) + 1 / 2 * LOG(1 / 2 / (4 / 5))
    found = kd_loss(student_TBC, teacher_BC, temperature=2.0, per_step=True)
    assert found.item() == pytest.approx(4 * (first + second) / 2, rel=1e-5)


@MODES
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_value_is_the_references(per_step, temperature):
    student_TBC, teacher_BC = logits(3, 6, 5), logits(6, 5, seed=1)
    found = kd_loss(student_TBC, teacher_BC, temperature=temperature, per_step=per_step)
    expected = kd(student_TBC.numpy(), teacher_BC.numpy(), temperature, per_step=per_step)
    assert found.item() == pytest.approx(expected, rel=1e-10)


@MODES
def test_only_selected_samples_count(per_step):
    student_TBC, teacher_BC = logits(3, 6, 5), logits(6, 5, seed=1)
    weight_B = torch.tensor([True, False, False, True, True, False])
    found = kd_loss(student_TBC, teacher_BC, per_step=per_step, weight_B=weight_B)
    expected = kd(
        student_TBC.numpy(), teacher_BC.numpy(), 4.0, per_step=per_step, rows=weight_B.numpy()
    )
    assert found.item() == pytest.approx(expected, rel=1e-10)
    alone = kd_loss(student_TBC[:, weight_B], teacher_BC[weight_B], per_step=per_step)
    torch.testing.assert_close(found, alone)


@MODES
def test_selecting_none_gives_zero_and_zero_gradients(per_step):
    student_TBC = logits(3, 6, 5).requires_grad_()
    nobody_B = torch.zeros(6, dtype=torch.bool)
    loss = kd_loss(student_TBC, logits(6, 5, seed=1), per_step=per_step, weight_B=nobody_B)
    loss.backward()
    assert loss.item() == 0
    assert not student_TBC.grad.any()


@MODES
def test_selecting_all_is_no_selection(per_step):
    student_TBC, teacher_BC = logits(3, 6, 5), logits(6, 5, seed=1)
    everybody_B = torch.ones(6, dtype=torch.bool)
    torch.testing.assert_close(
        kd_loss(student_TBC, teacher_BC, per_step=per_step, weight_B=everybody_B),
        kd_loss(student_TBC, teacher_BC, per_step=per_step),
    )


@MODES
@pytest.mark.parametrize("weight_B", [None, torch.tensor([True, False, True])])
def test_gradient_is_the_numerical_one(per_step, weight_B):
    teacher_BC = logits(3, 4, seed=1)
    assert torch.autograd.gradcheck(
        lambda z: kd_loss(z, teacher_BC, temperature=2.0, per_step=per_step, weight_B=weight_B),
        logits(2, 3, 4).requires_grad_(),
    )


def test_a_student_that_says_the_same_has_no_loss():
    teacher_BC = logits(6, 5)
    # Softmax does not see the shift of each step.
    student_TBC = torch.stack([teacher_BC + 1, teacher_BC - 3])
    for per_step in (False, True):
        assert kd_loss(student_TBC, teacher_BC, per_step=per_step).item() == pytest.approx(
            0, abs=1e-12
        )


def test_no_gradient_reaches_the_teacher():
    teacher_BC = logits(6, 5, seed=1).requires_grad_()
    student_TBC = logits(3, 6, 5).requires_grad_()
    kd_loss(student_TBC, teacher_BC).backward()
    assert teacher_BC.grad is None
    assert student_TBC.grad.any()


def test_gradient_at_high_temperature_tends_to_that_of_the_logits_difference():
    # Hinton et al. 2015, equation 4: the gradient is (z - v) / C for zero-mean logits.
    student_BC, teacher_BC = (logits(2, 5, seed=s) for s in (0, 1))
    student_BC = (student_BC - student_BC.mean(-1, keepdim=True)).requires_grad_()
    teacher_BC = teacher_BC - teacher_BC.mean(-1, keepdim=True)
    kd_loss(student_BC[None], teacher_BC, temperature=1e4).backward()
    expected = (student_BC.detach() - teacher_BC) / 5 / 2
    torch.testing.assert_close(student_BC.grad, expected, rtol=1e-2, atol=1e-3)


@MODES
def test_bfloat16_logits_under_autocast_are_compared_in_float32(per_step):
    student_TBC, teacher_BC = logits(3, 6, 5).bfloat16(), logits(6, 5, seed=1).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = kd_loss(student_TBC, teacher_BC, per_step=per_step)
    assert found.dtype == torch.float32
    assert torch.equal(found, kd_loss(student_TBC.float(), teacher_BC.float(), per_step=per_step))


@MODES
def test_a_certain_teacher_gives_finite_loss_and_gradient(per_step):
    teacher_BC = torch.tensor([[1e4, 0.0, 0.0]])
    student_TBC = torch.tensor([[[0.0, 1e4, 0.0]]], requires_grad=True)
    loss = kd_loss(student_TBC, teacher_BC, temperature=1.0, per_step=per_step)
    loss.backward()
    assert loss.item() == pytest.approx(1e4)
    torch.testing.assert_close(student_TBC.grad, torch.tensor([[[-1.0, 1.0, 0.0]]]))


@MODES
def test_fractional_weights_make_a_weighted_mean(per_step):
    student_TBC, teacher_BC = logits(3, 4, 5), logits(4, 5, seed=1)
    weight_B = torch.tensor([1.0, 0.25, 0.0, 0.5])
    each = [kd(student_TBC.numpy(), teacher_BC.numpy(), 4.0, per_step=per_step, rows=[b])
            for b in range(4)]  # fmt: skip
    expected = (each[0] + 0.25 * each[1] + 0.5 * each[3]) / 1.75
    found = kd_loss(student_TBC, teacher_BC, per_step=per_step, weight_B=weight_B)
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_weights_below_one_sample_fade_the_loss():
    student_TBC, teacher_BC = logits(3, 2, 5), logits(2, 5, seed=1)
    first = kd(student_TBC.numpy(), teacher_BC.numpy(), 4.0, rows=[0])
    found = kd_loss(student_TBC, teacher_BC, weight_B=torch.tensor([0.25, 0.0]))
    assert found.item() == pytest.approx(0.25 * first, rel=1e-9)
