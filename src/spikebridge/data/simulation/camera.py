"""Settings of the simulated camera and of the motion before it; imports nothing that is slow."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from spikebridge.base.typed import checked

Motion = Literal["saccade", "pan", "random"]
Speed = Literal["constant", "smooth"]
HIGHEST_SACCADE = 2
NOTE = "simulator.json"
"""Beside simulated recordings: the camera and the seed that they were made with."""
SaccadeTimes = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class Simulator:
    """Camera and motion.

    On a 240×180 sensor the defaults give recordings of Caltech101's photos that have as many events
    as N-Caltech101's, 115,000 in the mean and half of them ON; on a 34×34 sensor thresholds of
    about 0.8 give N-MNIST's 4,100.
    """

    width: int = 34
    """Sensor width in pixels."""
    height: int = 34
    """Sensor height in pixels."""
    motion: Motion = "saccade"
    """`saccade` is N-MNIST's and N-Caltech101's closed triangle; `pan` one straight sweep in a
    direction, `random` a smooth closed curve, that each recording draws from its seed."""
    aspect: Literal["keep", "stretch"] = "keep"
    """`keep` makes the photo as large as fits the sensor and puts it in the upper left corner, as
    N-Caltech101 was made; `stretch` fills the sensor."""
    crop: int = 0
    """Pixels at each side of the photo's picture that are not recorded; the corner is the first one
    that is. Of N-Caltech101's recording that we have, about 3."""
    margin: float = 0.0
    """Black margin inside the photo's picture, as a share of each of its sides."""
    amplitude: float = 5.0
    """Side in pixels of the box that the path stays in: the base of the saccades' triangle, the
    length of the sweep."""
    saccade_height: float = 0.5
    """Height of the saccades' triangle, as a share of `amplitude`, at most 2."""
    saccade_apex: float = 0.5
    """Where the first saccade ends, as a share of the way along the triangle's base."""
    saccade_times: SaccadeTimes | None = None
    """When each of the three saccades begins and ends, as shares of the motion's time, [0.05, 0.3,
    0.35, 0.65, 0.7, 0.95] say; between them the picture rests. null has each take a third."""
    speed: Speed = "constant"
    """Of each saccade and of the sweep: `constant`, or `smooth`, from rest to rest, as real motors
    move (N-MNIST)."""
    offset_x: float = 0.0
    """Pixels that the middle of the path lies right of the sensor's middle."""
    offset_y: float = 0.0
    """Pixels that it lies below."""
    negative: bool = False
    """Show the photo's negative, margin and all: N-MNIST's recordings are of dark digits before a
    bright ground (ON events where a stroke leaves, and in the still ground)."""
    duration_ms: float = 300.0
    """Duration of the motion in ms."""
    frames: int = 60
    """Frames rendered of the motion."""
    pos_threshold: float = 0.42
    """Contrast threshold of ON events, in log intensity."""
    neg_threshold: float = 0.42
    """Contrast threshold of OFF events, in log intensity."""
    threshold_sigma: float = 0.03
    """Spread of the thresholds over pixels."""
    refractory_us: int = 100
    """Dead time of a pixel after an event, in µs."""
    cutoff_hz: float = 200.0
    """Bandwidth of the photoreceptor at a white pixel, in Hz."""
    leak_rate_hz: float = 0.1
    """Leak of a pixel towards ON, in events per second; a still pixel fires when a whole one has
    leaked, all about the same time."""
    shot_noise_hz: float = 1.0
    """Noise events per dark pixel, in Hz."""
    background_hz: float = 0.0
    """Spontaneous ON events per pixel at random times, in Hz: what leak looks like in a real camera
    that has been on for a while."""
    hot_pixels: int = 0
    """Number of the sensor's pixels that fire all the time, ON as often as OFF. Where they lie is
    the camera's: the same in every recording. Those beside the photo's picture are not recorded."""
    hot_hz: float = 0.0
    """Events of each of them, in Hz."""

    def __post_init__(self) -> None:
        values = (*asdict(self).values(), *(self.saccade_times or ()))
        if not all(math.isfinite(value) for value in values if isinstance(value, int | float)):
            raise ValueError("simulator: settings must be finite numbers")
        if min(self.width, self.height) < 4 or self.frames < 4 or self.duration_ms <= 0:
            raise ValueError(
                "simulator: at least 4×4 pixels, 4 frames and a positive duration are needed"
            )
        if not 0 <= self.margin < 0.5:
            raise ValueError("simulator: margin must lie in [0, 0.5)")
        if min(self.pos_threshold, self.neg_threshold) <= 0:
            raise ValueError("simulator: thresholds must be positive")
        if not 0 <= self.saccade_height <= HIGHEST_SACCADE:
            raise ValueError(f"simulator: saccade_height must lie in [0, {HIGHEST_SACCADE}]")
        if not 0 <= self.saccade_apex <= 1:
            raise ValueError("simulator: saccade_apex must lie in [0, 1]")
        times = self.saccade_times or ()
        if not all(a <= b for a, b in pairwise((0.0, *times, 1.0))) or not all(
            a < b for a, b in zip(times[::2], times[1::2], strict=True)
        ):
            raise ValueError("simulator: saccade_times must rise from 0 at least to 1 at most")
        others = ("amplitude", "threshold_sigma", "refractory_us", "cutoff_hz", "leak_rate_hz",
                  "shot_noise_hz", "background_hz", "hot_pixels", "hot_hz", "crop")  # fmt: skip
        if negative := [name for name in others if getattr(self, name) < 0]:
            raise ValueError(f"simulator: {negative[0]} must not be negative")
        if self.hot_pixels > self.width * self.height:
            raise ValueError("simulator: hot_pixels must not exceed the sensor's pixels")

    def settings(self) -> dict[str, Any]:
        """All that determines a recording, for cache keys."""
        return asdict(self)

    def changed(self, changes: Mapping[str, Any]) -> "Simulator":
        """With some settings laid over these.

        Raises:
            ValueError: a setting that there is not, of the wrong type, or out of range.
        """
        try:
            fitting = checked(dict(changes), Simulator)
        except ValueError as error:
            raise ValueError(f"simulator: {error}") from error
        return replace(self, **fitting)
