"""The recordings and photos of one split, as batches are drawn from them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from spikebridge.data.feed.cache import CachedArrays
from spikebridge.data.frames import network_input
from spikebridge.data.simulation.camera import Simulator


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

    @property
    def views(self) -> int:
        """Simulated recordings per photo."""
        return 0 if self.simulated_NTCHW is None else len(self.simulated_NTCHW) // len(self.files)
