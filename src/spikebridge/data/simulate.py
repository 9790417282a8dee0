"""The saccade simulator: a photo moved before an event camera (v2e pixel model, by eventcv)."""

import math
import os
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from spikebridge.console import console
from spikebridge.data.events import Events, write_bin
from spikebridge.data.photos import fit_photo, list_photo_folder, read_photo
from spikebridge.errors import UserError
from spikebridge.files import json_text, write_json

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Simulator:
    """Camera and motion; the defaults are near N-MNIST's recordings."""

    width: int = 34
    """Sensor width in pixels."""
    height: int = 34
    """Sensor height in pixels."""
    margin: float = 0.0
    """Black margin around the photo, as a share of each side of the sensor."""
    amplitude: float = 5.0
    """Length of the path's longest saccade in pixels."""
    duration_ms: float = 300.0
    """Duration of the three saccades in ms."""
    frames: int = 60
    """Frames rendered of the motion."""
    pos_threshold: float = 0.5
    """Contrast threshold of ON events, in log intensity."""
    neg_threshold: float = 0.5
    """Contrast threshold of OFF events, in log intensity."""
    threshold_sigma: float = 0.03
    """Spread of the thresholds over pixels."""
    refractory_us: int = 100
    """Dead time of a pixel after an event, in µs."""
    cutoff_hz: float = 200.0
    """Bandwidth of the photoreceptor at a white pixel, in Hz."""
    leak_rate_hz: float = 0.1
    """Spontaneous ON events per pixel, in Hz."""
    shot_noise_hz: float = 1.0
    """Noise events per dark pixel, in Hz."""

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in asdict(self).values()):
            raise ValueError("simulator: settings must be finite numbers")
        if min(self.width, self.height) < 4 or self.frames < 4 or self.duration_ms <= 0:
            raise ValueError(
                "simulator: at least 4×4 pixels, 4 frames and a positive duration are needed"
            )
        if not 0 <= self.margin < 0.5:
            raise ValueError("simulator: margin must lie in [0, 0.5)")
        if min(self.pos_threshold, self.neg_threshold) <= 0:
            raise ValueError("simulator: thresholds must be positive")
        others = ("amplitude", "threshold_sigma", "refractory_us", "cutoff_hz", "leak_rate_hz",
                  "shot_noise_hz")  # fmt: skip
        if negative := [name for name in others if getattr(self, name) < 0]:
            raise ValueError(f"simulator: {negative[0]} must not be negative")

    def settings(self) -> dict[str, float]:
        """All that determines a recording, for cache keys."""
        return asdict(self)


def saccade_path(frames: int, amplitude: float) -> np.ndarray:
    """Displacement_N2 (x, y) in pixels along the closed three-saccade path.

    N-MNIST and N-Caltech101 (Orchard et al. 2015) move along an isosceles triangle, each side in a
    third of the time: down to the right, up to the right, back to the left.
    """
    corners = amplitude * np.array([(0, 0), (0.5, 0.5), (1, 0), (0, 0)], np.float64)
    position = np.linspace(0, 3, frames)
    return np.stack([np.interp(position, range(4), corners[:, axis]) for axis in (0, 1)], 1)


def simulate_photo(photo_HWC: np.ndarray, simulator: Simulator, seed: int) -> Events:
    """The recording that a camera makes of a photo moved along `saccade_path`.

    Colour becomes luma. The same photo, settings and seed give the same events.

    Args:
        photo_HWC: RGB, uint8, of any size; it is stretched to the sensor.
        simulator: Camera and motion.
        seed: Seed of thresholds and noise.

    Raises:
        UserError: the camera saw nothing (a uniform photo, or thresholds that are too high).
    """
    import eventcv

    result = eventcv.simulate(
        _moving_frames(photo_HWC, simulator),
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
    return Events(x_N.astype(np.int32), y_N.astype(np.int32), t_N, p_N > 0, sensor)


def _moving_frames(photo_HWC: np.ndarray, simulator: Simulator) -> np.ndarray:
    """Greyscale frames_NHW of the moving photo; beyond its border its edge goes on."""
    height, width = simulator.height, simulator.width
    grey_HW = fit_photo(photo_HWC, (height, width), simulator.margin) @ _LUMA
    reach = int(np.ceil(simulator.amplitude)) + 1
    padded = np.pad(grey_HW, reach, mode="edge")
    # The middle of the path is the middle of the sensor.
    offset_N2 = saccade_path(simulator.frames, simulator.amplitude)
    offset_N2 = reach - (offset_N2 - simulator.amplitude * np.array([0.5, 0.25]))
    frames = [_crop_between_pixels(padded, x, y, width, height) for x, y in offset_N2]
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


def simulate_many(
    photos: Sequence[np.ndarray], simulator: Simulator, seeds: Sequence[int], *, description: str
) -> Generator[Events]:
    """Simulate photos on all cores, with a progress bar; results in order.

    Close it where it is not exhausted, to end the bar.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        recordings = pool.map(
            lambda photo, seed: simulate_photo(photo, simulator, seed), photos, seeds
        )
        try:
            yield from track(
                recordings, description, total=len(photos), console=console, transient=True
            )
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def simulate_folder(
    photos: str | os.PathLike[str],
    out: str | os.PathLike[str],
    simulator: Simulator,
    *,
    seed: int,
    exclude: Sequence[str] = (),
) -> int:
    """Simulate a whole data set in N-Caltech101's layout: OUT/CLASS/NAME.bin.

    A recording's noise depends on ``seed`` and its class and name only. Recordings that are there
    already are kept, so that an interrupted call can be repeated; ``simulator.json`` says with
    which settings they were made.

    Args:
        photos: Folder with CLASS/PHOTO.
        out: Folder of the recordings.
        simulator: Camera and motion.
        seed: Seed of thresholds and noise.
        exclude: Classes to leave out.

    Returns:
        Number of recordings that were made.

    Raises:
        UserError: a photo does not decode, two would make the same recording, the sensor does not
            fit ``.bin``, or the folder holds recordings of other settings.
    """
    if simulator.width > 256 or simulator.height > 240:
        raise UserError(
            f"a {simulator.width}×{simulator.height} sensor does not fit .bin, which holds at most "
            "256×240; lower simulator.width and simulator.height"
        )
    sources: dict[Path, Path] = {}
    for name, files in list_photo_folder(photos, exclude).items():
        for file in files:
            target = Path(out) / name / f"{file.stem}.bin"
            if target in sources:
                raise UserError(
                    f"{file}: {sources[target].name} beside it would make the same recording; "
                    "rename one of them"
                )
            sources[target] = file
    _note_settings(Path(out), {"seed": seed, **simulator.settings()})
    jobs = [(file, target) for target, file in sources.items() if not target.exists()]

    def run(job: tuple[Path, Path]) -> None:
        file, target = job
        words = f"{seed}/{file.parent.name}/{file.stem}".encode()
        noise = int(np.random.SeedSequence(list(words)).generate_state(1)[0])
        photo_HWC = read_photo(file)
        try:
            events = simulate_photo(photo_HWC, simulator, noise)
        except UserError as error:
            raise UserError(f"{file}: {error}") from error
        write_bin(target, events)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in track(
            pool.map(run, jobs),
            "simulating recordings",
            total=len(jobs),
            console=console,
            transient=True,
            disable=not jobs,
        ):
            pass
    return len(jobs)


def _note_settings(out: Path, settings: dict[str, float]) -> None:
    note = out / "simulator.json"
    if note.exists():
        if note.read_bytes() != json_text(settings).encode():
            raise UserError(
                f"{out}: holds recordings of other settings ({note.name}); choose another --out"
            )
    else:
        write_json(note, settings)
