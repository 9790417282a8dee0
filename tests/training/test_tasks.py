"""What a task gives the loop: the teacher's logits, and what views and mixed labels come to."""

import numpy as np
import pytest
import torch

from oracles import reference
from spikebridge.data.prepared import prepare
from spikebridge.models.build import build_student
from spikebridge.models.teacher import build_teacher
from spikebridge.runs.tasks import student_task

CPU = torch.device("cpu")
STILL = {"crop": 0, "flip": False}


@pytest.fixture
def make_task(make_config):
    """Makes a student's task, whose teacher notes how many photos it is shown at a time."""

    def make(augment, batches_per_epoch=30):
        config = make_config(
            data={"augment": augment}, train={"batches_per_epoch": batches_per_epoch}
        )
        data = prepare(config.data, config.seed)
        torch.manual_seed(0)
        student = build_student(config.student, 3, config.data.size, two_heads=True)
        task = student_task(config, data, student, CPU)
        task.teacher = build_teacher(config.teacher, 3).eval()
        shown = []
        task.teacher.register_forward_hook(lambda _, args, out: shown.append(len(args[0])))
        return task, shown

    return make


def kd(task, step):
    return task.losses_of(task.batch(step)).losses["kd"].item()


def test_photos_that_never_move_are_shown_to_the_teacher_once(make_task):
    task, shown = make_task(STILL)
    photos = task.data.photos["train"]
    task.losses_of(task.batch(task.settings.steps - 1))  # W(u) = 0 by then
    assert shown == []
    found = [kd(task, step) for step in range(4)]
    assert sum(shown) == len(photos.label_N)
    other, shown = make_task(STILL)
    other._guidance = lambda batch: other.teacher
    assert found == pytest.approx([kd(other, step) for step in range(4)], rel=1e-4)
    assert shown == [6] * 4
    assert len(set(found)) == 4


@pytest.mark.parametrize("moves", [{"crop": 1}, {"flip": True}, {"rotate": 5.0}])
def test_photos_that_move_are_shown_as_they_lie(make_task, moves):
    task, shown = make_task(STILL | moves)
    for step in range(3):
        kd(task, step)
    assert shown == [6, 6, 6]


def test_a_run_too_short_to_see_all_photos_shows_only_its_own(make_task):
    task, shown = make_task(STILL, batches_per_epoch=1)
    kd(task, 0)
    assert shown == [6]


# Views of photos ----------------------------------------------------------------------------------

VIEWS = {"crop": 0.4, "flip": True, "rotate": 15, "contrast": 0.4, "gamma": 0.4, "mixup": True}


@pytest.fixture
def make_viewing(make_config):
    """Makes a student's task on views, and what its student and teacher are shown and answer."""

    def make(views=VIEWS, **objective):
        config = make_config(
            data={"photo_views": views, "source": {"in_step": True}},
            objective={"source": "simulated", **objective},
            train={"batches_per_epoch": 30},
        )
        data = prepare(config.data, config.seed, simulated_source=True)
        torch.manual_seed(0)
        student = build_student(config.student, 3, config.data.size, two_heads=True)
        task = student_task(config, data, student, CPU)
        task.teacher = build_teacher(config.teacher, 3).eval()
        seen = {"teacher": []}
        task.teacher.register_forward_hook(lambda _, args, out: seen["teacher"].append(args[0]))
        student.register_forward_hook(lambda _, args, out: seen.update({args[1]: (args[0], out)}))
        convert = task.batches._converter

        def noting(photo_B3HW, takes):
            seen["converter"] = photo_B3HW
            return convert(photo_B3HW, takes)

        noting.takes = convert.takes
        task.batches._converter = noting
        return task, seen

    return make


def test_teacher_and_converter_are_shown_the_same_view_once_a_step(make_viewing):
    task, seen = make_viewing()
    for step in range(3):
        inputs = task.batch(step)
        task.losses_of(inputs)
        assert len(seen["teacher"]) == step + 1
        assert torch.equal(seen["teacher"][-1], seen["converter"])
        assert torch.equal(seen["converter"], task.batches.assembled(inputs.tensors[0]).photo_B3HW)
    assert not torch.equal(seen["teacher"][0], seen["teacher"][1])


def test_the_teacher_is_shown_no_view_while_its_weight_is_zero(make_viewing):
    task, seen = make_viewing()
    steps = task.settings.steps
    for step, asked in ((int(0.79 * steps), 1), (int(0.8 * steps) + 1, 1), (steps - 1, 1)):
        task.losses_of(task.batch(step))
        assert len(seen["teacher"]) == asked


@pytest.mark.parametrize("classification", ["tet", "ce"])
def test_mixed_photos_have_mixed_labels_and_recordings_their_own(make_viewing, classification):
    task, seen = make_viewing(classification=classification)
    plain, _ = make_viewing(VIEWS | {"mixup": False})
    replaced, mixed = 0, 0
    for step in range(int(0.5 * task.settings.steps), int(0.5 * task.settings.steps) + 12):
        inputs = task.batch(step)
        drawn, draws = inputs.tensors
        batch, unmixed = (of.assembled(of.drawn(step)) for of in (task.batches, plain.batches))
        loss = task.losses_of(inputs).losses["hybrid"].item()
        frames_TBCHW, output = seen["hybrid"]
        z_TBC, expected = output.logits_TBC.detach().numpy(), []
        for b, label in enumerate(batch.label_B.tolist()):
            share, other = batch.mixup.share_B[b].item(), batch.mixup.label_B[b].item()
            photo_3HW = seen["teacher"][-1][b]
            if draws.replaced_TB[0, b]:
                share, replaced = 1.0, replaced + 1
                assert torch.equal(frames_TBCHW[:, b], batch.dvs_TBCHW[:, b])
                assert torch.equal(photo_3HW, unmixed.photo_B3HW[b])
            else:
                mixed += share < 1 and other != label
                assert torch.equal(photo_3HW, batch.photo_B3HW[b])
            for weight, of in ((share, label), (1 - share, other)):
                z = z_TBC[:, [b]]
                if classification == "tet":
                    one = reference.tet(z, np.array([of]), 1e-3, 0.5)
                else:
                    one = reference.cross_entropy(z.mean(0), np.array([of]))
                expected.append(weight * one)
        assert loss == pytest.approx(sum(expected) / len(batch.label_B), rel=1e-5)
    assert replaced > 3
    assert mixed > 10
