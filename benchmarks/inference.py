"""Latency of classifying recordings: ours beside the plain loop and SpikingJelly.

A call takes the frames of one recording (or ``--batch`` of them) in memory to the logits' mean
over T on the CPU, in evaluation mode, without gradients. All rows have the same weights, and
running statistics of random recordings, so that every layer fires.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measure import (
    Bench,
    Measurement,
    choose,
    machine,
    measure,
    ratio_table,
    ratios,
    table,
)
from benchmarks.problem import BenchSettings, initial_weights, random_batch
from benchmarks.reference import PlainStudent, ReferenceParts
from benchmarks.training import plain_parts
from spikebridge.base.devices import pick_device
from spikebridge.base.errors import UserError
from spikebridge.models.build import build_student
from spikebridge.models.fast.inference import deploy
from spikebridge.models.student import Student
from spikebridge.training.precision import make_autocast

ROWS = ("reference", "spikingjelly", "ours")
MIN_CALLS = 50
"""Fewer have no 99th percentile worth the name."""

_RATIOS = (("reference", "ours"), ("spikingjelly", "ours"))
_RECORDINGS = 8


@dataclass(frozen=True)
class InferenceBench(Bench):
    """What the rows took."""

    @property
    def latencies(self) -> dict[str, tuple[float, float]]:
        """Median and 99th percentile of all warm calls in milliseconds, by row."""
        found = {}
        for name, row in self.rows.items():
            p50, p99 = np.percentile(np.concatenate(row.turns), (50, 99))
            found[name] = float(p50), float(p99)
        return found

    @property
    def ratios(self) -> dict[str, float]:
        """Of medians, for the rows that are there."""
        return ratios(_RATIOS, {name: p50 for name, (p50, _) in self.latencies.items()})

    def as_json(self) -> dict[str, Any]:
        """For a JSON file."""
        return {
            "rows": {
                name: {
                    "ms_cold": self.rows[name].ms_cold,
                    "build_s": self.rows[name].build_s,
                    "ms_p50": p50,
                    "ms_p99": p99,
                    "peak_mib": self.rows[name].peak_mib,
                }
                for name, (p50, p99) in self.latencies.items()
            },
            "ratios": self.ratios,
            **self.about(),
        }


def bench_inference(
    settings: BenchSettings, *, rows: Sequence[str] = ROWS, repeats: int = 100
) -> InferenceBench:
    """Time the classification of recordings.

    Args:
        settings: What is computed.
        rows: Some of `ROWS`.
        repeats: Warm calls of each row, at least `MIN_CALLS`.

    Raises:
        UserError: an unknown row, too few calls, or a row's process failed.
    """
    if repeats < MIN_CALLS:
        raise UserError(f"bench inference: --repeats must be at least {MIN_CALLS}")
    chosen, left_out = choose(rows, ROWS)
    here = machine(settings)
    found = measure({name: Measurement(__name__, name, settings, repeats) for name in chosen})
    return InferenceBench(settings, repeats, here, found, left_out)


def starter(row: str, settings: BenchSettings) -> Callable[[], tuple[Callable[[int], Tensor], str]]:
    """What builds a row and returns its classification of a recording, and how it is run."""
    config, device = settings.config, pick_device(settings.device)
    recordings = replace(settings, batch=_RECORDINGS * settings.batch, device="cpu")
    x_RTBCHW = random_batch(recordings).dvs_TBCHW.split(settings.batch, 1)
    weights = settled_weights(settings, x_RTBCHW[0])
    ours = None, "", settings
    parts, note, precise = ours if row == "ours" else plain_parts(row, settings)
    autocast = make_autocast(precise.config.train.precision, device)

    def start() -> tuple[Callable[[int], Tensor], str]:
        network: nn.Module
        if parts is None:
            network = build_student(config.student, settings.classes, config.data.size)
        else:
            network = PlainStudent(parts, config.student, settings.classes, config.data.size)
        network.load_state_dict(weights)
        network.to(device).eval()
        if isinstance(network, Student):
            with autocast():
                network = deploy(network)

        @torch.inference_mode()
        def classify(index: int) -> Tensor:
            with autocast():
                output = network(x_RTBCHW[index % _RECORDINGS].to(device))
            return output.logits_TBC.float().mean(0).cpu()

        return classify, note

    return start


def settled_weights(settings: BenchSettings, x_TBCHW: Tensor) -> dict[str, Tensor]:
    """A new student's weights, with the running statistics of some frames."""
    config = settings.config
    student = PlainStudent(ReferenceParts(), config.student, settings.classes, config.data.size)
    student.load_state_dict(initial_weights(settings))
    student.momentum = 1.0
    with torch.no_grad():
        student(x_TBCHW)
    return student.state_dict()


def describe(found: InferenceBench) -> str:
    """The figures as Markdown tables."""
    head = ["row", "cold, ms", "of it C kernels built, s", "p50, ms", "p99, ms", "peak, MiB"]
    rows = ((name, found.rows[name], *of_calls) for name, of_calls in found.latencies.items())
    lines = (
        [name, f"{row.ms_cold:,.0f}", f"{row.build_s:.1f}", f"{p50:,.2f}", f"{p99:,.2f}",
         f"{row.peak_mib:,.0f}"]
        for name, row, p50, p99 in rows
    )  # fmt: skip
    return "\n".join([table(head, lines), ratio_table(found.ratios), found.footer()])
