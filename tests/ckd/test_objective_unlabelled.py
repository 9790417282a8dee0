"""What the loss learns of photos whose class a labeller answered."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from factories import refused
from objective_case import (
    SAMPLES,
    CountingTeacher,
    generator,
    hybrid_frames,
    make,
    make_batch,
    rows_replaced,
)
from oracles import reference
from spikebridge.data.feed.views import Mixup
from spikebridge.settings.parsing import config_from

ANSWERED_B = np.array([True, False, True, True, False, True, False, True])
PARTNER_B = np.array([1, 2, 3, 4, 5, 6, 7, 0])
SHARE_B = np.array([0.6, 0.9, 0.5, 0.7, 0.8, 0.55, 1.0, 0.75], np.float32)
PROGRESS = 0.45
LINEAR = {"shape": "linear"}


def given(mixed):
    """A batch of photos with and without labels, and which of them recordings replace."""
    batch = replace(make_batch(), answered_B=torch.from_numpy(ANSWERED_B))
    replaced_B = rows_replaced(PROGRESS).numpy()
    assert 1 < replaced_B.sum() < SAMPLES - 1
    assert (ANSWERED_B & replaced_B).any()
    assert (ANSWERED_B & ~replaced_B).any()
    if mixed:
        mixup = Mixup(
            torch.from_numpy(PARTNER_B),
            batch.label_B[PARTNER_B],
            torch.from_numpy(np.where(replaced_B, 1, SHARE_B)).float(),
            torch.from_numpy(ANSWERED_B[PARTNER_B]),
        )
        batch = replace(batch, mixup=mixup)
    return batch, replaced_B


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("classification", ["tet", "ce"])
@pytest.mark.parametrize("learn", ["class", "logits", "both"])
def test_a_photo_without_a_label_teaches_class_or_logits(learn, classification, mixed):
    batch, replaced_B = given(mixed)
    objective, student = make(
        classification=classification, unlabelled={"learn": learn}, replacement=LINEAR
    )
    frames_TBCHW = hybrid_frames(batch, replaced_B)
    z_TBC = copy.deepcopy(student)(frames_TBCHW, "hybrid").logits_TBC.detach().numpy()
    losses = objective(student, CountingTeacher(), batch, PROGRESS, generator()).losses
    share_B = SHARE_B if mixed else np.ones(SAMPLES)
    share_B = np.where(replaced_B, 1, share_B)
    takes_class_B = np.ones(SAMPLES) if learn != "logits" else (~ANSWERED_B).astype(float)
    own_B = np.where(replaced_B, 1, takes_class_B)  # A recording has its own label.
    label_B, classified = batch.label_B.numpy(), 0.0
    for b in range(SAMPLES):
        z = z_TBC[:, [b]]
        for weight, label in (
            (share_B[b] * own_B[b], label_B[b]),
            ((1 - share_B[b]) * takes_class_B[PARTNER_B[b]], label_B[PARTNER_B[b]]),
        ):
            # Without its regulariser, which asks no label.
            classified += weight * (
                reference.tet(z, np.array([label]), 0.0, 0.6)
                if classification == "tet"
                else reference.cross_entropy(z.mean(0), np.array([label]))
            )
    expected = classified / SAMPLES
    if classification == "tet":
        expected = (1 - 1e-3) * expected + 1e-3 * ((z_TBC - 0.6) ** 2).mean()
    assert losses["hybrid"].item() == pytest.approx(expected, rel=1e-5)

    teacher_BC = CountingTeacher.logits(batch.photo_B3HW).numpy()
    each_B = np.array(
        [reference.kd(z_TBC, teacher_BC, 4.0, rows=np.array([b])) for b in range(SAMPLES)]
    )
    taught_B = np.ones(SAMPLES)
    if learn == "class":
        known_B = (~ANSWERED_B).astype(float)
        taught_B = share_B * known_B + (1 - share_B) * known_B[PARTNER_B]
    weight = objective.config.distillation(PROGRESS, PROGRESS)
    expected = weight * (taught_B * each_B).sum() / SAMPLES
    assert losses["kd"].item() == pytest.approx(expected, rel=1e-5)


def test_labels_alone_are_as_if_nobody_had_been_asked():
    batch = make_batch()
    asked = replace(batch, answered_B=torch.zeros(SAMPLES, dtype=torch.bool))
    for learn in ("class", "logits", "both"):
        found = []
        for one in (batch, asked):
            objective, student = make(unlabelled={"learn": learn}, replacement=LINEAR)
            found.append(objective(student, CountingTeacher(), one, 0.3, generator()).total.item())
        assert found[0] == pytest.approx(found[1], rel=1e-6)


@pytest.mark.parametrize(
    ("switches", "words"),
    [
        ({"unlabelled": {"learn": "labels"}}, ("objective.unlabelled.learn", "labels")),
        ({"unlabelled": {"least_likeness": 1.0}}, ("least_likeness", "[-1, 1)")),
        ({"unlabelled": {"labeller": "student"}}, ("labeller student", "objective.source")),
        (
            {
                "unlabelled": {"labeller": "student", "learn": "logits"},
                "source": "simulated",
                "distillation": {"shape": "none"},
            },
            ("learn logits", "teacher"),
        ),
    ],
)
def test_wrong_settings_are_refused(switches, words):
    refused(lambda: config_from({"objective": switches}, "mine.yaml"), "mine.yaml", *words)


@pytest.mark.parametrize(
    ("switches", "takes"),
    [
        ({}, True),
        ({"unlabelled": {"learn": "none"}}, False),
        ({"distillation": {"shape": "none"}}, False),
        ({"hybrid_until": 0.0}, False),
        (
            {
                "distillation": {"shape": "none"},
                "source": "simulated",
                "unlabelled": {"labeller": "student"},
            },
            True,
        ),
    ],
)
def test_who_takes_photos_without_labels(switches, takes):
    assert config_from({"objective": switches}, "test").objective.takes_unlabelled is takes
