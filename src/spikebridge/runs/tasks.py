"""From the settings of an experiment to what the loop trains."""

import torch

from spikebridge.ckd.objective import CKDObjective
from spikebridge.data.prepared import PreparedData
from spikebridge.models.student import Student
from spikebridge.models.teacher import Teacher
from spikebridge.settings.config import Config
from spikebridge.training.tasks import StudentTask, TeacherTask


def student_task(
    config: Config, data: PreparedData, student: Student, device: torch.device
) -> StudentTask:
    """CKD or one of its baselines, as an experiment sets it; the teacher is not there yet."""
    objective = CKDObjective(
        config.objective,
        config.data.time_steps,
        config.student.threshold,
        student.head_dvs.in_features,
    )
    return StudentTask(
        student,
        objective,
        data,
        config.train,
        augment=config.data.augment,
        views=config.data.photo_views,
        seed=config.seed,
        device=device,
    )


def teacher_task(
    config: Config, data: PreparedData, teacher: Teacher, device: torch.device
) -> TeacherTask:
    """A teacher's training on photos, as an experiment sets it."""
    return TeacherTask(
        teacher,
        config.teacher,
        data,
        config.train,
        augment=config.data.augment,
        size=config.data.size,
        seed=config.seed,
        device=device,
    )
