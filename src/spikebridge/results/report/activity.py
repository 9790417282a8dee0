"""Every spike of a student on one recording, and the potentials of its last layer."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikebridge.models.resnet import ResNetBackbone
from spikebridge.models.student import Student
from spikebridge.models.vgg import VGGBackbone
from spikebridge.results.watched import Watch, watched
from spikebridge.settings.config import Config
from spikebridge.training.precision import make_autocast


@dataclass(frozen=True)
class Activity:
    """What the neurons do on one recording."""

    spikes_TN: dict[str, np.ndarray]
    """Whether each neuron fires at each step, by layer in forward order."""
    membrane_TN: np.ndarray
    """Potential before reset in the last spiking layer."""
    threshold: float
    tau: float

    @property
    def last(self) -> str:
        """Name of the last spiking layer."""
        return list(self.spikes_TN)[-1]

    def rate(self, layer: str) -> float:
        """Mean spikes per neuron and step."""
        return float(self.spikes_TN[layer].mean())


@torch.no_grad()
def record_activity(student: Student, config: Config, x_TCHW: np.ndarray) -> Activity | None:
    """Run a student's DVS stream on one recording, on the CPU.

    Args:
        student: In evaluation mode.
        config: Its run's settings.
        x_TCHW: The recording as network input.

    Returns:
        None for a student of ReLU, which does not spike.
    """
    if config.student.neuron != "lif":
        return None
    found: dict[str, Tensor] = {}
    x_TBCHW = torch.from_numpy(x_TCHW)[:, None]
    autocast = make_autocast(config.train.precision, torch.device("cpu"))
    watches = ((module, _keep(found, names)) for module, names in _sources(student))
    with watched(student, watches), autocast():
        output = student(x_TBCHW)
    threshold = config.student.threshold
    membrane_TN = output.membrane_TBN[:, 0].float().numpy()
    spikes = {name: _flat(found[name]) for name in output.rates if name in found}
    # The VGG's last layer is asked for its potentials, past the hooks: it fires at the threshold.
    spikes |= {name: membrane_TN >= threshold for name in output.rates if name not in found}
    return Activity(spikes, membrane_TN, threshold, config.student.tau)


def _sources(student: Student) -> list[tuple[nn.Module, tuple[str | None, ...]]]:
    """Modules whose outputs hold spikes, and the names of the layers that these are of."""
    backbone = student.backbone
    if isinstance(backbone, VGGBackbone):
        layers = list(backbone.layers)[:-1]
        return [(layer, (f"layer{index + 1}",)) for index, layer in enumerate(layers)]
    assert isinstance(backbone, ResNetBackbone)
    blocks = enumerate(backbone.blocks, 1)
    named = [(block, (f"block{i}b", None, f"block{i}a")) for i, block in blocks]
    return [(backbone.stem, ("stem",)), *named]


def _keep(found: dict[str, Tensor], names: tuple[str | None, ...]) -> Watch:
    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        parts = output if isinstance(output, tuple) else (output,)
        found.update({name: part for name, part in zip(names, parts, strict=True) if name})

    return keep


def _flat(spikes_TBCHW: Tensor) -> np.ndarray:
    return spikes_TBCHW[:, 0].flatten(1).float().numpy() > 0
