import pytest
import torch

from oracles import reference
from spikebridge.ckd.losses import dist_loss

MODES = pytest.mark.parametrize("per_step", [False, True])


def logits(*shape, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=random, dtype=torch.float64) * 3


@MODES
@pytest.mark.parametrize(("beta", "gamma"), [(1.0, 1.0), (2.0, 0.0), (0.0, 0.5)])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_value_is_numpys_correlation(per_step, beta, gamma, temperature):
    student_TBC, teacher_BC = logits(3, 6, 5), logits(6, 5, seed=1)
    expected = reference.dist(
        student_TBC.numpy(), teacher_BC.numpy(), temperature, beta=beta, gamma=gamma,
        per_step=per_step,
    )  # fmt: skip
    found = dist_loss(
        student_TBC,
        teacher_BC,
        beta=beta,
        gamma=gamma,
        temperature=temperature,
        per_step=per_step,
    )
    assert found.item() == pytest.approx(expected, rel=1e-6)


@MODES
def test_a_mask_leaves_samples_out_of_both_parts(per_step):
    student_TBC, teacher_BC = logits(3, 6, 5), logits(6, 5, seed=1)
    select_B = torch.tensor([True, False, True, True, False, True])
    expected = reference.dist(
        student_TBC.numpy(), teacher_BC.numpy(), 4.0, per_step=per_step, rows=select_B.numpy()
    )
    found = dist_loss(student_TBC, teacher_BC, per_step=per_step, weight_B=select_B)
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_a_sample_of_weight_one_half_counts_half_of_one_that_stands_twice():
    student_TBC, teacher_BC = logits(2, 4, 5), logits(4, 5, seed=1)
    twice = torch.tensor([0, 1, 2, 2, 3])
    expected = dist_loss(student_TBC[:, twice], teacher_BC[twice])
    weight_B = torch.tensor([0.5, 0.5, 1.0, 0.5])
    found = dist_loss(student_TBC, teacher_BC, weight_B=weight_B)
    assert found.item() == pytest.approx(expected.item(), rel=1e-9)


def test_scale_and_shift_of_probabilities_do_not_count():
    # Halving the teacher's distance from the uniform distribution changes no correlation over
    # classes: a far stronger teacher asks for nothing that the student cannot give.
    p_BC = torch.softmax(logits(6, 5), -1)
    flat_BC = 0.5 * p_BC + 0.5 / 5
    loss = dist_loss(p_BC.log()[None], flat_BC.log(), temperature=1.0)
    assert loss.item() == pytest.approx(0, abs=1e-6)


@MODES
def test_gradient_is_the_numerical_one_and_the_teacher_gets_none(per_step):
    teacher_BC = logits(4, 5, seed=1).requires_grad_()
    student_TBC = logits(2, 4, 5).requires_grad_()
    weight_B = torch.tensor([1.0, 0.5, 0.0, 1.0])
    assert torch.autograd.gradcheck(
        lambda z: dist_loss(z, teacher_BC, per_step=per_step, weight_B=weight_B), student_TBC
    )
    dist_loss(student_TBC, teacher_BC).backward()
    assert teacher_BC.grad is None


@pytest.mark.parametrize("samples", [1, 4])
def test_without_a_sample_that_counts_the_loss_is_zero(samples):
    student_TBC = logits(2, samples, 5).requires_grad_()
    loss = dist_loss(student_TBC, logits(samples, 5, seed=1), weight_B=torch.zeros(samples))
    loss.backward()
    assert loss.item() == 0
    assert not student_TBC.grad.any()


def test_a_single_sample_and_certain_logits_stay_finite():
    student_TBC = torch.tensor([[[1e4, 0.0, 0.0]]], requires_grad=True)
    loss = dist_loss(student_TBC, torch.tensor([[0.0, 1e4, 0.0]]), temperature=1.0)
    loss.backward()
    # (1, 0, 0) and (0, 1, 0) correlate by -1/2 over classes; over one sample nothing does.
    assert loss.item() == pytest.approx(1.5 + 1.0)
    assert student_TBC.grad.isfinite().all()


def test_bfloat16_logits_under_autocast_are_compared_in_float32():
    student_TBC, teacher_BC = logits(3, 6, 5).bfloat16(), logits(6, 5, seed=1).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = dist_loss(student_TBC, teacher_BC)
    assert found.dtype == torch.float32
    assert torch.equal(found, dist_loss(student_TBC.float(), teacher_BC.float()))
