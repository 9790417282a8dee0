"""All steps of a task on any device, for tests that hold one device against another."""

import torch

import pretend_cuda
from pretend_cuda import inner
from spikebridge.base.devices import map_tensors, pinned
from spikebridge.models.build import build_student
from spikebridge.models.teacher import build_teacher
from spikebridge.runs.tasks import student_task
from spikebridge.settings.presets import merge
from spikebridge.training.average import WeightAverage
from spikebridge.training.loop import learning_rate
from spikebridge.training.packing import unpacked
from spikebridge.training.step import TrainingStep

CPU = torch.device("cpu")
IN_STEP = {
    "data": {"source": {"in_step": True, "randomise": 0.3}},
    "objective": {"source": "simulated"},
}
"""Simulated sources made in the step."""
VIEWS = merge(
    IN_STEP,
    {
        "data": {
            "photo_views": {
                "crop": 0.5,
                "flip": True,
                "rotate": 10,
                "contrast": 0.4,
                "gamma": 0.4,
                "mixup": True,
            }
        }
    },
)
"""The same of mixed views."""


def one_kernel_adam(trained, lr, weight_decay, device):
    """A GPU's optimiser, on any device: its rounding is its own."""
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    rate = torch.tensor(lr, device=device)
    capturable = device.type == "cuda"
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=rate, fused=True, capturable=capturable)


def steps_of(task, teacher=None):
    """Takes all steps of a task: what they computed, and the weights and their average after them.

    Also the lines at which the host waited.
    """
    if teacher is not None:
        task.teacher = teacher.to(task.device)
    trained = [p for m in (task.model, task.extras) for p in m.parameters() if p.requires_grad]
    settings = task.settings
    optimiser = one_kernel_adam(trained, settings.lr, settings.weight_decay, task.device)
    take = TrainingStep(task.losses, trained, optimiser, task.device, capture=task.captures)
    average = WeightAverage(task.model, 0.6)
    task.model.train()
    computed, waits, before = [], [], len(pretend_cuda.waits)
    for step in range(settings.steps):
        inputs = task.batch(step).tensors
        if task.device.type == "cuda":
            inputs = map_tensors(pinned, inputs)
        computed.append(take(inputs, learning_rate(step, settings)))
        average.update()
    waits = pretend_cuda.waits[before:]
    state = task.model.state_dict() | task.extras.state_dict() | average.state_dict()["average"]
    return unpacked(computed), {k: inner(v) for k, v in state.items()}, waits, take._run


def student_steps(config, data, device):
    torch.manual_seed(3)
    two_heads = config.objective.two_heads
    student = build_student(config.student, 3, config.data.size, two_heads=two_heads)
    teacher = build_teacher(config.teacher, 3).eval()
    task = student_task(config, data, student, device)
    return steps_of(task, teacher if config.objective.needs_teacher else None)
