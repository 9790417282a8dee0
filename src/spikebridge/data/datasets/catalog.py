"""The catalog: a configuration's recordings and photos, ready to be split and read."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from spikebridge.base.errors import UserError
from spikebridge.base.files import expand_path
from spikebridge.data.collection import Collection, HasFile, Item, PhotoReader, cache_folder
from spikebridge.data.datasets import DATASETS, folders
from spikebridge.data.datasets.digits import digits_folder
from spikebridge.data.datasets.pairing import (
    compare_classes,
    items_of,
    known_pairs,
    same_photo,
    without_classes,
)
from spikebridge.data.datasets.walk import list_unlabelled
from spikebridge.data.events import Events, read_events
from spikebridge.data.manifest import UNKNOWN
from spikebridge.data.settings import DataConfig

__all__ = ["Collection", "Item", "PhotoReader", "cache_folder", "open_collection",
    "read_listed_photo", "read_recording"]  # fmt: skip


def open_collection(config: DataConfig) -> Collection:
    """The recordings and photos that a configuration names.

    Raises:
        UserError: a folder is missing or empty, a class has no recording, or no photo though it is
            not to train on events alone, or a file is not where the data set's layout puts it.
    """
    name = folders.name_of(config) if config.name == "folders" else config.name
    if name == "digits":
        photos = str(digits_folder(config))
        config = replace(config, name="folders", photos=photos, events=None)
    if config.name == "folders" and config.events is None:
        config = folders.with_simulated_events(config)
    dataset = DATASETS[config.name]
    photos = dataset.list_photos(config)
    recordings = dataset.list_recordings(config)
    for finding in (
        *photos.findings,
        *recordings.findings,
        *compare_classes(dataset, recordings, photos, config.events_alone),
        *same_photo(recordings),
    ):
        if finding.severity == "error":
            raise UserError(finding.message)
    photos = without_classes(photos, config.events_alone)
    sensor = config.sensor or dataset.sensor
    if config.name == "folders":
        sensor = folders.sensor_of(config, recordings)
    recordings, photos, paired = known_pairs(dataset, recordings, photos)
    classes = tuple(sorted(recordings.classes))
    return Collection(
        name=name,
        classes=classes,
        sensor=sensor,
        recordings=items_of(recordings, classes),
        photos=items_of(photos, classes),
        paired=paired,
        unlabelled=() if config.unlabelled is None else _unlabelled(config.unlabelled),
    )


def _unlabelled(config_value: str) -> list[Item]:
    """The photos of ``data.unlabelled``, each named by its path below the folder."""
    root = expand_path(config_value)
    return [
        Item(str(file), UNKNOWN, file.relative_to(root).with_suffix("").as_posix(), "")
        for file in list_unlabelled(config_value)[0]
    ]


def read_recording(file: str | Path, config: DataConfig, sensor: tuple[int, int] | None) -> Events:
    """A recording, upright.

    Raises:
        UserError: the file cannot be read, or nothing tells the sensor where all of it is framed.
    """
    events = read_events(file, sensor)
    if not events.sensor_told and config.name == "folders" and config.extent == "sensor":
        raise UserError(
            f"{file}: does not tell the camera's width and height, and data.sensor is not set; "
            "take a file that tells them, or train with data.sensor [346, 260], say"
        )
    return events.transposed() if DATASETS[config.name].transposed else events


_reader = PhotoReader()


def read_listed_photo(photo: HasFile) -> np.ndarray:
    """A photo of a manifest, also one inside a file of many, as photo_HWC: uint8 RGB."""
    return _reader(photo)
