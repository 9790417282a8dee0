"""A student, recordings and what it makes of them."""

import json
from pathlib import Path

import numpy as np
import torch

from spikebridge.data.events import Events
from spikebridge.data.frames import network_input
from spikebridge.data.prepared import frame_file
from spikebridge.data.settings import DataConfig
from spikebridge.models.build import build_student
from spikebridge.models.settings import StudentConfig
from spikebridge.results.trained import Trained
from spikebridge.settings.config import Config

STEPS, SENSOR, CLASSES = 4, (32, 24), ("across", "down", "slope")


def made_student(**data) -> Trained:
    """A student that was not trained; its classes differ in confidence all the same."""
    torch.manual_seed(0)
    settings = {"size": (8, 8), "time_steps": STEPS, **data}
    config = Config(
        method="scratch", data=DataConfig(**settings), student=StudentConfig(width=0.125)
    )
    student = build_student(config.student, 3, (8, 8)).eval()
    torch.nn.init.normal_(student.head_dvs.weight, std=2.0)
    for module in student.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.bias, 0.1, 0.7)
    return Trained("student", student, config, CLASSES, SENSOR, None)


def made_events(seed: int, count: int = 4000, duration_us: int = 100_000) -> Events:
    """Random events, some pixels far busier than others."""
    random = np.random.default_rng(seed)
    t_N = np.sort(random.integers(0, duration_us, count))
    t_N[0], t_N[-1] = 0, duration_us - 1
    x_N, y_N = (random.beta(1 + seed % 3, 2, count) * n for n in SENSOR)
    return Events(
        x_N.astype(np.int32), y_N.astype(np.int32), t_N, random.random(count) < 0.5, SENSOR
    )


def kept(events: Events, keep_N: np.ndarray) -> Events:
    """Some of the events."""
    x_N, y_N, t_N, polarity_N = (
        column[keep_N] for column in (events.x_N, events.y_N, events.t_N, events.polarity_N)
    )
    return Events(x_N, y_N, t_N, polarity_N, events.sensor)


def lines_of(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def logits_of(trained: Trained, file: Path) -> torch.Tensor:
    """logits_TC by the student's own forward pass."""
    counts_TCHW = frame_file(file, trained.config.data, SENSOR)
    x_BTCHW = torch.from_numpy(network_input(counts_TCHW[None], trained.config.data.scale))
    with torch.no_grad():
        return trained.model(x_BTCHW.transpose(0, 1)).logits_TBC[:, 0]
