"""Work of a device captured as CUDA graphs: a narrow network's time is launches, not arithmetic."""

from collections import Counter
from collections.abc import Callable, Hashable
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
    one note says so.

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
        return self._called(kind)

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
        graph = torch.cuda.CUDAGraph()
        pool = next(iter(self._captured.values()))[0].pool() if self._captured else None
        try:
            # The thread that makes batches pins memory meanwhile: that may not end the capture.
            with torch.cuda.graph(
                graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"
            ):
                found = self._act(self._inputs[kind])
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self._failed = True
            console.print(
                f"note: this step cannot be captured as a CUDA graph and runs kernel by kernel "
                f"({str(error).strip().splitlines()[0]})",
                soft_wrap=True,
                markup=False,
            )
            return
        self._captured[kind] = graph, found


def _kind(inputs: Any) -> Hashable:
    return tuple((tuple(x.shape), x.dtype) if isinstance(x, Tensor) else x for x in leaves(inputs))
