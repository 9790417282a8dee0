"""Students from their settings."""

import torch

from spikebridge.models.neurons import LIF, Neuron, ReLU, surrogate
from spikebridge.models.resnet import resnet18_snn
from spikebridge.models.settings import StudentConfig
from spikebridge.models.student import Student
from spikebridge.models.vgg import vgg_snn

_STUDENTS = {"vgg-snn": vgg_snn, "resnet18-snn": resnet18_snn}


def build_student(
    config: StudentConfig, classes: int, size: tuple[int, int], *, two_heads: bool = False
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
    build = _STUDENTS[config.name]
    student = build(classes, size, config.width, _neuron(config), two_heads=two_heads)
    return student.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def _neuron(config: StudentConfig) -> Neuron:
    if config.neuron == "relu":
        return ReLU()
    shape = surrogate(config.surrogate, config.alpha)
    return LIF(config.tau, config.threshold, shape, config.neuron_backend)
