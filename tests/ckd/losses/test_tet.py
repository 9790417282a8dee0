import math

import numpy as np
import pytest
import torch

from oracles.reference import cross_entropy, tet
from spikebridge.ckd.losses import mean_logits_loss, tet_loss

LOG = math.log


def logits(steps=3, batch=4, classes=5, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(steps, batch, classes, generator=random, dtype=torch.float64) * 2


LABELS = torch.tensor([0, 4, 2, 2])


def test_plain_value_is_kts(kt):
    data = kt["tet"]
    found = tet_loss(
        torch.tensor(data["logits_TBC"]),
        torch.tensor(data["labels_B"]),
        regularisation=data["lambda"],
        target=data["threshold"],
    )
    assert found.item() == pytest.approx(data["plain"], rel=1e-6)


def test_weighted_value_is_kts(kt):
    data = kt["tet"]
    found = tet_loss(
        torch.tensor(data["logits_TBC"]),
        torch.tensor(data["labels_B"]),
        regularisation=data["lambda"],
        target=data["threshold"],
        step_weight_T=1 - torch.tensor(data["coefficient_logits_T"]).sigmoid(),
    )
    assert found.item() == pytest.approx(data["weighted_by_1_minus_sigmoid"], rel=1e-6)


def test_value_by_hand():
    # Step 1: softmax is (3/4, 1/4) and (1/2, 1/2); step 2: (1/2, 1/2) and (1/5, 4/5).
    z_TBC = torch.tensor([[[LOG(3), 0.0], [0.0, 0.0]], [[1.0, 1.0], [0.0, LOG(4)]]])
    label_B = torch.tensor([0, 1])
    first = 0.9 * (-LOG(3 / 4) - LOG(1 / 2)) / 2 + 0.1 * ((LOG(3) - 0.5) ** 2 + 3 * 0.25) / 4
    second = 0.9 * (-LOG(1 / 2) - LOG(4 / 5)) / 2 + 0.1 * (3 * 0.25 + (LOG(4) - 0.5) ** 2) / 4
    found = tet_loss(z_TBC, label_B, regularisation=0.1, target=0.5)
    assert found.item() == pytest.approx((first + second) / 2, rel=1e-6)
    weight_T = torch.tensor([1.0, 0.25])
    found = tet_loss(z_TBC, label_B, regularisation=0.1, target=0.5, step_weight_T=weight_T)
    assert found.item() == pytest.approx((first + 0.25 * second) / 2, rel=1e-6)


@pytest.mark.parametrize(("regularisation", "target"), [(0.0, 0.5), (0.001, 1.0), (1.0, 0.3)])
def test_value_is_the_references(regularisation, target):
    weight_T = torch.tensor([0.2, 1.0, 0.7], dtype=torch.float64)
    found = tet_loss(
        logits(), LABELS, regularisation=regularisation, target=target, step_weight_T=weight_T
    )
    expected = tet(logits().numpy(), LABELS.numpy(), regularisation, target, weight_T.numpy())
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_each_label_belongs_to_its_own_sample_at_every_step():
    # Every sample's own class stands out, so only mixed-up labels can make the loss large.
    z_TBC = torch.nn.functional.one_hot(LABELS, 5).float().mul(30).expand(3, -1, -1)
    assert tet_loss(z_TBC, LABELS, regularisation=0.0).item() < 1e-6


@pytest.mark.parametrize("weighted", [False, True])
def test_tet_gradient_is_the_numerical_one(weighted):
    weight_T = torch.tensor([0.2, 1.0, 0.7], dtype=torch.float64, requires_grad=weighted)
    assert torch.autograd.gradcheck(
        lambda z, w: tet_loss(
            z, LABELS % 3, regularisation=0.1, step_weight_T=w if weighted else None
        ),
        (logits(classes=3).requires_grad_(), weight_T),
    )


def test_mean_logits_value_by_hand():
    # The mean over steps is (log 3, 0), softmax (3/4, 1/4).
    z_TBC = torch.tensor([[[2 * LOG(3), 1.0]], [[0.0, -1.0]]])
    found = mean_logits_loss(z_TBC, torch.tensor([1]))
    assert found.item() == pytest.approx(-LOG(1 / 4), rel=1e-6)
    weight_T = torch.tensor([0.9, 0.3])
    found = mean_logits_loss(z_TBC, torch.tensor([1]), step_weight_T=weight_T)
    assert found.item() == pytest.approx(-0.6 * LOG(1 / 4), rel=1e-6)


def test_mean_logits_value_is_the_references():
    expected = cross_entropy(logits().numpy().mean(0), LABELS.numpy())
    assert mean_logits_loss(logits(), LABELS).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("loss", [tet_loss, mean_logits_loss])
@pytest.mark.parametrize("weight_T", [None, torch.tensor([0.2, 1.0, 0.7], dtype=torch.float64)])
def test_shares_of_one_class_are_its_index_to_the_bit(loss, weight_T):
    one_hot_BC = torch.nn.functional.one_hot(LABELS, 5).float()
    for z_TBC in (logits(), logits().float(), logits().bfloat16()):
        by_share = loss(z_TBC, one_hot_BC, step_weight_T=weight_T)
        assert torch.equal(by_share, loss(z_TBC, LABELS, step_weight_T=weight_T))


@pytest.mark.parametrize("loss", [tet_loss, mean_logits_loss])
def test_shares_of_two_classes_weigh_their_losses(loss):
    z_TBC, others_B = logits(), torch.tensor([1, 4, 0, 3])
    share_B = torch.tensor([0.5, 0.7, 1.0, 0.9], dtype=torch.float64)
    one_BC, other_BC = (torch.nn.functional.one_hot(of_B, 5) for of_B in (LABELS, others_B))
    found = loss(z_TBC, share_B[:, None] * one_BC + (1 - share_B[:, None]) * other_BC)
    each = [
        share * loss(z_TBC[:, [b]], LABELS[[b]]) + (1 - share) * loss(z_TBC[:, [b]], others_B[[b]])
        for b, share in enumerate(share_B)
    ]
    assert found.item() == pytest.approx(torch.stack(each).mean().item(), rel=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_mean_logits_gradient_is_the_numerical_one(weighted):
    weight_T = torch.tensor([0.2, 1.0, 0.7], dtype=torch.float64, requires_grad=weighted)
    assert torch.autograd.gradcheck(
        lambda z, w: mean_logits_loss(z, LABELS % 3, step_weight_T=w if weighted else None),
        (logits(classes=3).requires_grad_(), weight_T),
    )


@pytest.mark.parametrize("loss", [tet_loss, mean_logits_loss])
def test_bfloat16_logits_under_autocast_are_summed_in_float32(loss):
    z_TBC = logits(batch=4).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(z_TBC, LABELS)
    assert found.dtype == torch.float32
    assert torch.equal(found, loss(z_TBC.float(), LABELS))


@pytest.mark.parametrize("loss", [tet_loss, mean_logits_loss])
def test_huge_logits_stay_finite(loss):
    z_TBC = (logits() * 1e4).float().requires_grad_()
    value = loss(z_TBC, LABELS)
    value.backward()
    assert np.isfinite(value.item())
    assert z_TBC.grad.isfinite().all()
