"""Cross Knowledge Distillation: a spiking network learns from event recordings and photos.

The names here are for use in other people's code; they are imported when first used, so that
``import spikebridge`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spikebridge.base.errors import UserError
    from spikebridge.ckd.losses import (
        TemporalCoefficient,
        alignment_loss,
        kd_loss,
        linear_cka,
        tet_loss,
    )
    from spikebridge.ckd.schedules import DistillationSchedule, ReplacementSchedule
    from spikebridge.ckd.streams import (
        HybridBatch,
        photo_sequence,
        replace_samples,
        replace_steps,
    )
    from spikebridge.data.events import Events, read_events
    from spikebridge.data.frames import frame_events, network_input
    from spikebridge.data.prepared import prepare
    from spikebridge.data.simulation.camera import Simulator
    from spikebridge.data.simulation.simulate import simulate_photo
    from spikebridge.models.neurons import LIF, surrogate
    from spikebridge.results.trained import load_run
    from spikebridge.runs.train import train_student
    from spikebridge.settings.parsing import config_from
    from spikebridge.settings.presets import read_recipe

__all__ = [
    "LIF",
    "DistillationSchedule",
    "Events",
    "HybridBatch",
    "ReplacementSchedule",
    "Simulator",
    "TemporalCoefficient",
    "UserError",
    "alignment_loss",
    "config_from",
    "frame_events",
    "kd_loss",
    "linear_cka",
    "load_run",
    "network_input",
    "photo_sequence",
    "prepare",
    "read_events",
    "read_recipe",
    "replace_samples",
    "replace_steps",
    "simulate_photo",
    "surrogate",
    "tet_loss",
    "train_student",
]

_MODULES = {
    "base.errors": ("UserError",),
    "ckd.losses": ("TemporalCoefficient", "alignment_loss", "kd_loss", "linear_cka", "tet_loss"),
    "ckd.schedules": ("DistillationSchedule", "ReplacementSchedule"),
    "ckd.streams": (
        "HybridBatch",
        "photo_sequence",
        "replace_samples",
        "replace_steps",
    ),
    "data.events": ("Events", "read_events"),
    "data.frames": ("frame_events", "network_input"),
    "data.prepared": ("prepare",),
    "data.simulation.camera": ("Simulator",),
    "data.simulation.simulate": ("simulate_photo",),
    "models.neurons": ("LIF", "surrogate"),
    "results.trained": ("load_run",),
    "runs.train": ("train_student",),
    "settings.parsing": ("config_from",),
    "settings.presets": ("read_recipe",),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"spikebridge.{module}"), name)
    raise AttributeError(f"module 'spikebridge' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
