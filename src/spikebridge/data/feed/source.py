"""Simulated sources: recordings of photos, each by a camera that differs a little."""

import hashlib
from dataclasses import replace

import numpy as np

from spikebridge.base.errors import UserError
from spikebridge.data.frames import frame_events
from spikebridge.data.settings import DataConfig
from spikebridge.data.simulation.camera import Simulator
from spikebridge.data.simulation.simulate import simulate_photo

_CAMERA = 2


def view_key(sha256: str, view: int) -> str:
    """Key of one of a photo's simulated recordings, 64 hexadecimal digits; the first is its own."""
    return hashlib.sha256(f"{sha256}/{view}".encode()).hexdigest() if view else sha256


def draw_camera(simulator: Simulator, randomise: float, key: str) -> Simulator:
    """A camera about another one.

    Thresholds, amplitude, noise rates and bandwidth are multiplied by factors of their own, drawn
    log-uniformly from [exp(-randomise), exp(randomise)]; the ratio of ON to OFF threshold by one of
    a quarter of that width.

    Args:
        simulator: The camera in the middle.
        randomise: Half-width in log units; 0 leaves the camera as it is.
        key: 64 hexadecimal digits that determine the draws.
    """
    if not randomise:
        return simulator
    random = np.random.default_rng([_CAMERA, int(key, 16)])
    threshold, amplitude, shot, leak, background, cutoff, ratio = np.exp(
        randomise * random.uniform(-1, 1, 7)
    ).tolist()
    half = ratio**0.125  # of the ratio, to either side
    return replace(
        simulator,
        pos_threshold=simulator.pos_threshold * threshold * half,
        neg_threshold=simulator.neg_threshold * threshold / half,
        amplitude=simulator.amplitude * amplitude,
        shot_noise_hz=simulator.shot_noise_hz * shot,
        leak_rate_hz=simulator.leak_rate_hz * leak,
        background_hz=simulator.background_hz * background,
        cutoff_hz=simulator.cutoff_hz * cutoff,
    )


def simulate_source(
    photo_HWC: np.ndarray, config: DataConfig, simulator: Simulator, key: str
) -> np.ndarray:
    """One of a photo's simulated recordings as event counts x_TCHW.

    A camera that was drawn and sees too little gives way to the one in the middle.

    Args:
        photo_HWC: RGB, uint8.
        config: Framing, and how far cameras are drawn.
        simulator: The camera in the middle.
        key: Determines the draws; from `view_key`.

    Raises:
        UserError: the camera saw fewer events than T.
    """
    seed = int(key[:8], 16)

    def frames(camera: Simulator) -> np.ndarray:
        events = simulate_photo(photo_HWC, camera, seed)
        return frame_events(events, config.time_steps, config.size, config.bins, config.extent)

    camera = draw_camera(simulator, config.source.randomise, key)
    try:
        return frames(camera)
    except UserError:
        if camera == simulator:
            raise
        return frames(simulator)
