"""The objective's options beyond the method's defaults."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from factories import refused
from objective_case import (
    CLASSES,
    SAMPLES,
    CountingTeacher,
    generator,
    hybrid_frames,
    make,
    make_batch,
    outputs,
    perceived,
    photo_frames,
    rows_replaced,
    steps_replaced,
)
from oracles import reference
from spikebridge.settings.parsing import config_from
from spikebridge.settings.presets import methods


def seen_by(objective, student, batch, u):
    """What the hybrid stream's forward is given, and what is logged."""
    seen = {}
    hook = student.register_forward_pre_hook(lambda _, args: seen.update({args[1]: args[0]}))
    logged = objective(student, CountingTeacher(), batch, u, generator()).logged
    hook.remove()
    return seen["hybrid"], logged


def test_a_staged_source_goes_from_photo_by_simulated_to_recorded():
    objective, student = make(source="staged", replacement={"shape": "power", "power": 2.0})
    batch = make_batch(samples=64)
    u = 0.6
    draws = generator()
    simulated_B = torch.rand(64, generator=draws) < u
    replaced_B = torch.rand(64, generator=draws) < u**2
    photos_TBCHW = photo_frames(batch)
    frames, logged = seen_by(objective, student, batch, u)
    kinds = set()
    for b in range(64):
        kind = "recorded" if replaced_B[b] else "simulated" if simulated_B[b] else "photo"
        expected = {"recorded": batch.dvs_TBCHW, "simulated": batch.simulated_TBCHW}
        torch.testing.assert_close(frames[:, b], expected.get(kind, photos_TBCHW)[:, b])
        kinds.add(kind)
    assert kinds == {"photo", "simulated", "recorded"}
    assert logged["replaced"] == pytest.approx(replaced_B.float().mean().item())
    share = (simulated_B & ~replaced_B).float().mean().item()
    assert logged["simulated"] == pytest.approx(share)


def test_a_staged_source_is_all_photo_at_first_and_all_simulated_at_last():
    objective, student = make(source="staged", replacement={"shape": "never"})
    batch = make_batch()
    frames, logged = seen_by(objective, student, batch, 0.0)
    torch.testing.assert_close(frames, photo_frames(batch))
    assert logged["simulated"] == 0
    frames, logged = seen_by(objective, student, batch, 1.0 - 1e-9)
    assert torch.equal(frames, batch.simulated_TBCHW)
    assert logged["simulated"] == 1


def test_other_sources_log_no_share_of_simulated_recordings():
    assert "simulated" not in seen_by(*make(source="simulated"), make_batch(), 0.9)[1]


def test_time_step_mixup_replaces_steps_and_logs_their_share():
    objective, student = make(replace="time-step", replacement={"shape": "linear"})
    batch = make_batch()
    replaced_TB = steps_replaced(0.4)
    frames, logged = seen_by(objective, student, batch, 0.4)
    torch.testing.assert_close(frames, hybrid_frames(batch, replaced_TB))
    assert logged["replaced"] == pytest.approx(replaced_TB.float().mean().item())
    assert logged["replacement"] == 0.4


def test_kd_on_rgb_weighs_samples_by_their_share_of_photo_steps():
    objective, student = make(replace="time-step", kd_on="rgb", replacement={"shape": "linear"})
    batch = make_batch()
    replaced_TB = steps_replaced(0.3)
    z_hybrid, _, _, _ = outputs(student, batch, hybrid_frames(batch, replaced_TB))
    logits_BC = CountingTeacher.logits(batch.photo_B3HW).numpy()
    weight_B = 1 - replaced_TB.numpy().mean(0)
    assert len(set(weight_B.tolist())) > 2
    each = [reference.kd(z_hybrid, logits_BC, 4.0, rows=[b]) for b in range(SAMPLES)]
    found = objective(student, CountingTeacher(), batch, 0.3, generator()).losses["kd"].item()
    assert found == pytest.approx(np.average(each, weights=weight_B), rel=1e-4)


@pytest.mark.parametrize("switch", ["modality", "ratio"])
def test_each_auxiliary_loss_stands_alone_and_teaches_head_and_student(switch):
    objective, student = make(
        "kt", replace="time-step", replacement={"shape": "linear"}, **{f"{switch}_weight": 0.1}
    )
    batch = make_batch()
    replaced_TB = steps_replaced(0.4)
    frames = hybrid_frames(batch, replaced_TB)
    expected = perceived(objective, student, frames, replaced_TB)[switch == "ratio"]
    losses = objective(student, None, batch, 0.4, generator()).losses
    assert losses.keys() == {"hybrid", "dvs", "alignment", switch}
    assert losses[switch].item() == pytest.approx(expected, rel=1e-4)
    losses[switch].backward()
    trained = {name for name, p in objective.named_parameters() if p.grad is not None}
    assert trained == {f"mixup_heads.{switch}.weight", f"mixup_heads.{switch}.bias"}
    assert student.backbone.layers[0].synapse.layers[0].weight.grad.any()


def varied_logits():
    """A teacher's, surer of some samples than of others."""
    random = torch.Generator().manual_seed(3)
    return torch.randn(SAMPLES, CLASSES, generator=random) * 2


@pytest.mark.parametrize("per_step", [False, True])
def test_other_distillation_losses_take_the_place_of_the_divergence(per_step):
    batch = make_batch()
    logits_BC = varied_logits().numpy()
    switches = {"kd_per_step": per_step, "kd_temperature": 2.0}
    objective, student = make(kd_loss="dkd", dkd_alpha=0.5, dkd_beta=2.0, **switches)
    z_hybrid, _, _, _ = outputs(student, batch, hybrid_frames(batch, rows_replaced(0.0)))
    expected = reference.dkd(
        z_hybrid, logits_BC, batch.label_B.numpy(), 2.0, alpha=0.5, beta=2.0, per_step=per_step
    )
    losses = objective(student, lambda _: varied_logits(), batch, 0.0, generator()).losses
    assert losses["kd"].item() == pytest.approx(expected, rel=1e-4)
    objective, student = make(kd_loss="dist", **switches)
    losses = objective(student, lambda _: varied_logits(), batch, 0.0, generator()).losses
    expected = reference.dist(z_hybrid, logits_BC, 2.0, per_step=per_step)
    assert losses["kd"].item() == pytest.approx(expected, rel=1e-4)


def test_statistics_of_both_streams_are_remembered_where_asked_for():
    batch = make_batch()
    for method, remembered in (("sim-only", True), ("sim-pretrain", False)):
        objective, student = make(method)
        twin = copy.deepcopy(student)
        objective(student, None, batch, 0.0, generator())
        if remembered:
            twin(batch.simulated_TBCHW, "dvs")
        for (name, ours), theirs in zip(student.named_buffers(), twin.buffers(), strict=True):
            assert torch.equal(ours, theirs), name


@pytest.mark.parametrize(
    ("switches", "words"),
    [
        ({"dvs_from": 1.0}, "statistics both"),
        ({"statistics": "both", "two_heads": True}, "two_heads false"),
        ({"modality_weight": -1.0}, "modality_weight"),
        ({"ratio_weight": -1.0}, "ratio_weight"),
        ({"dkd_beta": -1.0}, "dkd_beta"),
    ],
)
def test_switches_that_cannot_work_are_refused(switches, words):
    refused(lambda: config_from({"objective": switches}, "mine.yaml"), "mine.yaml", words)


def test_evaluation_waits_for_the_dvs_stream_unless_it_never_comes():
    froms = {method: make(method)[0].config.evaluate_from for method in methods()}
    assert froms.pop("pretrain-finetune") == froms.pop("sim-pretrain") == 0.5
    assert set(froms.values()) == {0.0}


@pytest.mark.parametrize("switches", [
    {}, {"replace": "time-step"}, {"source": "simulated"}, {"source": "staged"},
    {"kd_loss": "dist"}, {"kd_loss": "dkd", "kd_on": "rgb"},
], ids=str)  # fmt: skip
def test_samples_without_a_photo_are_events_from_the_start_and_nobody_teaches_them(switches):
    objective, student = make(**switches)
    alone_B = torch.arange(SAMPLES) % CLASSES == 1
    batch = dataclasses.replace(make_batch(), alone_B=alone_B)
    other_photos = batch.photo_B3HW.clone()
    other_photos[alone_B] = torch.rand_like(other_photos[alone_B])
    frames, logged = seen_by(objective, student, batch, 0.0)
    assert torch.equal(frames[:, alone_B], batch.dvs_TBCHW[:, alone_B])
    assert not (frames[:, ~alone_B] == batch.dvs_TBCHW[:, ~alone_B]).all((0, 2, 3, 4)).any()
    assert logged["replaced"] == pytest.approx(alone_B.float().mean().item())

    class Teacher:
        """Says of samples without a photo what it likes."""

        def __init__(self, shift):
            self.shift = shift

        def __call__(self, photo_B3HW):
            logits_BC = torch.linspace(-2, 2, SAMPLES * CLASSES).reshape(SAMPLES, CLASSES).cos() * 3
            return logits_BC + alone_B[:, None] * self.shift * torch.arange(CLASSES)

    def losses(batch, shift):
        twin = copy.deepcopy(student)
        return objective(twin, Teacher(shift), batch, 0.0, generator()).losses

    first = losses(batch, 0.0)
    second = losses(dataclasses.replace(batch, photo_B3HW=other_photos), 5.0)
    assert first["kd"] > 0
    for name, loss in first.items():
        torch.testing.assert_close(second[name], loss, rtol=1e-5, atol=1e-6)
