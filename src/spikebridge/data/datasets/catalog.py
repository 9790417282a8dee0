"""The catalog: a configuration's recordings and photos, ready to be split."""

from dataclasses import replace

from spikebridge.base.errors import UserError
from spikebridge.data.collection import Collection, Item, PhotoReader, cache_folder
from spikebridge.data.datasets import DATASETS, Finding, folders
from spikebridge.data.datasets.digits import digits_folder
from spikebridge.data.datasets.pairing import (
    compare_classes,
    items_of,
    known_pairs,
    same_photo,
    without_classes,
)
from spikebridge.data.settings import DataConfig

__all__ = ["Collection", "Item", "PhotoReader", "cache_folder", "open_collection"]


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
    _refuse_errors(
        photos.findings
        + recordings.findings
        + compare_classes(dataset, recordings, photos, config.events_alone)
        + same_photo(recordings)
    )
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
    )


def _refuse_errors(findings: list[Finding]) -> None:
    for finding in findings:
        if finding.severity == "error":
            raise UserError(finding.message)
