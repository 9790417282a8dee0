"""The process that one row of a benchmark runs in: it waits for its turns.

Lines of JSON come in and go out: first a `Measurement` for a note, the cold time and what building
kernels took of it, then a number of calls for their times, and last 0 for the peak of memory.
"""

import ctypes
import importlib
import json
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

import torch

from benchmarks.problem import BenchSettings
from spikebridge.base import compiled
from spikebridge.base.devices import pick_device


class TimedRow:
    """Builds what is timed and makes the first, cold call.

    Args:
        start: Builds, and returns what is timed, a function of the call's index, and a note.
        device: Where it runs.
    """

    ms_cold: float
    """Building and the first call."""
    note: str

    def __init__(
        self, start: Callable[[], tuple[Callable[[int], Any], str]], device: torch.device
    ) -> None:
        self._device, self._calls = device, 0
        torch.empty(1, device=device)
        self._before = _start_of_peak(device)
        began = time.perf_counter()
        self._act, self.note = start()
        built = time.perf_counter()
        self.ms_cold = 1e3 * (built - began) + self._call()
        _start_of_peak(device)  # Compilers need memory too; what they keep still counts.
        self._call()
        self._give_back()

    def turn(self, count: int) -> list[float]:
        """Milliseconds of each of ``count`` calls, which one more precedes."""
        ms = [self._call() for _ in range(1 + count)]
        self._give_back()
        return ms[1:]

    def _give_back(self) -> None:
        """Give free memory back to the machine: other rows and processes run between turns."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        with suppress(AttributeError, OSError):  # glibc's
            ctypes.CDLL(None).malloc_trim(0)

    def peak_mib(self) -> float:
        """Most memory in MiB after the first call.

        CUDA: allocated. CPU: resident, beyond what was resident before the network was built.
        """
        return _peak_mib(self._device) - self._before

    def _call(self) -> float:
        began = time.perf_counter()
        self._act(self._calls)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self._calls += 1
        return 1e3 * (time.perf_counter() - began)


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


def _main() -> None:
    measurement = json.loads(sys.stdin.readline())
    settings = BenchSettings(**measurement["settings"])
    if settings.threads:
        torch.set_num_threads(settings.threads)
    answers = sys.stdout
    with redirect_stdout(sys.stderr):
        start = importlib.import_module(measurement["module"]).starter(measurement["row"], settings)
        row = TimedRow(start, pick_device(settings.device))
        print(
            json.dumps([row.note, row.ms_cold, sum(compiled.seconds.values())]),
            file=answers,
            flush=True,
        )
        for line in sys.stdin:
            answer = row.turn(int(line)) if int(line) else row.peak_mib()
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    _main()
