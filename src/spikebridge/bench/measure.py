"""Time and memory of a benchmark's rows, each measured in processes of its own.

Every row is measured twice, in the order A B C D D C B A, so that a machine whose load changes
favours none; of the two the one with the lower median counts. The first time all compile caches
are empty, and the first call, with building the network, gives the cold time.
"""

import importlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from spikebridge.config import Config, DataConfig, StudentConfig, TrainConfig
from spikebridge.console import each
from spikebridge.errors import UserError
from spikebridge.runs import pick_device
from spikebridge.training.tasks import make_autocast

WARM_UP = 2
"""Calls between the cold one and those that are timed as warm."""

_CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TORCH_EXTENSIONS_DIR", "TRITON_CACHE_DIR", "XDG_CACHE_HOME")


@dataclass(frozen=True)
class BenchSettings:
    """What is computed, and where."""

    student: Literal["vgg-snn", "resnet18-snn"] = "vgg-snn"
    """Architecture."""
    width: float = 1.0
    """Channel multiplier."""
    size: int = 48
    """Height and width of the frames in pixels."""
    time_steps: int = 10
    """T."""
    batch: int = 16
    """B: samples per stream."""
    classes: int = 101
    """C."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of all rows but `reference`, as `train.precision`."""
    device: str = "auto"
    """As `train.device`."""
    threads: int | None = None
    """CPU threads; None leaves it to PyTorch."""

    def __post_init__(self) -> None:
        if min(self.time_steps, self.batch, self.threads or 1) < 1 or self.width <= 0:
            raise UserError("bench: --width, --time-steps, --batch and --threads must be positive")
        if self.size < 8 or self.classes < 2:
            raise UserError("bench: --size must be at least 8 and --classes at least 2")

    @property
    def config(self) -> Config:
        """The same as an experiment's settings."""
        return Config(
            data=DataConfig(size=(self.size, self.size), time_steps=self.time_steps),
            student=StudentConfig(name=self.student, width=self.width),
            train=TrainConfig(precision=self.precision, device=self.device),
        )


@dataclass(frozen=True)
class Job:
    """One row to measure."""

    module: str
    """Module with ``starter(row, settings) -> (note, start)``; ``start()`` builds the network and
    returns what is timed, a function of the call's index. What comes before is not timed."""
    row: str
    settings: BenchSettings
    repeats: int
    """Warm calls."""


@dataclass(frozen=True)
class Timing:
    """What a row took."""

    ms_cold: float
    """Building the network and the first call, compilers at work included."""
    ms: list[float]
    """Each warm call."""
    peak_mib: float
    """CUDA: the most memory allocated. CPU: the most memory resident, beyond what was resident
    before the first call."""
    note: str
    """How the row was run."""

    @property
    def ms_median(self) -> float:
        """Of the warm calls."""
        return statistics.median(self.ms)


def measure(jobs: dict[str, Job]) -> dict[str, Timing]:
    """Measure jobs, each in two processes of its own.

    Raises:
        UserError: a process failed, for want of memory say.
    """
    order = [*jobs, *reversed(jobs)]
    with tempfile.TemporaryDirectory() as caches:
        environment = {**os.environ, **{name: f"{caches}/{name}" for name in _CACHES}}
        passes = each(lambda name: _in_process(jobs[name], environment), order, "measuring")
    count = len(jobs)
    found = {}
    for name, first, second in zip(jobs, passes[:count], reversed(passes[count:]), strict=True):
        better = min(first, second, key=lambda timing: timing.ms_median)
        peak_mib = min(first.peak_mib, second.peak_mib)
        found[name] = Timing(first.ms_cold, better.ms, peak_mib, better.note)
    return found


def machine(settings: BenchSettings) -> dict[str, Any]:
    """What the figures depend on."""
    device = pick_device(settings.device)
    with make_autocast(settings.config, device)():
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
        UserError: an unknown row.
    """
    for name in rows:
        if name not in known:
            raise UserError(f"bench: unknown row {name!r} in --rows; known are {','.join(known)}")
    chosen, left_out = [name for name in known if name in rows], {}
    if "spikingjelly" in chosen and importlib.util.find_spec("spikingjelly") is None:
        chosen.remove("spikingjelly")
        left_out["spikingjelly"] = "left out, it is not installed (extra dev)"
    return chosen, left_out


def notes(rows: dict[str, Timing], left_out: dict[str, str]) -> dict[str, str]:
    """How rows were run, and why some were not."""
    return {**{name: row.note for name, row in rows.items() if row.note}, **left_out}


def ratio_table(ratios: dict[str, float]) -> list[str]:
    """Lines of a Markdown table."""
    return [
        "| ratio | |", "| --- | ---: |", *(f"| {name} | {r:.2f} |" for name, r in ratios.items())
    ]  # fmt: skip


def footer(machine: dict[str, Any], notes: dict[str, str]) -> list[str]:
    """Lines that say where and how."""
    words = ", ".join(f"{key} {value}" for key, value in machine.items())
    return [*(f"{name}: {note}" for name, note in notes.items()), words, ""]


def time_calls(
    start: Callable[[], Callable[[int], Any]], repeats: int, device: torch.device, note: str = ""
) -> Timing:
    """Time one cold call and ``repeats`` warm ones."""

    def timed(act: Callable[[], Any]) -> float:
        began = time.perf_counter()
        act()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return 1e3 * (time.perf_counter() - began)

    torch.empty(1, device=device)
    calls: list[Callable[[int], Any]] = []
    building = timed(lambda: calls.append(start()))
    (call,) = calls
    before = _start_of_peak(device)
    cold = building + timed(lambda: call(0))
    for index in range(WARM_UP):
        call(1 + index)
    ms = [timed(lambda index=index: call(1 + WARM_UP + index)) for index in range(repeats)]
    return Timing(cold, ms, _peak_mib(device) - before, note)


def _in_process(job: Job, environment: dict[str, str]) -> Timing:
    if job.settings.threads:
        environment = {**environment, "OMP_NUM_THREADS": str(job.settings.threads)}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "spikebridge.bench.measure"],
        input=json.dumps(asdict(job)),
        capture_output=True,
        text=True,
        env=environment,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        cause = lines[-1] if lines and done.returncode > 0 else "it was killed"
        raise UserError(
            f"bench: the process of {job.row!r} failed ({cause}); "
            "where memory is short, give a smaller --batch, or leave it out of --rows"
        )
    return Timing(**json.loads(done.stdout))


def _here(job: Job) -> Timing:
    note, start = importlib.import_module(job.module).starter(job.row, job.settings)
    return time_calls(start, job.repeats, pick_device(job.settings.device), note)


def _serve() -> None:
    """Read a job from stdin, write its timing to stdout."""
    given = json.load(sys.stdin)
    job = Job(**{**given, "settings": BenchSettings(**given["settings"])})
    if job.settings.threads:
        torch.set_num_threads(job.settings.threads)
    with redirect_stdout(sys.stderr):
        timing = _here(job)
    json.dump(asdict(timing), sys.stdout)


def _start_of_peak(device: torch.device) -> float:
    """Begin to look for the peak; MiB to be taken off it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return 0.0
    with suppress(OSError):  # Linux; elsewhere the peak so far remains.
        Path("/proc/self/clear_refs").write_text("5")
    return _peak_mib(device)


def _peak_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with suppress(OSError):  # ru_maxrss would hold the peak of the process that started this one.
        status = Path("/proc/self/status").read_text().split("VmHWM:")[1]
        return int(status.split()[0]) / 2**10
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _cpu_name() -> str:
    with suppress(OSError, IndexError):
        text = Path("/proc/cpuinfo").read_text().split("model name")[1]
        return text.splitlines()[0].lstrip("\t :")
    import platform

    return platform.processor() or platform.machine()


if __name__ == "__main__":
    _serve()
