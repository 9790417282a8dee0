"""All that training reads: the split, and its recordings and photos in the cache."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from spikebridge.base.errors import UserError
from spikebridge.base.files import expand_path
from spikebridge.data.calibrate import Calibration, calibrate
from spikebridge.data.datasets import DATASETS
from spikebridge.data.datasets.catalog import Collection, cache_folder, open_collection
from spikebridge.data.feed.cache import ArrayCache, CachedArrays, Job
from spikebridge.data.frames import frame_events, network_input
from spikebridge.data.photos import fit_photo
from spikebridge.data.reading import read_recording, read_source
from spikebridge.data.settings import DataConfig
from spikebridge.data.simulation.camera import Simulator
from spikebridge.data.simulation.source import simulate_source, view_key
from spikebridge.data.splits.draw import adopt_split, make_split
from spikebridge.data.splits.given import given_split
from spikebridge.data.splits.manifest import Entry, Manifest

SPLITS = ("train", "validation", "test")


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
class PhotoSet:
    """Photos of one split, and their simulated recordings where they serve as source."""

    photos_N3HW: CachedArrays | np.ndarray
    """RGB, uint8."""
    label_N: np.ndarray
    files: tuple[str, ...]
    simulated_NTCHW: CachedArrays | np.ndarray | None = None
    """Row v·P + p is view v of photo p, of P photos."""

    @property
    def views(self) -> int:
        """Simulated recordings per photo."""
        return 0 if self.simulated_NTCHW is None else len(self.simulated_NTCHW) // len(self.files)


@dataclass(frozen=True)
class PreparedData:
    """All that training reads."""

    name: str
    classes: tuple[str, ...]
    sensor: tuple[int, int] | None
    """Sensor width and height; None where each file tells it."""
    manifest: Manifest
    events: dict[str, EventSet]
    """By split: train, validation, test; protocol `kt` validates on its test recordings."""
    photos: dict[str, PhotoSet]
    """By split: train, validation, test."""
    source: Simulator | None = None
    """The camera of the simulated sources, where there are any."""


def prepare(
    config: DataConfig,
    seed: int,
    *,
    simulated_source: bool = False,
    manifest: Manifest | None = None,
    processes: int | None = None,
) -> PreparedData:
    """Open, split, frame and cache the data of a configuration.

    Args:
        config: The data settings.
        seed: The run's seed, for the split.
        simulated_source: Also simulate recordings of every training photo, as `config.source` says.
        manifest: A split to take instead of drawing one or reading ``config.split.manifest``.
        processes: Processes that prepare; None takes as many as there are cores.

    Raises:
        UserError: unreadable or missing files, too few of them, or files that differ from those in
            the manifest.
    """
    collection, manifest = open_split(config, seed, manifest)
    recordings = {s: manifest.used("recording", s) for s in SPLITS}
    photos = {s: manifest.used("photo", s) for s in SPLITS}
    sensor = list(collection.sensor) if collection.sensor else None
    frames = _frame_cache(config, "frames", sensor, DATASETS[config.name].transposed)
    frames.ensure(
        _jobs(partial(_frame_entry, config=config, sensor=collection.sensor), recordings.values()),
        "framing recordings",
        processes,
    )
    pictures = _photo_cache(config)
    pictures.ensure(
        _jobs(partial(_fit_entry, config=config), photos.values()), "reading photos", processes
    )
    simulated, camera = None, None
    if simulated_source:
        camera = config.source_simulator
        if config.source.calibrate:
            camera = calibrated(config, manifest, collection).simulator
        keys = [view_key(e.sha256, v) for v in range(config.source.views) for e in photos["train"]]
        made = _frame_cache(config, "simulated", camera.settings(), config.source.randomise)
        make = partial(_simulate_entry, config=config, simulator=camera)
        sources = zip(keys, photos["train"] * config.source.views, strict=True)
        jobs = [Job(key, make, (key, entry)) for key, entry in sources]
        made.ensure(jobs, "simulating photos", processes)
        simulated = made.select(keys)
    return PreparedData(
        collection.name,
        collection.classes,
        collection.sensor,
        manifest,
        {
            s: EventSet(
                frames.select([e.sha256 for e in entries]),
                _labels(entries),
                tuple(e.file for e in entries),
                config.scale,
            )
            for s, entries in recordings.items()
        },
        {
            s: PhotoSet(
                pictures.select([e.sha256 for e in entries]),
                _labels(entries),
                tuple(e.file for e in entries),
                simulated if s == "train" else None,
            )
            for s, entries in photos.items()
        },
        camera,
    )


def open_split(
    config: DataConfig, seed: int, manifest: Manifest | None = None
) -> tuple[Collection, Manifest]:
    """The data of a configuration, and its split.

    Args:
        config: The data settings.
        seed: The run's seed, for the split.
        manifest: A split to take instead of drawing one or reading ``config.split.manifest``.

    Raises:
        UserError: missing or damaged files, too few of them, or files that differ from those in the
            manifest.
    """
    collection = open_collection(config)
    cache, given = cache_folder(config), config.split.manifest
    if manifest is not None:
        manifest = adopt_split(manifest, collection, cache)
    elif given is not None:
        manifest = given_split(expand_path(given), collection, config.split, seed, cache)
    else:
        manifest = make_split(collection, config.split, seed, cache)
    _require_photos(manifest, collection)
    return collection, manifest


def _require_photos(manifest: Manifest, collection: Collection) -> None:
    """Refuse a class that has photos, none of which trains."""
    labels = {e.label for e in manifest.select("photo", "train")}
    for item in collection.photos:
        if item.label not in labels:
            raise UserError(
                f"class {collection.classes[item.label]!r}: no photo of split train; name some in "
                "the manifest, or the class in data.events_alone"
            )


def calibrated(config: DataConfig, manifest: Manifest, collection: Collection) -> Calibration:
    """The camera that sees the training photos as the training recordings are."""
    recordings, photos = (manifest.used(kind, "train") for kind in ("recording", "photo"))
    return calibrate(config, recordings, photos, collection.sensor)


def frame_file(file: str | Path, config: DataConfig, sensor: tuple[int, int] | None) -> np.ndarray:
    """One recording as event counts x_TCHW.

    Raises:
        UserError: the file cannot be read, or holds fewer events than T.
    """
    events = read_recording(file, config, sensor)
    try:
        return frame_events(events, config.time_steps, config.size, config.bins, config.extent)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def photo_size(config: DataConfig) -> tuple[int, int]:
    """Height and width at which photos are kept."""
    return (config.photo_size, config.photo_size) if config.photo_size else config.size


def _jobs(make: partial, splits) -> list[Job]:
    return [Job(entry.sha256, make, entry) for entries in splits for entry in entries]


def _frame_cache(config: DataConfig, kind: str, *source: Any) -> ArrayCache:
    """Event counts of one kind of recordings, which ``source`` tells from others."""
    settings = [config.time_steps, list(config.size), config.bins, config.extent, *source]
    shape = (config.time_steps, 2, *config.size)
    return ArrayCache(cache_folder(config), kind, settings, shape)


def _photo_cache(config: DataConfig) -> ArrayCache:
    size = photo_size(config)
    settings = [list(size), config.photo_margin]
    return ArrayCache(cache_folder(config), "photos", settings, (3, *size))


def _frame_entry(entry: Entry, config: DataConfig, sensor: tuple[int, int] | None) -> np.ndarray:
    return frame_file(entry.file, config, sensor)


def _fit_entry(entry: Entry, config: DataConfig) -> np.ndarray:
    return fit_photo(read_source(entry), photo_size(config), config.photo_margin).transpose(2, 0, 1)


def _simulate_entry(
    source: tuple[str, Entry], config: DataConfig, simulator: Simulator
) -> np.ndarray:
    key, entry = source
    try:
        return simulate_source(read_source(entry), config, simulator, key)
    except UserError as error:
        raise UserError(f"{entry.file}: {error}") from error


def _labels(entries: Sequence[Entry]) -> np.ndarray:
    return np.array([e.label for e in entries], dtype=np.int64)
