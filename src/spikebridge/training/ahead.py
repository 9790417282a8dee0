"""Batches made by a thread while the device computes."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from typing import Generic, TypeVar

import torch

from spikebridge.base.devices import map_tensors, pinned

_T = TypeVar("_T")


class Ahead(AbstractContextManager, Generic[_T]):
    """A function of a step whose next values a thread makes while the last one is used.

    A failure is raised by the call that asks for the value. As a context it leaves no thread
    behind. The thread leaves the device alone, but for a GPU it pins the values' tensors.

    Args:
        make: What it gives must depend on the step alone, and lie on the CPU.
        stop: Step before which it ends.
        device: Device that the thread works for.
        count: How many values to make ahead.
    """

    def __init__(
        self, make: Callable[[int], _T], stop: int, device: torch.device, count: int = 2
    ) -> None:
        self._stop, self._count = stop, count
        self._made: dict[int, Future[_T]] = {}
        start, self._make = None, make
        if device.type == "cuda":
            index = torch.cuda.current_device() if device.index is None else device.index
            start = partial(torch.cuda.set_device, index)
            self._make = lambda step: map_tensors(pinned, make(step))
        self._pool = ThreadPoolExecutor(1, "batches", start)

    def __call__(self, step: int) -> _T:
        """Value of a step, made ahead where it follows the last one."""
        for number in range(step, min(step + 1 + self._count, self._stop)):
            if number not in self._made:
                self._made[number] = self._pool.submit(self._make, number)
        return self._made.pop(step).result()

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)
