import copy

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from objective_case import (
    CLASSES,
    SAMPLES,
    SEED,
    STEPS,
    THRESHOLD,
    CountingTeacher,
    generator,
    hybrid_frames,
    make,
    make_batch,
    outputs,
    perceived,
    phased,
    rows_replaced,
    sigmoid,
    steps_replaced,
)
from oracles import reference
from spikebridge.settings.presets import methods

PROGRESS = [0.0, 0.55, 0.95]
TERMS = {
    "ann-on-frames": ["dvs"] * 3,
    "ckd": ["hybrid kd dvs alignment", "hybrid kd dvs alignment", "hybrid dvs alignment"],
    "ckd-plus": ["hybrid kd dvs alignment", "hybrid kd dvs alignment", "hybrid dvs alignment"],
    "kd-no-alignment": ["hybrid kd dvs", "hybrid kd dvs", "hybrid dvs"],
    "kd-no-replacement": ["hybrid kd dvs alignment", "hybrid kd dvs alignment"]
    + ["hybrid dvs alignment"],
    "kt": ["hybrid dvs alignment"] * 3,
    "naive-kd": ["hybrid kd dvs alignment"] * 3,
    "pretrain-finetune": ["hybrid", "dvs", "dvs"],
    "scratch": ["dvs"] * 3,
    "self-training": ["hybrid dvs alignment"] * 3,
    "scratch+tet": ["dvs"] * 3,
    "sim-only": ["hybrid"] * 3,
    "sim-pretrain": ["hybrid", "dvs", "dvs"],
    "tmkt": ["hybrid dvs alignment modality ratio"] * 3,
}
"""Losses that equation 11 gives each method at the three points of PROGRESS."""


@pytest.mark.parametrize("method", methods())
@pytest.mark.parametrize("point", range(3))
def test_each_method_has_its_losses_and_their_sum(method, point):
    u = PROGRESS[point]
    objective, student = make(method)
    batch, teacher = make_batch(), CountingTeacher()
    never = ("kd-no-replacement", "sim-only")
    probability = 0.0 if method in never else u**3
    replaced = (steps_replaced if method == "tmkt" else rows_replaced)(probability)
    assert replaced.any() == (probability > 0.1)
    simulated = method in ("sim-only", "sim-pretrain", "ckd-plus", "self-training")
    frames = hybrid_frames(batch, replaced, batch.simulated_TBCHW if simulated else None)
    z_hybrid, v_hybrid, z_dvs, v_dvs = outputs(student, batch, frames)
    label_B = batch.label_B.numpy()
    terms = TERMS[method][point].split()
    coefficient = sigmoid(1.0)

    expected = {}
    if "hybrid" in terms:
        expected["hybrid"] = reference.tet(z_hybrid, label_B, 1e-3, THRESHOLD)
    if "kd" in terms:
        weight = 1.0 if method == "naive-kd" else phased(u)
        logits_BC = CountingTeacher.logits(batch.photo_B3HW).numpy()
        expected["kd"] = weight * reference.kd(z_hybrid, logits_BC, 4.0)
    if "dvs" in terms and method in ("scratch", "ann-on-frames"):
        expected["dvs"] = reference.cross_entropy(z_dvs.mean(0), label_B)
    elif "dvs" in terms:
        share = np.full(STEPS, 1 - coefficient if "alignment" in terms else 1.0)
        expected["dvs"] = reference.tet(z_dvs, label_B, 1e-3, THRESHOLD, share)
    if "alignment" in terms:
        c_T = np.full(STEPS, coefficient)
        expected["alignment"] = 0.5 * reference.alignment(v_hybrid, v_dvs, c_T)
    if "modality" in terms:
        expected["modality"], expected["ratio"] = perceived(objective, student, frames, replaced)

    result = objective(student, teacher, batch, u, generator())
    assert {k: v.item() for k, v in result.losses.items()} == pytest.approx(expected, rel=1e-4)
    assert result.total.item() == pytest.approx(sum(expected.values()), rel=1e-4)
    assert len(teacher.asked) == ("kd" in terms)


@pytest.mark.parametrize("method", methods())
def test_each_stream_that_counts_is_run_once(method):
    for u, terms in zip(PROGRESS, TERMS[method], strict=True):
        objective, student = make(method)
        streams = []
        student.register_forward_pre_hook(lambda _, args, to=streams: to.append(args[1]))
        objective(student, CountingTeacher(), make_batch(), u, generator())
        own_head = method not in ("sim-only", "ckd-plus", "self-training")
        expected = [
            stream if own_head else "dvs" for stream in ("dvs", "hybrid") if stream in terms.split()
        ]
        assert sorted(streams) == expected


@pytest.mark.parametrize("method", methods())
def test_the_teacher_is_needed_only_where_it_is_ever_asked(method):
    objective, student = make(method)
    teacher = CountingTeacher()
    for u in np.linspace(0, 0.999, 12):
        result = objective(student, teacher, make_batch(), float(u), generator())
        assert result.total.isfinite()
    assert objective.config.needs_teacher == bool(teacher.asked)
    assert objective.config.needs_teacher == any("kd" in terms.split() for terms in TERMS[method])


@pytest.mark.parametrize(
    ("switches", "needed"),
    [
        ({"kd_weight": 0.0}, False),
        ({"distillation": {"shape": "tied"}}, True),
        ({"distillation": {"shape": "tied"}, "replacement": {"shape": "always"}}, False),
        ({"distillation": {"shape": "cosine"}, "replacement": {"shape": "always"}}, True),
        ({"distillation": {"phase_one_end": 0.0, "phase_two_start": 0.1}}, True),
    ],
)
def test_no_teacher_is_needed_where_its_weight_is_always_zero(switches, needed):
    objective, student = make(**switches)
    teacher = CountingTeacher()
    objective(student, teacher, make_batch(), 0.0, generator())
    assert bool(teacher.asked) == needed
    assert objective.config.needs_teacher == needed


def test_the_teacher_is_silent_exactly_from_phase_two_on():
    objective, student = make()
    for u, asked in ((0.0, 1), (0.79, 1), (0.8, 0), (0.99, 0)):
        teacher = CountingTeacher()
        result = objective(student, teacher, make_batch(), u, generator())
        assert len(teacher.asked) == asked
        assert ("kd" in result.losses) == bool(asked)
        assert result.logged["distillation"] == pytest.approx(phased(u))


def test_a_silent_teacher_need_not_be_there_and_a_speaking_one_must():
    objective, student = make()
    objective(student, None, make_batch(), 0.8, generator())
    with pytest.raises(ValueError, match="no teacher"):
        objective(student, None, make_batch(), 0.0, generator())


def test_the_teacher_sees_the_photos_whole_and_in_colour():
    objective, student = make()
    batch, teacher = make_batch(), CountingTeacher()
    objective(student, teacher, batch, 0.0, generator())
    assert torch.equal(teacher.asked[0], batch.photo_B3HW)


def test_dvs_classification_is_weighted_by_one_minus_the_coefficient():
    objective, student = make()
    logit_T = torch.tensor([-2.0, 0.0, 3.0])
    objective.coefficient.logit_T.data = logit_T.clone()
    batch = make_batch()
    _, _, z_dvs, _ = outputs(student, batch, batch.dvs_TBCHW)
    weight_T = 1 - logit_T.sigmoid().numpy()
    result = objective(student, CountingTeacher(), batch, 0.0, generator())
    expected = reference.tet(z_dvs, batch.label_B.numpy(), 1e-3, THRESHOLD, weight_T)
    assert result.losses["dvs"].item() == pytest.approx(expected, rel=1e-5)
    assert result.logged["coefficient"] == pytest.approx((1 - weight_T).tolist())


def test_cross_entropy_of_the_mean_logits_takes_the_place_of_tet():
    objective, student = make(classification="ce")
    batch = make_batch()
    frames = hybrid_frames(batch, rows_replaced(0.0))
    z_hybrid, _, z_dvs, _ = outputs(student, batch, frames)
    label_B = batch.label_B.numpy()
    losses = objective(student, CountingTeacher(), batch, 0.0, generator()).losses
    expected = reference.cross_entropy(z_hybrid.mean(0), label_B)
    assert losses["hybrid"].item() == pytest.approx(expected, rel=1e-5)
    expected = (1 - sigmoid(1.0)) * reference.cross_entropy(z_dvs.mean(0), label_B)
    assert losses["dvs"].item() == pytest.approx(expected, rel=1e-5)


def test_weights_temperature_and_tet_settings_are_used():
    objective, student = make(
        kd_weight=0.3,
        kd_temperature=2.0,
        kd_per_step=True,
        alignment_weight=2.0,
        coefficient_start=-1.0,
        tet_regularisation=0.2,
        cka="debiased",
    )
    batch = make_batch()
    frames = hybrid_frames(batch, rows_replaced(0.0))
    z_hybrid, v_hybrid, z_dvs, v_dvs = outputs(student, batch, frames)
    label_B, c_T = batch.label_B.numpy(), np.full(STEPS, sigmoid(-1.0))
    logits_BC = CountingTeacher.logits(batch.photo_B3HW).numpy()
    expected = {
        "hybrid": reference.tet(z_hybrid, label_B, 0.2, THRESHOLD),
        "dvs": reference.tet(z_dvs, label_B, 0.2, THRESHOLD, 1 - c_T),
        "kd": 0.3 * reference.kd(z_hybrid, logits_BC, 2.0, per_step=True),
        "alignment": 2.0 * reference.alignment(v_hybrid, v_dvs, c_T, debiased=True),
    }
    result = objective(student, CountingTeacher(), batch, 0.0, generator())
    assert {k: v.item() for k, v in result.losses.items()} == pytest.approx(expected, rel=1e-4)


def test_kd_on_rgb_leaves_replaced_samples_out():
    objective, student = make(kd_on="rgb", replacement={"shape": "linear"})
    batch = make_batch()
    replaced_B = rows_replaced(0.3)
    assert 0 < replaced_B.sum() < SAMPLES
    z_hybrid, _, _, _ = outputs(student, batch, hybrid_frames(batch, replaced_B))
    logits_BC = CountingTeacher.logits(batch.photo_B3HW).numpy()
    found = objective(student, CountingTeacher(), batch, 0.3, generator()).losses["kd"].item()
    rgb = reference.kd(z_hybrid, logits_BC, 4.0, rows=~replaced_B.numpy())
    everything = reference.kd(z_hybrid, logits_BC, 4.0)
    assert found == pytest.approx(rgb, rel=1e-5)
    assert found != pytest.approx(everything, rel=1e-2)


def test_with_everything_replaced_distillation_on_rgb_vanishes_and_training_goes_on():
    objective, student = make(
        kd_on="rgb",
        replacement={"shape": "always"},
        distillation={"shape": "constant"},
    )
    result = objective(student, CountingTeacher(), make_batch(), 0.5, generator())
    assert result.losses["kd"].item() == 0
    result.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in student.parameters())


@pytest.mark.parametrize("cka", ["biased", "debiased"])
def test_with_everything_replaced_the_streams_are_one(cka):
    objective, student = make(cka=cka, replacement={"shape": "always"})
    result = objective(student, CountingTeacher(), make_batch(), 0.5, generator())
    assert result.losses["alignment"].item() == pytest.approx(0, abs=1e-5)
    assert result.logged["cka"] == pytest.approx([1] * STEPS, abs=1e-5)
    assert result.logged["cka_debiased"] == pytest.approx([1] * STEPS, abs=1e-5)
    assert result.logged["replaced"] == 1


def test_gradients_reach_the_coefficient():
    objective, student = make()
    batch = make_batch()
    frames = hybrid_frames(batch, rows_replaced(0.0))
    _, v_hybrid, z_dvs, v_dvs = outputs(student, batch, frames)
    objective(student, CountingTeacher(), batch, 0.0, generator()).total.backward()
    c = sigmoid(1.0)
    for t, found in enumerate(objective.coefficient.logit_T.grad.tolist()):
        misaligned = 1 - abs(reference.cka_biased(v_hybrid[t], v_dvs[t]))
        wrong = reference.tet(z_dvs[t : t + 1], batch.label_B.numpy(), 1e-3, THRESHOLD)
        expected = c * (1 - c) * (0.5 * misaligned - wrong) / STEPS
        assert found == pytest.approx(expected, rel=1e-4)


def test_a_fixed_coefficient_gets_no_gradient():
    objective, student = make(coefficient="fixed")
    objective(student, CountingTeacher(), make_batch(), 0.0, generator()).total.backward()
    assert [p for p in objective.parameters() if p.requires_grad] == []
    assert objective.coefficient.logit_T.grad is None


@pytest.mark.parametrize("method", ["scratch", "scratch+tet", "kd-no-alignment"])
def test_without_alignment_there_is_no_coefficient(method):
    assert list(make(method)[0].parameters()) == []


def test_gradients_reach_both_heads_and_every_weight_but_not_the_teacher():
    objective, student = make()
    shift = torch.zeros(CLASSES, requires_grad=True)
    teacher = CountingTeacher()
    objective(
        student, lambda x: teacher(x) + shift, make_batch(), 0.0, generator()
    ).total.backward()
    for name, parameter in student.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    assert shift.grad is None


def test_alignment_moves_both_streams():
    objective, student = make()
    gradients = {}
    output = student.forward

    def watched(x_TBCHW, stream):
        found = output(x_TBCHW, stream)
        found.membrane_TBN.register_hook(lambda g: gradients.update({stream: g}))
        return found

    student.forward = watched
    result = objective(student, CountingTeacher(), make_batch(), 0.0, generator())
    result.losses["alignment"].backward()
    assert gradients["dvs"].any()
    assert gradients["hybrid"].any()


def test_the_same_seed_gives_the_same_losses_and_another_does_not():
    objective, student = make(replacement={"shape": "linear"})
    batch = make_batch()
    first, second, other = (
        objective(copy.deepcopy(student), CountingTeacher(), batch, 0.5, draws).total
        for draws in (generator(), generator(), torch.Generator().manual_seed(SEED + 1))
    )
    assert first == second
    assert first != other


def test_photos_are_turned_to_value_before_they_are_resized():
    objective, student = make()
    batch = make_batch()
    seen = {}
    student.register_forward_pre_hook(lambda _, args: seen.update({args[1]: args[0]}))
    objective(student, CountingTeacher(), batch, 0.0, generator())
    expected = hybrid_frames(batch, torch.zeros(SAMPLES, dtype=torch.bool))
    torch.testing.assert_close(seen["hybrid"], expected)
    assert torch.equal(seen["dvs"], batch.dvs_TBCHW)


def test_photos_of_the_networks_size_are_taken_as_they_are():
    objective, student = make()
    batch = make_batch(photo_size=8)
    seen = {}
    student.register_forward_pre_hook(lambda _, args: seen.update({args[1]: args[0]}))
    objective(student, CountingTeacher(), batch, 0.0, generator())
    assert torch.equal(seen["hybrid"][2, :, 1], batch.photo_B3HW.amax(1))


def test_simulated_recordings_may_be_the_source_while_the_teacher_sees_photos():
    objective, student = make(source="simulated", replacement={"shape": "linear"})
    batch, teacher = make_batch(), CountingTeacher()
    seen = {}
    student.register_forward_pre_hook(lambda _, args: seen.update({args[1]: args[0]}))
    objective(student, teacher, batch, 0.3, generator())
    for b, replaced in enumerate(rows_replaced(0.3)):
        expected = batch.dvs_TBCHW if replaced else batch.simulated_TBCHW
        assert torch.equal(seen["hybrid"][:, b], expected[:, b])
    assert torch.equal(teacher.asked[0], batch.photo_B3HW)


@pytest.mark.parametrize("source", ["simulated", "staged"])
def test_a_simulated_source_that_is_missing_is_refused(source):
    objective, student = make(source=source)
    with pytest.raises(ValueError, match="not simulated"):
        objective(student, CountingTeacher(), make_batch(simulated=False), 0.0, generator())


@pytest.mark.parametrize("cka", ["biased", "debiased"])
@pytest.mark.parametrize("samples", [1, 3, 5])
def test_a_small_last_batch_trains(samples, cka):
    objective, student = make(cka=cka)
    result = objective(student, CountingTeacher(), make_batch(samples), 0.1, generator())
    enough = samples >= {"biased": 2, "debiased": 4}[cka]
    assert ("alignment" in result.losses) == enough
    assert ("cka" in result.logged) == (samples >= 4)
    result.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in student.parameters())


def test_bfloat16_keeps_losses_and_cka_in_float32():
    objective, student = make()
    with torch.autocast("cpu", torch.bfloat16):
        result = objective(student, CountingTeacher(), make_batch(), 0.1, generator())
    assert {loss.dtype for loss in result.losses.values()} == {torch.float32}
    result.total.backward()
    for name, parameter in student.named_parameters():
        assert parameter.grad.isfinite().all(), name
    assert all(0 <= value <= 1.001 for value in result.logged["cka"])


def test_spike_rates_of_the_dvs_stream_are_logged():
    objective, student = make()
    batch = make_batch()
    expected = copy.deepcopy(student)(batch.dvs_TBCHW, "dvs").rates
    result = objective(student, CountingTeacher(), batch, 0.0, generator())
    assert result.logged["rates"] == pytest.approx({k: v.item() for k, v in expected.items()})


def test_the_hybrid_stream_leaves_the_running_statistics_to_the_dvs_stream():
    objective, student = make()
    twin = copy.deepcopy(student)
    batch = make_batch()
    objective(student, CountingTeacher(), batch, 0.0, generator())
    twin(batch.dvs_TBCHW, "dvs")
    for (name, ours), theirs in zip(student.named_buffers(), twin.buffers(), strict=True):
        assert torch.equal(ours, theirs), name


def test_area_scaling_is_the_mean_of_the_covered_pixels():
    # What hybrid_frames above takes for granted of torch.
    x = torch.rand(1, 1, 4, 4)
    expected = x.unflatten(2, (2, 2)).unflatten(4, (2, 2)).mean((3, 5))
    torch.testing.assert_close(F.interpolate(x, (2, 2), mode="area"), expected)
