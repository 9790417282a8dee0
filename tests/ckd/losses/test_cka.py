import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import linear_kernel
from sklearn.preprocessing import KernelCenterer

from oracles.reference import alignment, cka_biased, cka_debiased
from spikebridge.ckd.losses import alignment_loss, linear_cka

ESTIMATES = pytest.mark.parametrize("debiased", [False, True])


def normal(*shape, seed=0, dtype=torch.float64):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=random, dtype=torch.float64).to(dtype)


def related(batch, features, seed=0):
    """Two representations with something in common and a mean far from 0."""
    x_BN = normal(batch, features, seed=seed)
    mixing_NN = normal(features, features, seed=seed + 1)
    noise_BN = normal(batch, features, seed=seed + 2)
    return x_BN + 3, x_BN @ mixing_NN / math.sqrt(features) + 0.5 * noise_BN - 2


def reference(debiased):
    return cka_debiased if debiased else cka_biased


@ESTIMATES
@settings(max_examples=30, deadline=None)
@given(batch=st.integers(4, 12), features=st.integers(2, 30), seed=st.integers(0, 1000))
def test_value_is_the_textbooks(debiased, batch, features, seed):
    # A batch of 4 has two degrees of freedom per U-centred matrix and may make its norm tiny.
    x_BN, y_BN = related(batch, features, seed)
    expected = reference(debiased)(x_BN.numpy(), y_BN.numpy())
    found = linear_cka(x_BN, y_BN, debiased=debiased).item()
    assert found == pytest.approx(expected, abs=1e-5)


def test_value_is_scikit_learns_centred_kernels():
    x_BN, y_BN = related(20, 7)
    centre = KernelCenterer().fit_transform
    k_BB, l_BB = centre(linear_kernel(x_BN.numpy())), centre(linear_kernel(y_BN.numpy()))
    expected = (k_BB * l_BB).sum() / np.linalg.norm(k_BB) / np.linalg.norm(l_BB)
    assert linear_cka(x_BN, y_BN).item() == pytest.approx(expected, rel=1e-9)


@ESTIMATES
def test_value_is_kts(kt, debiased):
    cka = kt["linear_cka"]
    x_BN, y_BN = (torch.tensor(cka[k], dtype=torch.float64) for k in ("x_BN", "y_BN"))
    found = linear_cka(x_BN, y_BN, debiased=debiased).item()
    assert found == pytest.approx(cka["debiased" if debiased else "biased"], rel=1e-8)


def test_gradient_is_kts(kt):
    cka = {k: torch.tensor(v, dtype=torch.float64) for k, v in kt["linear_cka"].items()}
    x_BN, y_BN = cka["x_BN"].requires_grad_(), cka["y_BN"].requires_grad_()
    linear_cka(x_BN, y_BN).backward()
    torch.testing.assert_close(x_BN.grad, cka["grad_x_BN"], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(y_BN.grad, cka["grad_y_BN"], rtol=1e-6, atol=1e-9)


@ESTIMATES
def test_float32_is_close_to_double(debiased):
    x_BN, y_BN = related(16, 400)
    expected = reference(debiased)(x_BN.numpy(), y_BN.numpy())
    found = linear_cka(x_BN.float(), y_BN.float(), debiased=debiased)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected, abs=2e-5)


@ESTIMATES
def test_a_large_mean_does_not_drown_the_differences(debiased):
    x_BN, y_BN = related(16, 50)
    expected = reference(debiased)(x_BN.numpy(), y_BN.numpy())
    found = linear_cka((x_BN + 1000).float(), (y_BN - 1000).float(), debiased=debiased)
    assert found.item() == pytest.approx(expected, abs=1e-3)


@ESTIMATES
def test_gradient_is_the_numerical_one(debiased):
    x_BN, y_BN = related(6, 5)
    inputs = x_BN.requires_grad_(), y_BN.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: linear_cka(x, y, debiased=debiased), inputs)


@ESTIMATES
def test_gradient_over_time_steps_is_the_numerical_one(debiased):
    x_TBN, y_TBN = normal(2, 5, 3).requires_grad_(), normal(2, 5, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, y: linear_cka(x, y, debiased=debiased), (x_TBN, y_TBN)
    )


@ESTIMATES
def test_identical_representations_give_one(debiased):
    x_BN = normal(8, 30)
    assert linear_cka(x_BN, x_BN, debiased=debiased).item() == pytest.approx(1, abs=1e-7)


@ESTIMATES
def test_rotation_shift_and_scaling_change_nothing(debiased):
    x_BN, y_BN = related(10, 6)
    rotation_NN = torch.linalg.qr(normal(6, 6, seed=9)).Q
    expected = linear_cka(x_BN, y_BN, debiased=debiased)
    assert not torch.isclose(linear_cka(x_BN, x_BN @ normal(6, 6)), torch.tensor(1.0).double())
    found = linear_cka(x_BN @ rotation_NN * 7, y_BN @ rotation_NN.mT * 0.2 + 5, debiased=debiased)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-8)


@ESTIMATES
def test_a_common_permutation_of_samples_changes_nothing_and_another_does(debiased):
    x_BN, y_BN = related(10, 6)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(3))
    expected = linear_cka(x_BN, y_BN, debiased=debiased)
    found = linear_cka(x_BN[order], y_BN[order], debiased=debiased)
    torch.testing.assert_close(found, expected)
    assert linear_cka(x_BN[order], y_BN, debiased=debiased) < expected - 0.05


@ESTIMATES
def test_the_order_of_the_arguments_changes_nothing(debiased):
    x_BN, y_BN = related(10, 6)
    torch.testing.assert_close(
        linear_cka(x_BN, y_BN, debiased=debiased), linear_cka(y_BN, x_BN, debiased=debiased)
    )


def test_only_the_biased_estimate_is_inflated_for_unrelated_inputs():
    x_TBN, y_TBN = normal(400, 10, 200), normal(400, 10, 200, seed=1)
    biased, debiased = linear_cka(x_TBN, y_TBN), linear_cka(x_TBN, y_TBN, debiased=True)
    assert biased.mean() > 0.9
    # The mean's standard error is about 0.01.
    assert abs(debiased.mean()) < 0.03
    assert debiased.min() < 0 < debiased.max()


@ESTIMATES
def test_each_time_step_is_on_its_own(debiased):
    x_TBN, y_TBN = normal(2, 3, 6, 5), normal(2, 3, 6, 8, seed=1)
    found = linear_cka(x_TBN, y_TBN, debiased=debiased)
    assert found.shape == (2, 3)
    for index in np.ndindex(2, 3):
        expected = reference(debiased)(x_TBN[index].numpy(), y_TBN[index].numpy())
        assert found[index].item() == pytest.approx(expected, abs=1e-5)


@ESTIMATES
def test_bfloat16_under_autocast_is_computed_in_float32(debiased):
    x_BN, y_BN = (x.bfloat16() for x in related(16, 60))
    expected = linear_cka(x_BN.float(), y_BN.float(), debiased=debiased)
    x_BN.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = linear_cka(x_BN, y_BN, debiased=debiased)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    double = related(16, 60)
    assert found.item() == pytest.approx(reference(debiased)(*double), abs=0.01)
    found.backward()
    assert x_BN.grad.isfinite().all()
    assert x_BN.grad.any()


@pytest.mark.parametrize(
    ("batch", "debiased"), [(0, False), (1, False), (0, True), (1, True), (3, True)]
)
def test_too_small_a_batch_is_refused(batch, debiased):
    with pytest.raises(ValueError, match="at least"):
        linear_cka(normal(batch, 5), normal(batch, 5), debiased=debiased)


def test_different_batches_are_refused():
    with pytest.raises(ValueError, match="batches differ"):
        linear_cka(normal(4, 5), normal(5, 5))
    with pytest.raises(ValueError, match="batches differ"):
        linear_cka(normal(2, 4, 5), normal(3, 4, 5))


def test_a_smaller_last_batch_works():
    x_BN, y_BN = related(16, 6)
    for batch in (16, 5, 2):
        expected = cka_biased(x_BN[:batch].numpy(), y_BN[:batch].numpy())
        assert linear_cka(x_BN[:batch], y_BN[:batch]).item() == pytest.approx(expected, abs=1e-7)


@ESTIMATES
def test_a_silent_layer_gives_zero_and_finite_gradients(debiased):
    x_BN = torch.zeros(6, 5, dtype=torch.float64, requires_grad=True)
    y_BN = normal(6, 5).requires_grad_()
    cka = linear_cka(x_BN, y_BN, debiased=debiased)
    cka.backward()
    assert cka.item() == 0
    assert x_BN.grad.isfinite().all()
    assert y_BN.grad.isfinite().all()


def test_alignment_loss_by_hand():
    # (0.5 (1 - 0.8) + 0.25 (1 - 0.4)) / 2; the sign of CKA does not count
    loss = alignment_loss(torch.tensor([0.8, -0.4]), torch.tensor([0.5, 0.25]))
    assert loss.item() == pytest.approx(0.125)


@ESTIMATES
def test_alignment_loss_is_the_references(debiased):
    x_TBN, y_TBN = normal(4, 6, 5), normal(4, 6, 5, seed=1)
    coefficient_T = normal(4, seed=2).sigmoid()
    expected = alignment(x_TBN.numpy(), y_TBN.numpy(), coefficient_T.numpy(), debiased=debiased)
    found = alignment_loss(linear_cka(x_TBN, y_TBN, debiased=debiased), coefficient_T)
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_alignment_loss_gradient_is_the_numerical_one():
    cka_T = torch.tensor([0.7, -0.2, 0.4], dtype=torch.float64, requires_grad=True)
    coefficient_T = normal(3).sigmoid().requires_grad_()
    assert torch.autograd.gradcheck(alignment_loss, (cka_T, coefficient_T))


@ESTIMATES
def test_alignment_of_representations_gradient_is_the_numerical_one(debiased):
    x_TBN, y_TBN = normal(2, 5, 4).requires_grad_(), normal(2, 5, 4, seed=1).requires_grad_()
    coefficient_T = normal(2, seed=2).sigmoid().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, y, c: alignment_loss(linear_cka(x, y, debiased=debiased), c),
        (x_TBN, y_TBN, coefficient_T),
    )
