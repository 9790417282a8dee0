"""One CKD training step: ours beside the plain loop, SpikingJelly and a network of ReLUs.

A step is both streams through the student, the hybrid one with photos of which P(u) = 0.3 are
replaced, all losses, backward and AdamW. The teacher's logits are given: its own cost is no part
of it. All rows start from the same weights and see the same random batch.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import (
    Bench,
    Measurement,
    Timing,
    choose,
    machine,
    measure,
    ratio_table,
    ratios,
    table,
)
from benchmarks.problem import (
    LEARNING_RATE,
    PROGRESS,
    BenchSettings,
    PlainStep,
    initial_weights,
    random_batch,
    teacher_logits,
)
from benchmarks.reference import Parts, PlainStudent, ReferenceParts, plain_losses
from spikebridge.base.devices import all_to_device, pick_device
from spikebridge.base.errors import UserError
from spikebridge.ckd.losses import TemporalCoefficient
from spikebridge.ckd.objective import CKDObjective, Draws
from spikebridge.ckd.result import StepResult
from spikebridge.data.feed.batches import Batch
from spikebridge.models.build import build_student
from spikebridge.models.student import Student
from spikebridge.training.allocator import keep_freed_memory
from spikebridge.training.precision import make_autocast
from spikebridge.training.step import TrainingStep, make_optimiser

ROWS = ("reference", "spikingjelly", "ours", "relu-bound")
LOW = "ours, low memory"
"""Row of `ours` with train.memory low."""
EAGER = "ours, kernel by kernel"
"""Row of `ours` with train.cuda_graph false, on CUDA."""
SWEPT_TIME_STEPS = (2, 4, 8, 16)

_RATIOS = (
    ("reference", "ours"),
    ("spikingjelly", "ours"),
    ("ours", "relu-bound"),
    (EAGER, "ours"),
    (LOW, "ours"),
)
_PEAK_RATIOS = (("reference", "ours"), ("ours", LOW))


@dataclass(frozen=True)
class TrainingBench(Bench):
    """What the rows took."""

    swept: dict[int, Timing]
    """Ours by T; empty where it was not asked for."""

    @property
    def ratios(self) -> dict[str, float]:
        """Of warm times and of peaks, for the rows that are there."""
        times = ratios(_RATIOS, {name: row.ms_warm for name, row in self.rows.items()})
        peaks = ratios(_PEAK_RATIOS, {name: row.peak_mib for name, row in self.rows.items()})
        return times | {f"peak {name}": ratio for name, ratio in peaks.items()}

    @property
    def sweep_ratios(self) -> dict[int, float]:
        """Warm time over that of the fewest steps, by T."""
        first = next(iter(self.swept.values()), None)
        return {t: row.ms_warm / first.ms_warm for t, row in self.swept.items() if first}

    def as_json(self) -> dict[str, Any]:
        """For a JSON file."""
        return {
            "rows": {
                name: {
                    "ms_cold": row.ms_cold, "build_s": row.build_s, "ms_warm": row.ms_warm,
                    "peak_mib": row.peak_mib,
                }
                for name, row in self.rows.items()
            },
            "ratios": self.ratios,
            "time_steps": {
                str(t): {"ms_warm": row.ms_warm, "ratio": self.sweep_ratios[t]}
                for t, row in self.swept.items()
            },
            **self.about(progress=PROGRESS),
        }  # fmt: skip


def bench_training(
    settings: BenchSettings,
    *,
    rows: Sequence[str] = ROWS,
    repeats: int = 15,
    low_memory: bool = False,
    sweep: bool = False,
) -> TrainingBench:
    """Time training steps.

    Args:
        settings: What is computed.
        rows: Some of `ROWS`.
        repeats: Warm steps of each row.
        low_memory: Also time ours with train.memory low.
        sweep: Also time ours for T in `SWEPT_TIME_STEPS`.

    Raises:
        UserError: an unknown row, a batch that CKA cannot use, or a row's process failed.
    """
    if settings.batch < 2:
        raise UserError("bench training: --batch must be at least 2, CKA compares samples")
    if repeats < 1:
        raise UserError("bench training: --repeats must be at least 1")
    chosen, left_out = choose(rows, ROWS)
    timed = {name: (name, settings) for name in chosen}
    if "ours" in chosen and pick_device(settings.device).type == "cuda":
        timed[EAGER] = "ours", replace(settings, cuda_graph=False)
    if low_memory:
        timed[LOW] = "ours", replace(settings, memory="low")
    by_steps = {f"T = {t}": t for t in SWEPT_TIME_STEPS if sweep}
    swept = {name: ("ours", replace(settings, time_steps=t)) for name, t in by_steps.items()}
    here = machine(settings)
    found = measure(
        {
            name: Measurement(__name__, row, given, repeats)
            for name, (row, given) in (timed | swept).items()
        }
    )
    return TrainingBench(
        settings,
        repeats,
        here,
        {name: found[name] for name in timed},
        left_out,
        {t: found[name] for name, t in by_steps.items()},
    )


def starter(row: str, settings: BenchSettings) -> Callable[[], tuple[Callable[[int], None], str]]:
    """What builds a row and returns its training step, and how it is run."""
    importlib.import_module("torch._dynamo")  # An optimiser loads it, for a second: no row's cost.
    weights, batch = initial_weights(settings), random_batch(settings)
    if row in ("ours", "relu-bound"):
        keep_freed_memory()  # As training does; and the bound must be as low as it can be.
    if row == "ours":
        captured = settings.cuda_graph and batch.label_B.is_cuda
        note = "captured as a CUDA graph" if captured else ""
        return lambda: (OurStep(settings, weights, batch), note)
    if row == "relu-bound":
        from benchmarks.relu_bound import dense_step

        return lambda: dense_step(settings, weights, batch)
    parts, note, precise = plain_parts(row, settings)
    return lambda: (_plain(parts, precise, weights, batch), note)


def plain_parts(row: str, settings: BenchSettings) -> tuple[Parts, str, BenchSettings]:
    """What `reference` or `spikingjelly` is made of, how it is run, and in which precision."""
    if row == "reference":
        precise = replace(settings, precision="float32")
        return ReferenceParts(), "eager, float32, step by step", precise
    from benchmarks.jelly import JellyParts, implementation

    return JellyParts(), implementation(pick_device(settings.device)), settings


class OurStep:
    """A training step as `train` takes it; every call draws other replaced samples."""

    def __init__(self, settings: BenchSettings, weights: dict[str, Tensor], batch: Batch) -> None:
        config, device = settings.config, batch.label_B.device
        student = build_student(config.student, settings.classes, config.data.size)
        student.load_state_dict(weights)
        student.to(device)
        student.backbone.low_memory = config.train.memory == "low"
        objective = CKDObjective(config.objective, settings.time_steps, config.student.threshold)
        objective.to(device)
        self.modules = [student, objective]
        self._batch, self._teacher_BC = batch, teacher_logits(settings)
        self._autocast = make_autocast(config.train.precision, device)
        trained = [p for module in self.modules for p in module.parameters()]
        self._take = TrainingStep(
            self._losses,
            trained,
            make_optimiser(trained, LEARNING_RATE, config.train.weight_decay, device),
            device,
            capture=config.train.cuda_graph,
        )

    def _losses(self, tensors: tuple[Batch, Draws]) -> StepResult:
        batch, draws = tensors
        student, objective = self.modules
        assert isinstance(student, Student)
        assert isinstance(objective, CKDObjective)
        with self._autocast():
            return objective.losses(student, lambda _: self._teacher_BC, batch, draws)

    def _tensors(self, generator: torch.Generator) -> tuple[Batch, Draws]:
        objective = self.modules[1]
        assert isinstance(objective, CKDObjective)
        return self._batch, objective.draw(PROGRESS, len(self._batch.label_B), generator)[0]

    def loss(self, generator: torch.Generator) -> Tensor:
        """The loss, by the generator of the replacement draws."""
        batch, draws = self._tensors(generator)
        return self._losses((batch, all_to_device(draws, batch.label_B.device))).total

    def __call__(self, index: int) -> None:
        """One step."""
        self._take(self._tensors(torch.Generator().manual_seed(index)), LEARNING_RATE)


def _plain(
    parts: Parts, settings: BenchSettings, weights: dict[str, Tensor], batch: Batch
) -> PlainStep:
    config, device = settings.config, batch.label_B.device
    student = PlainStudent(parts, config.student, settings.classes, config.data.size)
    student.load_state_dict(weights)
    student.to(device)
    coefficient = TemporalCoefficient(settings.time_steps).to(device)
    teacher_BC, autocast = teacher_logits(settings), make_autocast(config.train.precision, device)

    def loss(generator: torch.Generator) -> Tensor:
        with autocast():
            losses = plain_losses(
                student, coefficient, config.objective, batch, teacher_BC, PROGRESS, generator
            )
        return torch.stack(list(losses.values())).sum()

    return PlainStep([student, coefficient], loss)


def describe(found: TrainingBench) -> str:
    """The figures as Markdown tables."""
    head = ["row", "cold, ms", "of it C kernels built, s", "warm, ms", "peak, MiB"]
    lines = (
        [name, f"{row.ms_cold:,.0f}", f"{row.build_s:.1f}", f"{row.ms_warm:,.1f}",
         f"{row.peak_mib:,.0f}"]
        for name, row in found.rows.items()
    )  # fmt: skip
    parts = [table(head, lines), ratio_table(found.ratios)]
    if found.swept:
        ts = found.sweep_ratios.items()
        lines = ([str(t), f"{found.swept[t].ms_warm:,.1f}", f"{ratio:.2f}"] for t, ratio in ts)
        parts.append(table(["T", "ours warm, ms", "over T = 2"], lines))
    return "\n".join([*parts, found.footer()])
