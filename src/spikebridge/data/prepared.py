"""All that training reads: the split, and its recordings and photos in the cache."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from spikebridge.base.errors import UserError
from spikebridge.base.files import expand_path
from spikebridge.data.calibrate import calibrate
from spikebridge.data.datasets import DATASETS
from spikebridge.data.datasets.catalog import (
    Collection,
    cache_folder,
    open_collection,
    read_listed_photo,
    read_recording,
)
from spikebridge.data.feed.cache import ArrayCache, CachedArrays
from spikebridge.data.feed.sets import EventSet, PhotoSet, StepSource
from spikebridge.data.feed.source import simulate_source, view_key
from spikebridge.data.frames import frame_events
from spikebridge.data.manifest import UNKNOWN, Entry, Manifest
from spikebridge.data.photos import fit_photo
from spikebridge.data.settings import DataConfig
from spikebridge.data.simulation.camera import Simulator
from spikebridge.data.splits.draw import adopt_split, make_split, untrained_classes
from spikebridge.data.splits.given import given_split
from spikebridge.data.splits.unlabelled import with_unlabelled

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
    """By split: train, validation, test; protocol `published` validates on its test recordings."""
    photos: dict[str, PhotoSet]
    """By split: train, the student's sources; validation, test."""
    unlabelled: PhotoSet | None = None
    """Photos without labels, where there are any; label_N has the class that a study hides, or
    `UNKNOWN`."""
    source_camera: Simulator | None = None
    """The camera of the simulated sources, where there are any."""

    @property
    def labelled(self) -> "PreparedData":
        """What a teacher is shown: the same without the student's own sources.

        These are the photos that nobody has sorted, and of protocol `leaked` the leaked ones.
        """
        own = {e.file for e in self.manifest.select("photo", "source")}
        train = self.photos["train"]
        if own:
            train = train.only(np.array([i for i, f in enumerate(train.files) if f not in own]))
        return replace(
            self,
            manifest=self.manifest.without_strangers,
            photos=self.photos | {"train": train},
            unlabelled=None,
        )


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
    sources = {"train": manifest.sources, "unlabelled": manifest.select("photo", "unlabelled")}
    counts = _framed(config, collection.sensor, recordings, processes)
    pixels = fitted_photos(config, photos | sources, processes)
    camera, simulated, step_source = None, dict.fromkeys(sources), None
    if simulated_source:
        camera = config.source_simulator
        if config.source.calibrate:
            camera = calibrate(config, manifest, collection.sensor).simulator
        if config.source.in_step:
            step_source = make_step_source(config, camera)
        else:
            simulated = _simulated(config, camera, sources, processes)

    def source_set(split: str) -> PhotoSet:
        told = _labels_and_files(sources[split])
        return PhotoSet(pixels[split], *told, simulated[split], step_source)

    return PreparedData(
        collection.name,
        collection.classes,
        collection.sensor,
        manifest,
        {s: EventSet(counts[s], *_labels_and_files(recordings[s]), config.scale) for s in SPLITS},
        {
            s: source_set(s) if s == "train" else PhotoSet(pixels[s], *_labels_and_files(photos[s]))
            for s in SPLITS
        },
        source_set("unlabelled") if sources["unlabelled"] else None,
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
    if adopted := manifest is not None:
        manifest = adopt_split(manifest, collection, cache)
    elif given is not None:
        manifest = given_split(expand_path(given), collection, config.split, seed, cache)
    else:
        manifest = make_split(collection, config.split, seed, cache)
    if not adopted:
        manifest = with_unlabelled(manifest, collection, config.split, seed, cache)
    for name in untrained_classes("photo", manifest, collection):
        raise UserError(
            f"class {name!r}: no photo of split train; name some in the manifest, or the class in "
            "data.events_alone"
        )
    return collection, manifest


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


def _framed(
    config: DataConfig,
    sensor: tuple[int, int] | None,
    recordings: dict[str, list[Entry]],
    processes: int | None,
) -> dict[str, CachedArrays]:
    """The recordings of each split as event counts x_TCHW."""
    transposed = DATASETS[config.name].transposed
    cache = _count_cache(config, "frames", sensor and list(sensor), transposed)
    frame = partial(frame_file, config=config, sensor=sensor)
    files = {e.sha256: e.file for entries in recordings.values() for e in entries}
    cache.fill(frame, files, "framing recordings", processes)
    return {s: cache.select([e.sha256 for e in entries]) for s, entries in recordings.items()}


def fitted_photos(
    config: DataConfig, photos: dict[str, list[Entry]], processes: int | None
) -> dict[str, CachedArrays]:
    """The photos of each split, photo_3HW, at the size at which they are kept."""
    size = photo_size(config)
    settings = [list(size), config.photo_margin]
    cache = ArrayCache(cache_folder(config), "photos", settings, (3, *size))
    listed = {e.sha256: e for entries in photos.values() for e in entries}
    cache.fill(partial(_fit, config=config), listed, "reading photos", processes)
    return {s: cache.select([e.sha256 for e in entries]) for s, entries in photos.items()}


def _fit(photo: Entry, config: DataConfig) -> np.ndarray:
    photo_HWC = fit_photo(read_listed_photo(photo), photo_size(config), config.photo_margin)
    return photo_HWC.transpose(2, 0, 1)


def _simulated(
    config: DataConfig, camera: Simulator, sources: dict[str, list[Entry]], processes: int | None
) -> dict[str, CachedArrays]:
    """Simulated recordings of photos as event counts x_TCHW: all of one view, then the next."""
    views = {
        s: [
            (view_key(e.sha256, view), (e, view))
            for view in range(config.source.views)
            for e in some
        ]
        for s, some in sources.items()
    }
    cache = _count_cache(config, "simulated", camera.settings(), config.source.randomise)
    simulate = partial(_simulate, config=config, camera=camera)
    items = {key: of for some in views.values() for key, of in some}
    cache.fill(simulate, items, "simulating photos", processes)
    return {s: cache.select([key for key, _ in some]) for s, some in views.items()}


def _simulate(of: tuple[Entry, int], config: DataConfig, camera: Simulator) -> np.ndarray:
    photo, view = of
    try:
        key = view_key(photo.sha256, view)
        return simulate_source(read_listed_photo(photo), config, camera, key)
    except UserError as error:
        if photo.label == UNKNOWN:  # A folder that nobody has sorted may hold empty pictures.
            return np.zeros((config.time_steps, 2, *config.size), np.uint8)
        raise UserError(f"{photo.file}: {error}") from error


def make_step_source(config: DataConfig, camera: Simulator) -> StepSource:
    """How kept photos, which have their margin, become what the camera makes of the photos."""
    margin = (1 - (1 - 2 * camera.margin) / (1 - 2 * config.photo_margin)) / 2
    if margin < 0:
        raise UserError(
            f"data.source.in_step: photos are kept with a margin of {config.photo_margin:g} "
            f"(data.photo_margin), the camera's is {camera.margin:g}; set "
            f"data.source.simulator.margin to {config.photo_margin:g}, or in_step to false"
        )
    return StepSource(replace(camera, margin=margin), config.source.randomise, config.extent)


def _count_cache(config: DataConfig, kind: str, *settings: Any) -> ArrayCache:
    """Event counts of one kind of recordings, and what they depend on beside the framing."""
    framing = [config.time_steps, list(config.size), config.bins, config.extent]
    shape = (config.time_steps, 2, *config.size)
    return ArrayCache(cache_folder(config), kind, [*framing, *settings], shape)


def _labels_and_files(entries: list[Entry]) -> tuple[np.ndarray, tuple[str, ...]]:
    return np.array([e.label for e in entries], np.int64), tuple(e.file for e in entries)
