"""Recordings and photos read as a configuration names them."""

from pathlib import Path

import numpy as np

from spikebridge.data.collection import HasFile, PhotoReader
from spikebridge.data.datasets import DATASETS
from spikebridge.data.events import Events, read_events
from spikebridge.data.settings import DataConfig

_reader = PhotoReader()


def read_recording(file: str | Path, config: DataConfig, sensor: tuple[int, int] | None) -> Events:
    """A recording, upright.

    Raises:
        UserError: the file cannot be read.
    """
    events = read_events(file, sensor)
    return events.transposed() if DATASETS[config.name].transposed else events


def read_listed_photo(photo: HasFile) -> np.ndarray:
    """A photo of a manifest, also one inside a file of many, as photo_HWC: uint8 RGB."""
    return _reader(photo)
