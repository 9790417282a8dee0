"""The energy of a trained run, beside the ANN of its shape and its teacher."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spikebridge.base.console import each
from spikebridge.base.devices import pick_device
from spikebridge.base.errors import UserError
from spikebridge.base.hooks import bare
from spikebridge.data.feed.sets import EventSet
from spikebridge.data.prepared import photo_size
from spikebridge.models.student import Student
from spikebridge.models.teacher import Teacher
from spikebridge.results.energy.connections import count_macs
from spikebridge.results.energy.operations import (
    AC_PJ,
    MAC_PJ,
    LayerOperations,
    Operations,
    count_operations,
    joined,
)
from spikebridge.results.trained import data_of_run, evenly, load_run
from spikebridge.run_folder import RunFolder
from spikebridge.settings.config import Config
from spikebridge.training.precision import make_autocast

_BATCH = 20


@dataclass(frozen=True)
class TeacherCost:
    """One photo through the teacher."""

    name: str
    size: tuple[int, int]
    """Height and width of its input in pixels."""
    macs: int

    @property
    def nj(self) -> float:
        """Energy per photo in nanojoules."""
        return self.macs * MAC_PJ / 1e3


@dataclass(frozen=True)
class EnergyReport:
    """Means over the recordings of a split; energies in nanojoules per recording."""

    run: str
    split: str
    student: str
    """Its architecture."""
    operations: Operations
    teacher: TeacherCost | None
    teacher_missing: str | None
    """Why there is no teacher's cost, in words."""

    @property
    def recordings(self) -> int:
        """N."""
        return len(self.operations.pj_NT)

    @property
    def time_steps(self) -> int:
        """T."""
        return self.operations.pj_NT.shape[1]

    @property
    def spiking(self) -> bool:
        """Whether the student spikes; one of ReLU is an ANN itself."""
        return any(layer.spiking for layer in self.operations.layers)

    @property
    def nj(self) -> float:
        """Energy of the student: all its layers and time steps."""
        return float(self.nj_N.mean())

    @property
    def nj_N(self) -> np.ndarray:
        """Energy of each recording."""
        return self.operations.pj_NT.sum(1) / 1e3

    @property
    def spikes(self) -> float:
        """Spikes that arrive anywhere, each once: not again at shortcuts."""
        main = [x for x in self.operations.layers if not x.name.endswith("-shortcut")]
        return sum(float(x.spikes_NT.sum(1).mean()) for x in main)

    @property
    def sops(self) -> float:
        """Synaptic operations."""
        return sum(float(x.sops_NT.sum(1).mean()) for x in self.operations.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.time_steps * sum(x.macs for x in self.operations.layers)

    @property
    def pools_as_macs_nj(self) -> float:
        """Energy of the student if all connections behind a pool are counted as MACs."""
        return float(self.operations.pools_as_macs.pj_NT.sum(1).mean()) / 1e3

    @property
    def updates_nj(self) -> float:
        """Energy of the neurons' own updates, one MAC each, which no other figure holds."""
        return self.time_steps * self.operations.updates * MAC_PJ / 1e3

    @property
    def ann_macs(self) -> int:
        """Multiply-accumulates of the ANN of the same shape, one pass per time step."""
        return self.time_steps * sum(x.dense for x in self.operations.layers if not x.identity)

    @property
    def ann_nj(self) -> float:
        """Energy of the ANN of the same shape, one pass per time step."""
        return self.time_steps * self.ann_once_nj

    @property
    def ann_once_nj(self) -> float:
        """Energy of the ANN of the same shape, one pass over the sum of all frames."""
        return self.operations.dense_pj / 1e3

    @property
    def beside(self) -> tuple[tuple[str, int, float], ...]:
        """Name, multiply-accumulates and energy of the networks that do not spike."""
        ann = "ANN of the same shape"
        once_macs = self.ann_macs // self.time_steps
        networks = [
            (f"{ann}, one pass per step", self.ann_macs, self.ann_nj),
            (f"{ann}, once on the summed frames", once_macs, self.ann_once_nj),
        ]
        if self.teacher is not None:
            name = f"teacher {self.teacher.name}, one photo"
            networks.append((name, self.teacher.macs, self.teacher.nj))
        return tuple(networks)

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the figures rest on, a sentence or two each."""
        layers = self.operations.layers
        lines = [
            f"45 nm, 32-bit floating point: {MAC_PJ} pJ per MAC, {AC_PJ} pJ per accumulate "
            "(Horowitz, ISSCC 2014). Memory and control are left out, for every network.",
            "One operation per connection in use: padding costs nothing, and at a border a spike "
            "reaches fewer outputs; MAC counts of other tools include the padding.",
            f"{layers[0].name}: its input, scaled event counts, is not binary, so all its "
            "connections are MACs at every step, those of empty pixels too.",
            "BatchNorm is folded into the convolution before it.",
        ]
        if not self.spiking:
            lines.append("This student is of ReLU: all its connections are MACs, zeros included.")
        if self.spiking and any(layer.pooled for layer in layers):
            lines.append(
                "Average pools are folded into the next layer: the division goes into its weights, "
                "and a spike costs one accumulate per connection of its pooled cell. Counted as "
                f"dense MACs, since a pool's output is not binary: {self.pools_as_macs_nj:,.1f} nJ."
            )
        if any(layer.identity for layer in layers):
            lines.append(
                "A shortcut without weights costs one accumulate per spike (ANN: per connection)."
            )
        if self.spiking:
            lines.append(
                "Neurons' own updates are left out: "
                f"{self.operations.updates * self.time_steps:,} per recording; at one MAC each "
                f"(leak and bias) {self.updates_nj:,.1f} nJ more."
            )
        lines.append(
            "ANN of the same shape: the same connections with ReLU, all MACs, zeros included. Once "
            "on the sum of the frames it sees no order in time; what it reaches is not measured."
        )
        if self.teacher is not None:
            height, width = self.teacher.size
            lines.append(
                f"Teacher: convolutions and linear layers of {self.teacher.name} on one photo of "
                f"{height}×{width}."
            )
        return tuple(lines)

    def as_json(self) -> dict[str, Any]:
        """All figures, for ``--json``."""
        return {
            "run": self.run,
            "split": self.split,
            "recordings": self.recordings,
            "time_steps": self.time_steps,
            "pj_per_mac": MAC_PJ,
            "pj_per_accumulate": AC_PJ,
            "student": {
                "name": self.student,
                "nj": self.nj,
                "nj_standard_deviation": float(self.nj_N.std(ddof=min(1, self.recordings - 1))),
                "nj_by_step": (self.operations.pj_NT.mean(0) / 1e3).tolist(),
                "spikes": self.spikes,
                "sops": self.sops,
                "macs": self.macs,
                "pools_as_macs_nj": self.pools_as_macs_nj,
                "updates_nj": self.updates_nj,
                "layers": [_layer_json(layer) for layer in self.operations.layers],
            },
            "ann": {
                "macs": self.ann_macs,
                "nj": self.ann_nj,
                "nj_once_on_summed_frames": self.ann_once_nj,
            },
            "teacher": None
            if self.teacher is None
            else {
                "name": self.teacher.name,
                "size": list(self.teacher.size),
                "macs": self.teacher.macs,
                "nj": self.teacher.nj,
            },
            "teacher_missing": self.teacher_missing,
            "assumptions": list(self.assumptions),
        }


def _layer_json(layer: LayerOperations) -> dict[str, Any]:
    return {
        "name": layer.name,
        "nj": float(layer.pj_NT.sum(1).mean()) / 1e3,
        "spikes_by_step": layer.spikes_NT.mean(0).tolist(),
        "sops_by_step": layer.sops_NT.mean(0).tolist(),
        "macs_per_step": layer.macs,
        "connections": layer.dense,
        "neurons": layer.neurons,
    }


def energy_of_run(
    folder: Path,
    split: str = "validation",
    *,
    limit: int | None = None,
    teacher_folder: Path | None = None,
) -> EnergyReport:
    """Count what a finished run of a student costs on its own recordings.

    Args:
        folder: The run's folder.
        split: "validation" or "test".
        limit: At most so many recordings, evenly spaced; None takes all.
        teacher_folder: The teacher's folder; None takes ``teacher.checkpoint``, or teacher-seedN
            beside the run.

    Raises:
        UserError: no finished run of a student, or its data have changed since.
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit must be at least 1, got {limit}")
    trained = load_run(folder)
    if not isinstance(trained.model, Student):
        raise UserError(f"{folder}: holds a teacher; energy is counted for students")
    config = trained.config
    events = data_of_run(folder, trained).events[split]
    operations = _count(trained.model, config, events, limit)
    if teacher_folder is None:
        given = config.teacher.checkpoint
        beside = folder.parent / f"teacher-seed{config.seed}"
        teacher_folder = beside
        if given:
            teacher_folder = Path(RunFolder(folder).file_from_here(given))
    teacher, missing = _teacher_cost(teacher_folder, config)
    return EnergyReport(str(folder), split, config.student.name, operations, teacher, missing)


def _count(student: Student, config: Config, events: EventSet, limit: int | None) -> Operations:
    device = pick_device(config.train.device)
    student, autocast = student.to(device), make_autocast(config.train.precision, device)
    rows_N = evenly(len(events.label_N), limit or len(events.label_N))

    def operations(start: int) -> Operations:
        x_BTCHW = torch.from_numpy(events.input(rows_N[start : start + _BATCH]))
        with autocast():
            return count_operations(student, x_BTCHW.to(device).transpose(0, 1))

    return joined(each(operations, range(0, len(rows_N), _BATCH), "counting operations"))


def _teacher_cost(folder: Path, config: Config) -> tuple[TeacherCost | None, str | None]:
    """The cost of the teacher in a folder, or why it is not known."""
    if not RunFolder(folder).weights_file.exists():
        return None, f"no teacher in {folder}"
    try:
        trained = load_run(folder)
    except UserError as error:
        return None, str(error)
    teacher = trained.model
    if not isinstance(teacher, Teacher):
        return None, f"{folder} holds a student"
    side = teacher.input_size
    size = (side, side) if side else photo_size(config.data)
    macs = count_macs(teacher, torch.zeros(1, 3, *size))
    return TeacherCost(bare(trained.config.teacher.name), size, macs), None
