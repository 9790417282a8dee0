"""Work of a device captured as CUDA graphs: a narrow network's time is launches, not arithmetic."""

from collections import Counter
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from spikebridge.base.console import console
from spikebridge.base.devices import leaves, map_tensors, pinned

_T = TypeVar("_T")

_WARM = 3
"""Calls of a kind before its capture: they compile kernels, and make the optimiser's state."""


class Graphs(Generic[_T]):
    """A function of tensors on a device, captured for each kind of input and then replayed.

    Inputs of one kind have the same shapes and the same values beside the tensors. The first calls
    of a kind run as they are. All calls work on fixed copies of their inputs, so that a captured
    call computes what one that is not would. Where capturing fails, calls go on as they are, and
    one note says so. Where memory is short, graphs are dropped for the first calls of another
    kind, and captured again.

    Args:
        act: Maps tensors in plain containers to such; nothing in it reads the device or depends on
            anything else that changes.
        device: A CUDA device.
    """

    def __init__(self, act: Callable[[Any], _T], device: torch.device) -> None:
        self._act, self._device = act, device
        self._calls: Counter[Hashable] = Counter()
        self._inputs: dict[Hashable, Any] = {}
        self._captured: dict[Hashable, tuple[torch.cuda.CUDAGraph, _T]] = {}
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()
        self._pool_bytes = 0
        self._failed = False

    def __call__(self, inputs: Any) -> _T:
        """Call the function.

        Args:
            inputs: On the host or the device.
        """
        kind = _kind(inputs)
        if kind not in self._inputs:
            self._inputs[kind] = map_tensors(self._buffer, inputs)
        for buffer, x in zip(leaves(self._inputs[kind]), leaves(inputs), strict=True):
            if isinstance(x, Tensor):
                buffer.copy_(x if x.device == buffer.device else pinned(x), non_blocking=True)
        self._calls[kind] += 1
        if kind not in self._captured and self._calls[kind] > _WARM and not self._failed:
            self._capture(kind)
        if kind in self._captured:
            graph, found = self._captured[kind]
            graph.replay()
            return map_tensors(torch.clone, found)
        if self._captured and self._calls[kind] <= _WARM:
            self._make_room()
        return self._called(kind)

    def _make_room(self) -> None:
        """Drop graphs where memory is short: a call that runs as it is cannot use theirs."""
        torch.cuda.empty_cache()
        if torch.cuda.mem_get_info(self._device)[0] < self._pool_bytes:
            self._captured.clear()
            self._pool, self._pool_bytes = torch.cuda.graph_pool_handle(), 0
            torch.cuda.empty_cache()

    @torch.inference_mode(False)  # So that it can be written in any mode.
    def _buffer(self, x: Tensor) -> Tensor:
        return torch.empty(x.shape, dtype=x.dtype, device=self._device)

    def _called(self, kind: Hashable) -> _T:
        """Call on the stream that captures, which then has its workspaces."""
        here = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            found = self._act(self._inputs[kind])
        here.wait_stream(self._stream)
        return found

    def _capture(self, kind: Hashable) -> None:
        graph, here = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._device)
        full, said, before = False, "", 0
        try:
            # The thread that makes batches pins memory meanwhile: that may not end the capture.
            with torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ):  # Which gives back first what is kept for later.
                before = torch.cuda.memory_reserved(self._device)
                try:
                    found = self._act(self._inputs[kind])
                except RuntimeError as error:  # The end of a broken capture raises another.
                    full, said = isinstance(error, torch.OutOfMemoryError), str(error)
                    raise
        except RuntimeError as error:
            self._abandon(here)
            said = said or str(error)
            if full or isinstance(error, torch.OutOfMemoryError):
                raise torch.OutOfMemoryError(said) from error
            self._failed = True
            console.print(
                f"note: this step cannot be captured as a CUDA graph and runs kernel by kernel "
                f"({said.strip().splitlines()[0]})",
                soft_wrap=True,
                markup=False,
            )
            return
        self._pool_bytes += torch.cuda.memory_reserved(self._device) - before
        self._captured[kind] = graph, found

    def _abandon(self, here: torch.cuda.Stream) -> None:
        """Undo what a broken capture leaves: its end raises before it has put all back."""
        torch.cuda.set_stream(here)
        index = torch.cuda.current_device() if self._device.index is None else self._device.index
        with suppress(RuntimeError):  # It had ended the allocation.
            torch._C._cuda_endAllocateToPool(index, self._pool)
            torch._C._cuda_releasePool(index, self._pool)


def _kind(inputs: Any) -> Hashable:
    return tuple((tuple(x.shape), x.dtype) if isinstance(x, Tensor) else x for x in leaves(inputs))
