"""What a data set gives: recordings and photos of the same classes, and how to read a photo."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from spikebridge.base.errors import UserError
from spikebridge.base.files import default_cache, expand_path, file_sha256
from spikebridge.data.formats.cifar10 import is_batch, read_batch
from spikebridge.data.photos import read_idx, read_photo
from spikebridge.data.settings import DataConfig


@dataclass(frozen=True)
class Item:
    """One recording or photo."""

    file: str
    """Path; a photo inside a file of many (IDX, CIFAR-10's batches) is PATH#INDEX."""
    label: int
    """Class index; `UNKNOWN` where nobody knows the class."""
    number: str
    """What tells it from the others of its class: the file name's stem, or the index in a file of
    many."""
    pair: str
    """Equal for a recording and the photo that it was made of; empty where that is unknown. A
    recording whose photo is known, but not here, has one that no photo has."""
    group: str = ""
    """Recording session, where ``data.split.group`` names it."""


@dataclass(frozen=True)
class Collection:
    """Recordings and photos of the same classes."""

    name: str
    classes: tuple[str, ...]
    sensor: tuple[int, int] | None
    """Sensor width and height; None where each recording tells its own."""
    recordings: Sequence[Item]
    photos: Sequence[Item]
    paired: bool
    """Recording and photo can be joined by `Item.pair`; where not, all pairs are empty and they
    are joined by class only."""
    unlabelled: Sequence[Item] = ()
    """Photos whose class nobody knows, those of `data.unlabelled`."""


class HasFile(Protocol):
    """An item, what was found on disk, or a line of a manifest."""

    @property
    def file(self) -> str:
        """Path, or PATH#INDEX inside a file of many."""
        ...


class PhotoReader:
    """Reads photos of a collection; a file of many is read once."""

    def __init__(self) -> None:
        self._many: dict[str, np.ndarray] = {}

    def __call__(self, item: HasFile) -> np.ndarray:
        """RGB photo_HWC as uint8.

        Raises:
            UserError: the file is missing or damaged.
        """
        path, index = place_of(item.file)
        if index is None:
            return read_photo(path)
        if path not in self._many:
            self._many[path] = read_batch(path)[1] if is_batch(path) else read_idx(path)
        photos_N = self._many[path]
        if index >= len(photos_N):
            raise UserError(
                f"{path}: holds {len(photos_N)} photos, none numbered {index}; fetch it again"
            )
        photo = photos_N[index]
        return photo if photo.ndim == 3 else np.repeat(photo[:, :, None], 3, axis=2)

    def sha256(self, item: HasFile) -> str:
        """Content hash: of the file, or of the pixels inside a file of many."""
        path, index = place_of(item.file)
        if index is None:
            return file_sha256(path)
        photo_HWC = self(item)
        pixels = photo_HWC if is_batch(path) else photo_HWC[..., 0]
        return hashlib.sha256(pixels.tobytes()).hexdigest()


def place_of(file: str) -> tuple[str, int | None]:
    """Path, and the index inside a file of many; None for a file of its own."""
    path, _, index = file.rpartition("#")
    return (path, int(index)) if index.isdecimal() else (file, None)


def file_from(origin: str | None, file: str) -> str:
    """A path, of a file or a folder, that may be relative to the folder where a run was made.

    Args:
        origin: That folder; None where it is not known.
        file: The path; what follows # is the index in a file of many.
    """
    if origin is None or Path(origin) == Path.cwd():
        return file
    there = os.path.join(origin, file)
    return there if os.path.exists(place_of(there)[0]) else file


def cache_folder(config: DataConfig) -> Path:
    """Folder of prepared data."""
    return expand_path(config.cache) if config.cache else default_cache()
