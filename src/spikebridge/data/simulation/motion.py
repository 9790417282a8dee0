"""The paths along which a photo is moved before the simulated camera."""

from typing import get_args

import numpy as np

from spikebridge.data.simulation.camera import Motion, SaccadeTimes, Speed

_PATH = 1
_HARMONICS = 3


def motion_path(
    motion: Motion,
    frames: int,
    amplitude: float,
    seed: int,
    *,
    height: float = 0.5,
    apex: float = 0.5,
    times: SaccadeTimes | None = None,
    speed: Speed = "constant",
) -> np.ndarray:
    """Displacement_N2 (x, y) in pixels from the middle of the sensor, in equal steps of time.

    Every path lies within ``amplitude / 2`` of the middle along each axis, saccades as far up and
    down as they are high.

    Args:
        motion: ``saccade`` is `saccade_path` about its middle; ``pan`` one straight sweep of length
            ``amplitude``, in a random direction; ``random`` a smooth closed curve of random
            harmonics, ``amplitude / 2`` from the middle where it is farthest.
        frames: N, at least 2.
        amplitude: Side of the box that the path stays in, in pixels.
        seed: Seed of direction and curve.
        height: Of the saccades' triangle, as a share of ``amplitude``, at most 2.
        apex: Where its apex lies, as a share of the way along its base.
        times: When each saccade begins and ends, as shares of the whole time; None: thirds.
        speed: Of each saccade and of the sweep: ``constant``, or ``smooth``, from rest to rest.

    Raises:
        ValueError: an unknown motion.
    """
    random = np.random.default_rng([_PATH, seed])
    match motion:
        case "saccade":
            middle = amplitude * np.array([0.5, height / 2])
            return saccade_path(frames, amplitude, height, speed, apex, times) - middle
        case "pan":
            angle = random.uniform(0, 2 * np.pi)
            along_N = np.linspace(-amplitude / 2, amplitude / 2, frames)
            if speed == "smooth":
                along_N = amplitude * (_from_rest_to_rest(np.linspace(0, 1, frames)) - 0.5)
            return along_N[:, None] * np.array([np.cos(angle), np.sin(angle)])
        case "random":
            return amplitude / 2 * _closed_curve(frames, random)
    raise ValueError(f"unknown motion {motion!r}; expected one of {', '.join(get_args(Motion))}")


def saccade_path(
    frames: int,
    amplitude: float,
    height: float = 0.5,
    speed: Speed = "constant",
    apex: float = 0.5,
    times: SaccadeTimes | None = None,
) -> np.ndarray:
    """Displacement_N2 (x, y) in pixels along the closed three-saccade path, from its start.

    N-MNIST and N-Caltech101 (Orchard et al. 2015) move along a triangle, down to the right, up to
    the right, back to the left: each side in a third of the time, or with rests between ``times``.
    """
    corners = amplitude * np.array([(0, 0), (apex, height), (1, 0), (0, 0)], np.float64)
    position = np.linspace(0, 3, frames)
    if times is not None:
        position = np.interp(np.linspace(0, 1, frames), times, (0, 1, 1, 2, 2, 3))
    if speed == "smooth":
        position = _from_rest_to_rest(position)
    return np.stack([np.interp(position, range(4), corners[:, axis]) for axis in (0, 1)], 1)


def _from_rest_to_rest(position_N: np.ndarray) -> np.ndarray:
    """Positions that rest at whole numbers; between them the speed is a raised cosine."""
    return position_N - np.sin(2 * np.pi * position_N) / (2 * np.pi)


def _closed_curve(frames: int, random: np.random.Generator) -> np.ndarray:
    """Curve_N2 about the middle, its farthest point at distance 1."""
    phase_N1 = np.linspace(0, 2 * np.pi, frames)[:, None]
    order_K = np.arange(1, _HARMONICS + 1)
    waves_NK = np.concatenate([np.cos(phase_N1 * order_K), np.sin(phase_N1 * order_K)], 1)
    weight_K2 = random.standard_normal((2 * _HARMONICS, 2)) / np.tile(order_K, 2)[:, None]
    curve_N2 = waves_NK @ weight_K2
    return curve_N2 / np.linalg.norm(curve_N2, axis=1).max()
