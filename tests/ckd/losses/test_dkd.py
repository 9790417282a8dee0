import math

import pytest
import torch

from oracles import reference
from spikebridge.ckd.losses import dkd_loss, kd_loss

LOG = math.log
LABELS = torch.tensor([0, 4, 2, 2])
MODES = pytest.mark.parametrize("per_step", [False, True])


def logits(*shape, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=random, dtype=torch.float64) * 3


def test_value_by_hand():
    # Over temperature 2: teacher (1/2, 1/4, 1/4), student (1/4, 1/2, 1/4), right class 0.
    teacher_BC = 2 * torch.tensor([[1 / 2, 1 / 4, 1 / 4]]).log()
    student_TBC = 2 * torch.tensor([[[1 / 4, 1 / 2, 1 / 4]]]).log()
    target = 1 / 2 * LOG(1 / 2 / (1 / 4)) + 1 / 2 * LOG(1 / 2 / (3 / 4))
    others = 1 / 2 * LOG(1 / 2 / (2 / 3)) + 1 / 2 * LOG(1 / 2 / (1 / 3))
    found = dkd_loss(
        student_TBC, teacher_BC, torch.tensor([0]), alpha=0.7, beta=3.0, temperature=2.0
    )
    assert found.item() == pytest.approx(4 * (0.7 * target + 3 * others), rel=1e-5)


@MODES
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 8.0), (0.0, 1.0), (1.0, 0.0)])
def test_value_is_the_references(per_step, alpha, beta):
    student_TBC, teacher_BC = logits(3, 4, 5), logits(4, 5, seed=1)
    weight_B = torch.tensor([1.0, 0.25, 0.0, 0.5])
    expected = reference.dkd(
        student_TBC.numpy(), teacher_BC.numpy(), LABELS.numpy(), 4.0,
        alpha=alpha, beta=beta, per_step=per_step, weight_B=weight_B.numpy(),
    )  # fmt: skip
    found = dkd_loss(
        student_TBC,
        teacher_BC,
        LABELS,
        alpha=alpha,
        beta=beta,
        per_step=per_step,
        weight_B=weight_B,
    )
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_plain_distillation_is_its_sum_by_the_teachers_probability_of_the_others():
    # Equation 7 of the paper, for one sample.
    student_TBC, teacher_BC = logits(1, 1, 5), logits(1, 5, seed=1)
    label_B = torch.tensor([3])
    others = 1 - (teacher_BC / 4).softmax(-1)[0, 3].item()
    found = dkd_loss(student_TBC, teacher_BC, label_B, alpha=1.0, beta=others)
    assert found.item() == pytest.approx(kd_loss(student_TBC, teacher_BC).item(), rel=1e-9)


@MODES
def test_gradient_is_the_numerical_one_and_the_teacher_gets_none(per_step):
    teacher_BC = logits(4, 5, seed=1).requires_grad_()
    student_TBC = logits(2, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: dkd_loss(z, teacher_BC, LABELS, per_step=per_step), student_TBC
    )
    dkd_loss(student_TBC, teacher_BC, LABELS).backward()
    assert teacher_BC.grad is None


def test_a_student_like_its_teacher_loses_nothing():
    teacher_BC = logits(4, 5)
    loss = dkd_loss(teacher_BC.expand(3, -1, -1), teacher_BC, LABELS)
    assert loss.item() == pytest.approx(0, abs=1e-12)


def test_two_classes_leave_only_the_right_classs_part():
    student_TBC, teacher_BC = logits(1, 4, 2), logits(4, 2, seed=1)
    found = dkd_loss(student_TBC, teacher_BC, LABELS % 2, alpha=1.0, beta=8.0)
    assert found.item() == pytest.approx(kd_loss(student_TBC, teacher_BC).item(), rel=1e-9)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32])
def test_certain_logits_stay_finite_and_in_float32(kind):
    teacher_BC = torch.tensor([[1e3, 0.0, -1e3]], dtype=kind)
    student_TBC = torch.tensor([[[-1e3, 1e3, 0.0]]], dtype=kind, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        loss = dkd_loss(student_TBC, teacher_BC, torch.tensor([0]), temperature=1.0)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert student_TBC.grad.isfinite().all()


def test_without_a_sample_that_counts_the_loss_is_zero():
    loss = dkd_loss(logits(2, 4, 5), logits(4, 5, seed=1), LABELS, weight_B=torch.zeros(4))
    assert loss.item() == 0
