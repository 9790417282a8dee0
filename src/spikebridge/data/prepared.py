"""Recordings and photos as memory-mapped arrays, made once, kept under a key of their content."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from spikebridge.config import DataConfig
from spikebridge.console import console, each
from spikebridge.data.catalog import Item, PhotoReader, cache_folder, open_collection
from spikebridge.data.events import read_events
from spikebridge.data.frames import frame_events, network_input
from spikebridge.data.photos import fit_photo
from spikebridge.data.simulate import simulate_many
from spikebridge.data.splits import Entry, Manifest, make_split
from spikebridge.errors import UserError
from spikebridge.files import atomic_path, settings_key

_FORMAT = 1


@dataclass(frozen=True)
class EventSet:
    """Framed recordings of one split."""

    frames_NTCHW: np.ndarray
    """Event counts; channel 0 is OFF, 1 is ON."""
    label_N: np.ndarray
    files: tuple[str, ...]
    scale: Literal["recording", "none"]
    """How `network_input` scales the counts, and those of simulated sources."""

    def input(self, rows: np.ndarray | slice) -> np.ndarray:
        """Some recordings as network input x_BTCHW."""
        return network_input(self.frames_NTCHW[rows], self.scale)


@dataclass(frozen=True)
class PhotoSet:
    """Photos of one split, and their simulated recordings where they serve as source."""

    photos_N3HW: np.ndarray
    """RGB, uint8."""
    label_N: np.ndarray
    files: tuple[str, ...]
    simulated_NTCHW: np.ndarray | None = None


@dataclass(frozen=True)
class PreparedData:
    """All that training reads."""

    name: str
    classes: tuple[str, ...]
    sensor: tuple[int, int]
    manifest: Manifest
    events: dict[str, EventSet]
    """By split: train, validation, test."""
    photos: dict[str, PhotoSet]
    """By split: train, validation, test."""


def prepare(config: DataConfig, seed: int, *, simulated_source: bool = False) -> PreparedData:
    """Open, split, frame and cache the data of a configuration.

    Args:
        config: The data settings.
        seed: The run's seed, for the split.
        simulated_source: Also simulate a recording of every training photo.

    Raises:
        UserError: unreadable or missing files, or too few of them.
    """
    collection = open_collection(config)
    manifest = make_split(collection, config.split, seed)
    splits = ("train", "validation", "test")
    return PreparedData(
        collection.name,
        collection.classes,
        collection.sensor,
        manifest,
        {s: _event_set(manifest.select("recording", s), config, collection.sensor) for s in splits},
        {
            s: _photo_set(manifest.select("photo", s), config, simulated_source and s == "train")
            for s in splits
        },
    )


def frame_file(file: str | Path, config: DataConfig, sensor: tuple[int, int]) -> np.ndarray:
    """One recording as network input x_TCHW.

    Raises:
        UserError: the file cannot be read, or holds fewer events than T.
    """
    events = read_events(file, sensor)
    try:
        return frame_events(events, config.time_steps, config.size, config.bins)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def _event_set(entries: list[Entry], config: DataConfig, sensor: tuple[int, int]) -> EventSet:
    settings = [config.time_steps, list(config.size), config.bins, list(sensor)]
    frames_NTCHW = _cached(
        cache_folder(config),
        "frames",
        [_FORMAT, settings, [e.sha256 for e in entries]],
        lambda: each(lambda e: frame_file(e.file, config, sensor), entries, "framing recordings"),
    )
    return EventSet(frames_NTCHW, _labels(entries), tuple(e.file for e in entries), config.scale)


def _photo_set(entries: list[Entry], config: DataConfig, simulated: bool) -> PhotoSet:
    size = photo_size(config)
    hashes = [e.sha256 for e in entries]
    reader = PhotoReader()

    def read(entry: Entry) -> np.ndarray:
        return reader(Item(entry.file, entry.label, entry.number, entry.pair))

    photos_N3HW = _cached(
        cache_folder(config),
        "photos",
        [_FORMAT, list(size), config.photo_margin, hashes],
        lambda: each(
            lambda e: fit_photo(read(e), size, config.photo_margin).transpose(2, 0, 1),
            entries,
            "reading photos",
        ),
    )
    simulated_NTCHW = None
    if simulated:
        simulator = config.simulator
        settings = [config.time_steps, list(config.size), config.bins, simulator.settings()]

        def simulate() -> list[np.ndarray]:
            recordings = simulate_many(
                [read(e) for e in entries],
                simulator,
                [int(sha[:8], 16) for sha in hashes],
                description="simulating photos",
            )
            with closing(recordings):
                return [
                    frame_events(events, config.time_steps, config.size, config.bins)
                    for events in recordings
                ]

        simulated_NTCHW = _cached(
            cache_folder(config), "simulated", [_FORMAT, settings, hashes], simulate
        )
    files = tuple(e.file for e in entries)
    return PhotoSet(photos_N3HW, _labels(entries), files, simulated_NTCHW)


def photo_size(config: DataConfig) -> tuple[int, int]:
    """Height and width at which photos are kept."""
    return (config.photo_size, config.photo_size) if config.photo_size else config.size


def _labels(entries: Sequence[Entry]) -> np.ndarray:
    return np.array([e.label for e in entries], dtype=np.int64)


def _cached(folder: Path, kind: str, key: list, make: Callable[[], list[np.ndarray]]) -> np.ndarray:
    """Array kept as .npy in its smallest unsigned type, memory-mapped; made again if damaged."""
    path = folder / f"{kind}-{settings_key(key)}.npy"
    if (kept := _mapped(path)) is not None:
        return kept
    array = np.stack(make())
    array = array.astype(np.min_scalar_type(int(array.max(initial=0))))
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.save(stream, array)
    return np.load(path, mmap_mode="r")


def _mapped(path: Path) -> np.ndarray | None:
    try:
        return np.load(path, mmap_mode="r")
    except FileNotFoundError:
        return None
    except (ValueError, EOFError):
        console.print(f"{path}: damaged; making it again")
        return None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}); choose a data.cache folder that "
            "can be read and written"
        ) from error
