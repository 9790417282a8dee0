"""The recordings and photos of one split, as batches are drawn from them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
import torch

from spikebridge.data.feed.cache import CachedArrays
from spikebridge.data.feed.source import draw_camera
from spikebridge.data.frames import network_input
from spikebridge.data.simulation.camera import Simulator
from spikebridge.data.simulation.converter import Converter, Takes


@dataclass(frozen=True)
class EventSet:
    """Framed recordings of one split."""

    frames_NTCHW: CachedArrays | np.ndarray
    """Event counts; channel 0 is OFF, 1 is ON."""
    label_N: np.ndarray
    files: tuple[str, ...]
    scale: Literal["recording", "none"]
    """How `network_input` scales the counts, and those of simulated sources."""

    def input(self, rows: np.ndarray | slice) -> np.ndarray:
        """Some recordings as network input x_BTCHW."""
        return network_input(self.frames_NTCHW[rows], self.scale)


@dataclass(frozen=True)
class StepSource:
    """How photos become simulated recordings inside the training step."""

    simulator: Simulator
    """The camera; its margin is what it sees around a photo as it is kept."""
    randomise: float
    """Of each use's camera, as for `draw_camera`."""
    extent: Literal["sensor", "recording"]
    """What is stretched to the frames."""

    def converter(self, size: tuple[int, int], time_steps: int, device: torch.device) -> Converter:
        """What makes the recordings, as frames of a height and width."""
        return Converter(self.simulator, size, time_steps, extent=self.extent, device=device)

    def takes(self, converter: Converter, seeds: Sequence[int]) -> Takes:
        """Draw how photos are recorded, each by a camera of its own, from a seed for each."""
        cameras = [draw_camera(self.simulator, self.randomise, f"{seed:x}") for seed in seeds]
        return converter.takes(cameras, seeds)


@dataclass(frozen=True)
class PhotoSet:
    """Photos of one split, and their simulated recordings where they serve as source."""

    photos_N3HW: CachedArrays | np.ndarray
    """RGB, uint8."""
    label_N: np.ndarray
    files: tuple[str, ...]
    simulated_NTCHW: CachedArrays | np.ndarray | None = None
    """Row v·P + p is view v of photo p, of P photos."""
    step_source: StepSource | None = None
    """Where they serve as source without having been simulated before."""
    answered_N: np.ndarray | None = None
    """True where the class is what a labeller answered; None where nobody was asked."""

    @property
    def views(self) -> int:
        """Simulated recordings per photo."""
        return 0 if self.simulated_NTCHW is None else len(self.simulated_NTCHW) // len(self.files)

    def only(self, rows_K: np.ndarray) -> Self:
        """Some of the photos by themselves, without their simulated recordings."""
        return type(self)(
            _rows(self.photos_N3HW, rows_K),
            self.label_N[rows_K],
            tuple(self.files[row] for row in rows_K),
        )

    def with_answers(self, others: "PhotoSet", rows_K: np.ndarray, label_K: np.ndarray) -> Self:
        """The same and, behind them, some of other photos.

        Args:
            others: Photos without labels, prepared alike.
            rows_K: Indices of those that are taken.
            label_K: What a labeller answered of each.
        """
        simulated_NTCHW = None
        if self.simulated_NTCHW is not None:
            assert others.simulated_NTCHW is not None
            own, new = len(self.files), len(others.files)
            parts = [
                part
                for view in range(self.views)
                for part in (
                    _rows(self.simulated_NTCHW, np.arange(own) + view * own),
                    _rows(others.simulated_NTCHW, rows_K + view * new),
                )
            ]
            simulated_NTCHW = _joined(parts)
        return replace(
            self,
            photos_N3HW=_joined([self.photos_N3HW, _rows(others.photos_N3HW, rows_K)]),
            label_N=np.concatenate([self.label_N, label_K]),
            files=(*self.files, *(others.files[row] for row in rows_K)),
            simulated_NTCHW=simulated_NTCHW,
            answered_N=np.arange(len(self.files) + len(rows_K)) >= len(self.files),
        )


_Arrays = CachedArrays | np.ndarray


def _rows(array: _Arrays, rows_K: np.ndarray) -> _Arrays:
    """Some rows; those of a cache are not read."""
    return array.rows(rows_K) if isinstance(array, CachedArrays) else array[rows_K]


def _joined(parts: Sequence[_Arrays]) -> _Arrays:
    """Arrays behind each other; those of a cache are not read."""
    cached = [part for part in parts if isinstance(part, CachedArrays)]
    if len(cached) == len(parts):
        return cached[0].and_then(cached[1:])
    return np.concatenate([np.asarray(part) for part in parts])
