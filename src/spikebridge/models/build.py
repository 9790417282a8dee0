"""Students from their settings."""

import torch

from spikebridge.config import StudentConfig
from spikebridge.models.resnet import resnet18_snn
from spikebridge.models.student import Student
from spikebridge.models.vgg import vgg_snn
from spikebridge.neurons import LIF, surrogate

_STUDENTS = {"vgg-snn": vgg_snn, "resnet18-snn": resnet18_snn}


def build_student(
    config: StudentConfig, classes: int, size: tuple[int, int], *, two_heads: bool = True
) -> Student:
    """A student with fresh weights.

    Args:
        config: The student's settings.
        classes: Number of classes C.
        size: (height, width) of the input in pixels.
        two_heads: The hybrid stream has a head of its own.

    Raises:
        UserError: the input is too small for the architecture.
    """
    neuron = LIF(
        config.tau,
        config.threshold,
        surrogate(config.surrogate, config.alpha),
        config.neuron_backend,
    )
    student = _STUDENTS[config.name](classes, size, config.width, neuron, two_heads=two_heads)
    return student.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
