"""One CKD training step: ours beside the plain loop, SpikingJelly and a network of ReLUs.

A step is both streams through the student, the hybrid one with photos of which P(u) = 0.3 are
replaced, all losses, backward and AdamW. The teacher's logits are given: its own cost is no part
of it. All rows start from the same weights and see the same random batch.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikebridge.bench.measure import (
    BenchSettings,
    Job,
    Timing,
    choose,
    footer,
    machine,
    measure,
    notes,
    ratio_table,
)
from spikebridge.bench.reference import Parts, PlainStudent, ReferenceParts, plain_losses
from spikebridge.data.batches import Batch
from spikebridge.errors import UserError
from spikebridge.losses import TemporalCoefficient
from spikebridge.models.build import build_student
from spikebridge.runs import pick_device
from spikebridge.streams import photo_sequence, replace_samples
from spikebridge.training.objective import CKDObjective
from spikebridge.training.tasks import make_autocast

ROWS = ("reference", "spikingjelly", "ours", "relu-bound")
PROGRESS = 0.67
"""u: P(u) = u³ = 0.3, and W(u) is above 0."""
SWEPT_TIME_STEPS = (2, 4, 8, 16)

_RATIOS = (("reference", "ours"), ("spikingjelly", "ours"), ("ours", "relu-bound"))
_EVENTS_PER_CELL = 0.1


class TrainingStep:
    """Loss, backward and AdamW; every call draws other replaced samples.

    Args:
        modules: What is trained.
        loss: The loss, by the generator of the replacement draws.
    """

    def __init__(self, modules: list[nn.Module], loss: Callable[[torch.Generator], Tensor]) -> None:
        self.modules, self.loss = modules, loss
        trained = [p for module in modules for p in module.parameters()]
        self.optimiser = torch.optim.AdamW(trained, lr=1e-4)

    def __call__(self, index: int) -> None:
        """One step."""
        loss = self.loss(torch.Generator().manual_seed(index))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()


@dataclass(frozen=True)
class TrainingBench:
    """What the rows took."""

    settings: BenchSettings
    repeats: int
    machine: dict[str, Any]
    rows: dict[str, Timing]
    left_out: dict[str, str]
    """Rows that cannot be measured here, and why."""
    swept: dict[int, Timing]
    """Ours by T; empty where it was not asked for."""

    @property
    def ratios(self) -> dict[str, float]:
        """Of warm times and of peaks, for the rows that are there."""
        rows = self.rows
        found = {
            f"{a} / {b}": rows[a].ms_median / rows[b].ms_median
            for a, b in _RATIOS
            if a in rows and b in rows
        }
        if "reference" in rows and "ours" in rows:
            found["peak reference / ours"] = rows["reference"].peak_mib / rows["ours"].peak_mib
        return found

    @property
    def sweep_ratios(self) -> dict[int, float]:
        """Warm time over that of the fewest steps, by T."""
        first = next(iter(self.swept.values()), None)
        return {t: row.ms_median / first.ms_median for t, row in self.swept.items() if first}

    def as_json(self) -> dict[str, Any]:
        """For a JSON file."""
        return {
            "rows": {
                name: {
                    "ms_cold": row.ms_cold, "ms_warm": row.ms_median, "peak_mib": row.peak_mib
                }
                for name, row in self.rows.items()
            },
            "ratios": self.ratios,
            "time_steps": {
                str(t): {"ms_warm": row.ms_median, "ratio": self.sweep_ratios[t]}
                for t, row in self.swept.items()
            },
            "notes": notes(self.rows, self.left_out),
            "machine": self.machine,
            "settings": {**asdict(self.settings), "repeats": self.repeats, "progress": PROGRESS},
        }  # fmt: skip


def bench_training(
    settings: BenchSettings, *, rows: Sequence[str] = ROWS, repeats: int = 10, sweep: bool = False
) -> TrainingBench:
    """Time training steps.

    Args:
        settings: What is computed.
        rows: Some of `ROWS`.
        repeats: Warm steps of each row.
        sweep: Also time ours for T in `SWEPT_TIME_STEPS`.

    Raises:
        UserError: an unknown row, a batch that CKA cannot use, or a row's process failed.
    """
    if settings.batch < 2:
        raise UserError("bench training: --batch must be at least 2, CKA compares samples")
    if repeats < 1:
        raise UserError("bench training: --repeats must be at least 1")
    chosen, left_out = choose(rows, ROWS)
    jobs: dict[str, Job] = {name: Job(__name__, name, settings, repeats) for name in chosen}
    for t in SWEPT_TIME_STEPS if sweep else ():
        jobs[f"T = {t}"] = Job(__name__, "ours", replace(settings, time_steps=t), repeats)
    here = machine(settings)
    found = measure(jobs)
    return TrainingBench(
        settings,
        repeats,
        here,
        {name: found[name] for name in chosen},
        left_out,
        {t: found[f"T = {t}"] for t in SWEPT_TIME_STEPS if sweep},
    )


def starter(row: str, settings: BenchSettings) -> tuple[str, Callable[[], TrainingStep]]:
    """How a row is run, and what builds it and returns its training step."""

    importlib.import_module("torch._dynamo")  # An optimiser loads it, for a second: no row's cost.
    weights, batch = initial_weights(settings), random_batch(settings)
    if row == "ours":
        return "", partial(_ours, settings, weights, batch)
    if row == "relu-bound":
        return _relu_bound(settings, weights, batch)
    note, parts = plain_parts(row, settings)
    return note, partial(_plain, parts, settings, weights, batch, autocast=row != "reference")


def plain_parts(row: str, settings: BenchSettings) -> tuple[str, Parts]:
    """How `reference` or `spikingjelly` is run, and what it is made of."""
    if row == "reference":
        return "eager, float32, step by step", ReferenceParts()
    from spikebridge.bench.jelly import JellyParts, implementation

    return implementation(pick_device(settings.device)), JellyParts()


def initial_weights(settings: BenchSettings) -> dict[str, Tensor]:
    """Weights of a new student."""
    torch.manual_seed(0)
    config = settings.config
    return PlainStudent(
        ReferenceParts(), config.student, settings.classes, config.data.size
    ).state_dict()


def random_batch(settings: BenchSettings) -> Batch:
    """One batch of both streams: sparse events and dense photos."""
    random = torch.Generator().manual_seed(0)
    batch, side, device = settings.batch, settings.size, pick_device(settings.device)
    dvs_TBCHW = torch.rand(settings.time_steps, batch, 2, side, side, generator=random)
    dvs_TBCHW = torch.where(dvs_TBCHW < _EVENTS_PER_CELL, dvs_TBCHW / _EVENTS_PER_CELL, 0.0)
    return Batch(
        dvs_TBCHW=dvs_TBCHW.to(device),
        label_B=torch.randint(settings.classes, (batch,), generator=random).to(device),
        photo_B3HW=torch.rand(batch, 3, side, side, generator=random).to(device),
        simulated_TBCHW=None,
        recording_B=np.arange(batch),
        source_B=np.arange(batch),
    )


def _teacher_logits(settings: BenchSettings) -> Tensor:
    random = torch.Generator().manual_seed(1)
    logits_BC = 3 * torch.randn(settings.batch, settings.classes, generator=random)
    return logits_BC.to(pick_device(settings.device))


def _ours(settings: BenchSettings, weights: dict[str, Tensor], batch: Batch) -> TrainingStep:
    config, device = settings.config, batch.label_B.device
    student = build_student(config.student, settings.classes, config.data.size)
    student.load_state_dict(weights)
    student.to(device)
    objective = CKDObjective(config.objective, settings.time_steps, config.student.threshold)
    objective.to(device)
    teacher_BC, autocast = _teacher_logits(settings), make_autocast(config, device)

    def loss(generator: torch.Generator) -> Tensor:
        with autocast():
            return objective(student, lambda _: teacher_BC, batch, PROGRESS, generator).total

    return TrainingStep([student, objective], loss)


def _plain(
    parts: Parts,
    settings: BenchSettings,
    weights: dict[str, Tensor],
    batch: Batch,
    *,
    autocast: bool,
) -> TrainingStep:
    config, device = settings.config, batch.label_B.device
    student = PlainStudent(parts, config.student, settings.classes, config.data.size)
    student.load_state_dict(weights)
    student.to(device)
    coefficient = TemporalCoefficient(settings.time_steps).to(device)
    teacher_BC = _teacher_logits(settings)
    precision = make_autocast(
        config if autocast else replace(settings, precision="float32").config, device
    )

    def loss(generator: torch.Generator) -> Tensor:
        with precision():
            losses = plain_losses(
                student, coefficient, config.objective, batch, teacher_BC, PROGRESS, generator
            )
        return torch.stack(list(losses.values())).sum()

    return TrainingStep([student, coefficient], loss)


def _relu_bound(
    settings: BenchSettings, weights: dict[str, Tensor], batch: Batch
) -> tuple[str, Callable[[], TrainingStep]]:
    from spikebridge.bench.relu_bound import ReLUNetwork, why_not_compiled

    config, device = settings.config, batch.label_B.device
    reason = why_not_compiled(device)
    autocast = make_autocast(config, device)

    def start() -> TrainingStep:
        network = ReLUNetwork(
            config.student, settings.classes, config.data.size, compiled=reason is None
        )
        network.student.load_state_dict(weights)
        network.to(device)

        def loss(generator: torch.Generator) -> Tensor:
            photos_TBCHW = photo_sequence(batch.photo_B3HW, settings.time_steps)
            probability = config.objective.replacement(PROGRESS)
            hybrid = replace_samples(photos_TBCHW, batch.dvs_TBCHW, probability, generator)
            with autocast():
                logits = [
                    network(hybrid.frames_TBCHW, "hybrid"),
                    network(batch.dvs_TBCHW, "dvs"),
                ]
            entropies = [F.cross_entropy(z.float().mean(0), batch.label_B) for z in logits]
            return torch.stack(entropies).sum()

        return TrainingStep([network], loss)

    return (f"eager: {reason}" if reason else "torch.compile"), start


def describe(found: TrainingBench) -> str:
    """The figures as Markdown tables."""
    lines = ["| row | cold, ms | warm, ms | peak, MiB |", "| --- | ---: | ---: | ---: |"]
    for name, row in found.rows.items():
        lines.append(
            f"| {name} | {row.ms_cold:,.0f} | {row.ms_median:,.1f} | {row.peak_mib:,.0f} |"
        )
    lines += ["", *ratio_table(found.ratios)]
    if found.swept:
        lines += ["", "| T | ours warm, ms | over T = 2 |", "| ---: | ---: | ---: |"]
        for t, row in found.swept.items():
            lines.append(f"| {t} | {row.ms_median:,.1f} | {found.sweep_ratios[t]:.2f} |")
    return "\n".join([*lines, "", *footer(found.machine, notes(found.rows, found.left_out))])
