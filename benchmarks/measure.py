"""Time and memory of a benchmark's rows, each in a process of its own.

The rows are built one after the other, with empty compile caches; building and the first call give
the cold time. Then they take turns of a few calls, there and back (A B C, C B A, …), so that a
machine whose load changes favours none. Of a row's turns the one with the lowest median counts:
where two threads happen to share a core, a whole turn is several times slower.
"""

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO, cast

import torch

from benchmarks.problem import BenchSettings
from spikebridge.base.console import each
from spikebridge.base.devices import pick_device
from spikebridge.base.errors import UserError
from spikebridge.results.tables import Table
from spikebridge.training.precision import make_autocast

ROUNDS = 5
"""Turns that each row takes."""

_CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TORCH_EXTENSIONS_DIR", "TRITON_CACHE_DIR", "XDG_CACHE_HOME")


@dataclass(frozen=True)
class Measurement:
    """One row to measure."""

    module: str
    """Module with ``starter(row, settings) -> start``; ``start()`` builds the network and returns
    what is timed, a function of the call's index, and a note. What comes before is not timed."""
    row: str
    settings: BenchSettings
    repeats: int
    """Warm calls."""


@dataclass(frozen=True)
class Timing:
    """What a row took."""

    ms_cold: float
    """Building the network and the first call, compilers at work included."""
    build_s: float
    """Seconds of it that a C compiler took for our kernels."""
    turns: list[list[float]]
    """Milliseconds of each warm call, by turn."""
    peak_mib: float
    """Most memory; see `TimedRow.peak_mib` in `benchmarks.worker`."""
    note: str
    """How the row was run."""

    @property
    def ms_warm(self) -> float:
        """Median of the best turn."""
        return min(statistics.median(turn) for turn in self.turns)


@dataclass(frozen=True)
class Bench:
    """What the rows of a benchmark took."""

    settings: BenchSettings
    repeats: int
    machine: dict[str, Any]
    rows: dict[str, Timing]
    left_out: dict[str, str]
    """Rows that cannot be measured here, and why."""

    @property
    def notes(self) -> dict[str, str]:
        """How rows were run, and why some were not."""
        return {name: row.note for name, row in self.rows.items() if row.note} | self.left_out

    def about(self, **more: Any) -> dict[str, Any]:
        """Where, how and with which settings, for a JSON file."""
        settings = {**asdict(self.settings), "repeats": self.repeats, **more}
        return {"notes": self.notes, "machine": self.machine, "settings": settings}

    def footer(self) -> str:
        """Lines that say where and how."""
        words = ", ".join(f"{key} {value}" for key, value in self.machine.items())
        return "\n".join([*(f"{name}: {note}" for name, note in self.notes.items()), words, ""])


def measure(measurements: dict[str, Measurement]) -> dict[str, Timing]:
    """Measure rows beside each other; all have the same number of repeats.

    Raises:
        UserError: a process failed, for want of memory say.
    """
    with ExitStack() as stack:
        caches = stack.enter_context(tempfile.TemporaryDirectory())
        environment = row_environment(caches, next(iter(measurements.values())).settings.device)

        def begin(name: str) -> Process:
            return stack.enter_context(closing(Process(measurements[name], environment)))

        rows = dict(zip(measurements, each(begin, measurements, "building"), strict=True))
        turns = _turns(list(measurements), next(iter(measurements.values())).repeats)
        taken = each(lambda turn: (turn[0], rows[turn[0]].turn(turn[1])), turns, "measuring")
        return {
            name: Timing(
                row.ms_cold,
                row.build_s,
                [ms for who, ms in taken if who == name],
                row.peak_mib(),
                row.note,
            )
            for name, row in rows.items()
        }


def row_environment(caches: str, device: str) -> dict[str, str]:
    """Environment of a row's process: compilers find no caches, a row on the CPU no GPU.

    PyTorch's optimisers ask a GPU that they see for its stream, and CUDA then takes host memory.

    Args:
        caches: Empty folder.
        device: As ``train.device``.
    """
    environment = {**os.environ, **{name: f"{caches}/{name}" for name in _CACHES}}
    if pick_device(device).type == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return environment


def _turns(names: list[str], repeats: int) -> list[tuple[str, int]]:
    """Who calls how often, in order."""
    rounds = min(ROUNDS, repeats)
    counts = [repeats * (r + 1) // rounds - repeats * r // rounds for r in range(rounds)]
    return [
        (name, count)
        for r, count in enumerate(counts)
        for name in (reversed(names) if r % 2 else names)
    ]


class Process:
    """A row's process; `benchmarks.worker` runs there.

    Raises:
        UserError: it failed; any of the methods may say so.
    """

    def __init__(self, measurement: Measurement, environment: dict[str, str]) -> None:
        if measurement.settings.threads:
            environment = {**environment, "OMP_NUM_THREADS": str(measurement.settings.threads)}
        self._row, self._errors = measurement.row, tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "benchmarks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        try:
            self.note, self.ms_cold, self.build_s = self._ask(asdict(measurement))
        except BaseException:
            self.close()
            raise

    def turn(self, count: int) -> list[float]:
        """Milliseconds of some calls."""
        return self._ask(count)

    def peak_mib(self) -> float:
        """Most memory so far."""
        return self._ask(0)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _ask(self, question: Any) -> Any:
        questions, answers = cast(TextIO, self._process.stdin), cast(TextIO, self._process.stdout)
        with suppress(BrokenPipeError):
            questions.write(json.dumps(question) + "\n")
            questions.flush()
        if answer := answers.readline():
            return json.loads(answer)
        killed = self._process.wait() < 0
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        raise UserError(
            f"bench: the process of {self._row!r} "
            f"{'was killed' if killed or not lines else f'failed ({lines[-1]})'}; where memory is "
            "short, give a smaller --batch, or leave the row out of --rows"
        )


def machine(settings: BenchSettings) -> dict[str, Any]:
    """What the figures depend on."""
    device = pick_device(settings.device)
    with make_autocast(settings.config.train.precision, device)():
        fast = torch.is_autocast_enabled(device.type)
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": settings.threads or torch.get_num_threads(),
        "torch": torch.__version__,
        "precision": "bfloat16" if fast else "float32",
        "avx512": torch.cpu._is_avx512_supported(),
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
        "amx_tile": torch.cpu._is_amx_tile_supported(),
        "load": round(os.getloadavg()[0], 2),
    }


def choose(rows: Sequence[str], known: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The rows that can be measured here, in their usual order, and why others cannot.

    Raises:
        UserError: an unknown row, or none is left.
    """
    for name in rows:
        if name not in known:
            raise UserError(f"bench: unknown row {name!r} in --rows; known are {','.join(known)}")
    chosen, left_out = [name for name in known if name in rows], {}
    if "spikingjelly" in chosen and importlib.util.find_spec("spikingjelly") is None:
        chosen.remove("spikingjelly")
        left_out["spikingjelly"] = "left out, it is not installed (extra dev)"
    if not chosen:
        raise UserError("bench: no row is left; add ours to --rows, or install SpikingJelly")
    return chosen, left_out


def ratios(pairs: Iterable[tuple[str, str]], values: Mapping[str, float]) -> dict[str, float]:
    """One row's value over another's, for the pairs of which both are there."""
    there = ((a, b) for a, b in pairs if a in values and b in values)
    return {f"{a} / {b}": values[a] / values[b] for a, b in there}


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table, in which all but the first column are numbers."""
    return Table(head, [place > 0 for place in range(len(head))], list(lines)).markdown()


def ratio_table(ratios: Mapping[str, float]) -> str:
    """Ratios as a Markdown table."""
    return table(["ratio", ""], ([name, f"{ratio:.2f}"] for name, ratio in ratios.items()))


def _cpu_name() -> str:
    with suppress(OSError, IndexError):
        text = Path("/proc/cpuinfo").read_text().split("model name")[1]
        return text.splitlines()[0].lstrip("\t :")
    import platform

    return platform.processor() or platform.machine()
