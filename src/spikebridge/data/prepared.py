"""All that training reads: the split, and its recordings and photos in the cache."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from spikebridge.base.errors import UserError
from spikebridge.base.files import expand_path
from spikebridge.data.calibrate import Calibration, calibrate
from spikebridge.data.datasets import DATASETS
from spikebridge.data.datasets.catalog import Collection, cache_folder, open_collection
from spikebridge.data.feed.cache import ArrayCache
from spikebridge.data.feed.sets import EventSet, PhotoSet, StepSource
from spikebridge.data.feed.source import simulate_source, view_key
from spikebridge.data.frames import frame_events
from spikebridge.data.manifest import Entry, Manifest
from spikebridge.data.photos import fit_photo
from spikebridge.data.reading import read_recording, read_source
from spikebridge.data.settings import DataConfig
from spikebridge.data.simulation.camera import Simulator
from spikebridge.data.splits.draw import adopt_split, make_split
from spikebridge.data.splits.given import given_split

SPLITS = ("train", "validation", "test")


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
    frames.fill(
        partial(_frame_entry, config=config, sensor=collection.sensor),
        _by_content(recordings),
        "framing recordings",
        processes,
    )
    pictures = _photo_cache(config)
    pictures.fill(
        partial(_fit_entry, config=config), _by_content(photos), "reading photos", processes
    )
    simulated, camera, step_source = None, None, None
    if simulated_source:
        camera = config.source_simulator
        if config.source.calibrate:
            camera = calibrated(config, manifest, collection).simulator
    if camera is not None and config.source.in_step:
        step_source = _step_source(config, camera)
    elif camera is not None:
        viewed = [(v, e) for v in range(config.source.views) for e in photos["train"]]
        keys = [view_key(e.sha256, v) for v, e in viewed]
        made = _frame_cache(config, "simulated", camera.settings(), config.source.randomise)
        make = partial(_simulate_entry, config=config, simulator=camera)
        sources = {key: (key, e) for key, (_, e) in zip(keys, viewed, strict=True)}
        made.fill(make, sources, "simulating photos", processes)
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
                step_source if s == "train" else None,
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


def _by_content(splits: dict[str, list[Entry]]) -> dict[str, Entry]:
    return {entry.sha256: entry for entries in splits.values() for entry in entries}


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


def _step_source(config: DataConfig, camera: Simulator) -> StepSource:
    """How kept photos, which have their margin, become what the camera makes of the photos."""
    margin = (1 - (1 - 2 * camera.margin) / (1 - 2 * config.photo_margin)) / 2
    if margin < 0:
        raise UserError(
            f"data.source.in_step: photos are kept with a margin of {config.photo_margin:g} "
            f"(data.photo_margin), the camera's is {camera.margin:g}; set "
            f"data.source.simulator.margin to {config.photo_margin:g}, or in_step to false"
        )
    return StepSource(replace(camera, margin=margin), config.source.randomise, config.extent)


def _labels(entries: Sequence[Entry]) -> np.ndarray:
    return np.array([e.label for e in entries], dtype=np.int64)
