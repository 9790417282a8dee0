"""What a task gives the loop: the teacher's logits."""

import pytest
import torch

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
