"""The simulated camera: a photo moved before an event camera (v2e pixel model, by eventcv)."""

import numpy as np

from spikebridge.base.errors import UserError
from spikebridge.data.events import Events
from spikebridge.data.photos import fit_photo
from spikebridge.data.simulation.camera import Simulator
from spikebridge.data.simulation.motion import motion_path

_BACKGROUND = 3
_HOT = 4
LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in what the camera sees."""


def simulate_photo(photo_HWC: np.ndarray, simulator: Simulator, seed: int) -> Events:
    """The recording that a camera makes of a photo moved along its path.

    Colour becomes luma. The same photo, settings and seed give the same events.

    Args:
        photo_HWC: RGB, uint8, of any size.
        simulator: Camera and motion.
        seed: Seed of path, thresholds and noise.

    Returns:
        Events on the whole sensor; where the photo keeps its aspect, none lies right of or below
        its picture.

    Raises:
        UserError: the camera saw nothing (a uniform photo, or thresholds that are too high).
    """
    import eventcv

    result = eventcv.simulate(
        _moving_frames(photo_HWC, simulator, seed),
        fps=1000 * simulator.frames / simulator.duration_ms,
        pos_thres=simulator.pos_threshold,
        neg_thres=simulator.neg_threshold,
        sigma_thres=simulator.threshold_sigma,
        refractory_us=simulator.refractory_us,
        cutoff_hz=simulator.cutoff_hz,
        leak_rate_hz=simulator.leak_rate_hz,
        shot_noise_rate_hz=simulator.shot_noise_hz,
        seed=seed,
        device="cpu",
    )
    x_N, y_N, t_N, p_N = result.numpy().astype(np.int64).T
    if not len(t_N):
        raise UserError(
            "the simulated camera saw no change; lower simulator.pos_threshold and neg_threshold "
            "or remove the photo"
        )
    sensor = (simulator.width, simulator.height)
    events = Events(x_N.astype(np.int32), y_N.astype(np.int32), t_N, p_N > 0, sensor)
    size = recorded_size(photo_HWC.shape[0], photo_HWC.shape[1], simulator)
    last = int(t_N[-1])
    if simulator.background_hz:
        random = np.random.default_rng([_BACKGROUND, seed])
        count = random.poisson(simulator.background_hz * size[0] * size[1] * last / 1e6)
        column_N = random.integers(size[1], size=count, dtype=np.int32)
        row_N = random.integers(size[0], size=count, dtype=np.int32)
        time_N = random.integers(last + 1, size=count)
        events = _with(events, column_N, row_N, time_N, np.ones(count, bool))
    if simulator.hot_pixels and simulator.hot_hz:
        place_K2 = hot_places(simulator)
        place_K2 = place_K2[(place_K2 < size).all(1)]
        random = np.random.default_rng([_HOT, seed])
        row_N, column_N = place_K2.repeat(
            random.poisson(simulator.hot_hz * last / 1e6, len(place_K2)), 0
        ).T
        time_N = random.integers(last + 1, size=len(row_N))
        events = _with(events, column_N, row_N, time_N, random.random(len(row_N)) < 0.5)
    return events


def _with(
    events: Events, x_N: np.ndarray, y_N: np.ndarray, t_N: np.ndarray, on_N: np.ndarray
) -> Events:
    """With more events, in order."""
    x_N, y_N = (
        np.concatenate([old_N, new_N.astype(np.int32)])
        for old_N, new_N in ((events.x_N, x_N), (events.y_N, y_N))
    )
    t_N = np.concatenate([events.t_N, t_N])
    on_N = np.concatenate([events.polarity_N, on_N])
    order_N = np.argsort(t_N, kind="stable")
    return Events(x_N[order_N], y_N[order_N], t_N[order_N], on_N[order_N], events.sensor)


def hot_places(simulator: Simulator) -> np.ndarray:
    """Rows and columns place_K2 of the camera's hot pixels; of two numbers, the fewer are among
    the more."""
    if not simulator.hot_pixels:
        return np.empty((0, 2), np.int64)
    order_N = np.random.default_rng(_HOT).permutation(simulator.height * simulator.width)
    return np.stack(np.divmod(order_N[: simulator.hot_pixels], simulator.width), 1)


def picture_size(height: int, width: int, simulator: Simulator) -> tuple[int, int]:
    """Height and width in pixels that a photo's picture has, before the crop."""
    if simulator.aspect == "stretch":
        return simulator.height, simulator.width
    scale = min(simulator.height / height, simulator.width / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def cropped(size: tuple[int, int], simulator: Simulator) -> tuple[slice, slice]:
    """Rows and columns of a picture that are recorded: at least one of each."""
    first = (min(simulator.crop, (side - 1) // 2) for side in size)
    rows, columns = (slice(n, side - n) for n, side in zip(first, size, strict=True))
    return rows, columns


def recorded_size(height: int, width: int, simulator: Simulator) -> tuple[int, int]:
    """Height and width in pixels that a photo's recording has."""
    rows, columns = cropped(picture_size(height, width, simulator), simulator)
    return rows.stop - rows.start, columns.stop - columns.start


def camera_path(simulator: Simulator, seed: int) -> np.ndarray:
    """Displacement_N2 (x, y) in pixels at each frame, from the middle of the path."""
    return motion_path(
        simulator.motion,
        simulator.frames,
        simulator.amplitude,
        seed,
        height=simulator.saccade_height,
        apex=simulator.saccade_apex,
        times=simulator.saccade_times,
        speed=simulator.speed,
    )


def _moving_frames(photo_HWC: np.ndarray, simulator: Simulator, seed: int) -> np.ndarray:
    """Greyscale frames_NHW of the moving photo; beyond its border its edge goes on."""
    height, width = picture_size(photo_HWC.shape[0], photo_HWC.shape[1], simulator)
    grey_HW = fit_photo(photo_HWC, (height, width), simulator.margin) @ np.array(LUMA, np.float32)
    if simulator.negative:
        grey_HW = 255 - grey_HW
    offset = np.array([simulator.offset_x, simulator.offset_y])
    reach = int(np.ceil(simulator.amplitude + np.abs(offset).max())) + 1
    padded = np.pad(grey_HW, reach, mode="edge")
    rows, columns = cropped((height, width), simulator)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    path_N2 = offset + camera_path(simulator, seed)
    corner = reach + np.array([columns.start, rows.start])
    frames = [_crop_between_pixels(padded, x, y, width, height) for x, y in corner - path_N2]
    return np.round(np.stack(frames)).astype(np.uint8)


def _crop_between_pixels(
    picture_HW: np.ndarray, left: float, top: float, width: int, height: int
) -> np.ndarray:
    """Bilinear crop whose corner lies between pixels."""
    column, row = int(left), int(top)
    right_share, lower_share = left - column, top - row
    crop = picture_HW[row : row + height + 1, column : column + width + 1]
    crop = crop[:, :-1] * (1 - right_share) + crop[:, 1:] * right_share
    return crop[:-1] * (1 - lower_share) + crop[1:] * lower_share
