import math

import pytest
import torch

from spikebridge.ckd.losses import MixupHeads, modality_loss, ratio_loss

REPLACED = torch.tensor([[True, False], [True, True], [False, False], [True, False]])


def test_modality_loss_by_hand():
    logit_TB = torch.tensor([[math.log(3), 0.0]])
    loss = modality_loss(logit_TB, torch.tensor([[True, False]]))
    assert loss.item() == pytest.approx(-(math.log(3 / 4) + math.log(1 / 2)) / 2)


def test_ratio_loss_by_hand():
    # The shares of event steps are 3/4 and 1/4.
    loss = ratio_loss(torch.tensor([0.5, 0.5]), REPLACED)
    assert loss.item() == pytest.approx(0.0625)
    assert ratio_loss(torch.tensor([0.75, 0.25]), REPLACED).item() == 0


def test_the_heads_read_each_step_and_the_mean_over_time():
    heads = MixupHeads(2)
    torch.nn.init.constant_(heads.modality.weight, 2.0)
    torch.nn.init.constant_(heads.modality.bias, -1.0)
    torch.nn.init.constant_(heads.ratio.weight, 1.0)
    torch.nn.init.constant_(heads.ratio.bias, 0.0)
    features_TBF = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]], [[1.0, 1.0]]])
    logit_TB, share_B = heads(features_TBF)
    assert logit_TB.tolist() == [[1.0], [-1.0], [3.0]]
    assert share_B.tolist() == pytest.approx([1 / (1 + math.exp(-1))])


def test_features_that_tell_the_modality_can_be_learned_from():
    torch.manual_seed(0)
    heads = MixupHeads(3)
    optimiser = torch.optim.Adam(heads.parameters(), lr=0.1)
    features_TBF = torch.stack([REPLACED, ~REPLACED, torch.ones_like(REPLACED)], -1).float()
    for _ in range(200):
        logit_TB, share_B = heads(features_TBF)
        loss = modality_loss(logit_TB, REPLACED) + ratio_loss(share_B, REPLACED)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    logit_TB, share_B = heads(features_TBF)
    assert torch.equal(logit_TB > 0, REPLACED)
    assert share_B.tolist() == pytest.approx([0.75, 0.25], abs=0.05)


def test_bfloat16_features_under_autocast_give_float32_losses():
    heads = MixupHeads(3)
    with torch.autocast("cpu", torch.bfloat16):
        logit_TB, share_B = heads(torch.rand(4, 2, 3))
        losses = modality_loss(logit_TB, REPLACED), ratio_loss(share_B, REPLACED)
    assert {loss.dtype for loss in losses} == {torch.float32}
