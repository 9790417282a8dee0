"""Known data sets: where their recordings and photos are and how they pair."""

import difflib
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from spikebridge.config import DataConfig
from spikebridge.data.events import EVENT_SUFFIXES
from spikebridge.data.photos import list_classes, list_photo_folder, read_idx, read_photo
from spikebridge.data.simulate import simulate_folder
from spikebridge.errors import UserError
from spikebridge.files import atomic_path, file_sha256, settings_key

_SIMULATION_SEED = 0
_NCALTECH_SENSOR = (240, 180)
_NMNIST_SENSOR = (34, 34)


@dataclass(frozen=True)
class Item:
    """One recording or photo."""

    file: str
    """Path; a photo inside an IDX file is PATH#INDEX."""
    label: int
    """Class index."""
    number: str
    """Image number: the file name's stem, or the index in an IDX file."""
    pair: str
    """Equal for a recording and the photo that it was made of; empty where that is unknown."""


@dataclass(frozen=True)
class Collection:
    """Recordings and photos of the same classes."""

    name: str
    classes: tuple[str, ...]
    sensor: tuple[int, int]
    """Sensor width and height."""
    recordings: Sequence[Item]
    photos: Sequence[Item]
    paired: bool
    """Recording and photo can be joined by `Item.pair`."""


def open_collection(config: DataConfig) -> Collection:
    """The recordings and photos that a configuration names.

    Raises:
        UserError: a folder is missing or empty, or a class has no photo or no recording.
    """
    match config.name:
        case "digits":
            return _folders(replace(config, photos=str(_digits_photos(config)), events=None))
        case "nmnist":
            return _nmnist(config)
        case _:
            return _folders(config)


def cache_folder(config: DataConfig) -> Path:
    """Folder of prepared data."""
    if config.cache:
        return Path(config.cache)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "spikebridge"


def _folders(config: DataConfig) -> Collection:
    if config.photos is None:
        raise UserError("data.photos is not set; give the folder that holds PHOTOS/CLASS/*.jpg")
    photos = list_photo_folder(config.photos, config.exclude)
    if config.events is None:
        events = _simulated_twins(config, photos)
        sensor = (config.simulator.width, config.simulator.height)
    else:
        events = Path(config.events)
        sensor = config.sensor or _NCALTECH_SENSOR
    recordings = _list_recordings(events, config.exclude)
    _require_same_classes(recordings, photos, str(events), config.photos)
    classes = tuple(sorted(recordings))
    return Collection(
        name=config.name if config.name == "digits" else Path(config.photos).name,
        classes=classes,
        sensor=sensor,
        recordings=_items(recordings, classes),
        photos=_items(photos, classes),
        paired=True,
    )


def _items(folders: dict[str, list[Path]], classes: tuple[str, ...]) -> list[Item]:
    return [
        Item(str(file), label, file.stem, f"{name}/{file.stem}")
        for label, name in enumerate(classes)
        for file in folders[name]
    ]


def _list_recordings(root: Path, exclude: Sequence[str] = ()) -> dict[str, list[Path]]:
    if not root.is_dir():
        raise UserError(f"{root}: no such folder of recordings; set data.events")
    folders = list_classes(root, EVENT_SUFFIXES, exclude)
    if not any(folders.values()):
        raise UserError(
            f"{root}: no recording found; expected {root}/CLASS/RECORDING with one of "
            f"{', '.join(EVENT_SUFFIXES)}"
        )
    for name, files in folders.items():
        stems: dict[str, Path] = {}
        for file in files:
            if file.stem in stems:
                # One would train and the other could test.
                raise UserError(
                    f"{root / name}: {stems[file.stem].name} and {file.name} are recordings of the "
                    "same photo; keep one of them"
                )
            stems[file.stem] = file
    return folders


def _require_same_classes(
    recordings: dict[str, list[Path]], photos: dict[str, list[Path]], events: str, photo_root: str
) -> None:
    for name, files in recordings.items():
        if not files:
            raise UserError(f"{events}/{name}: class without a recording; add some or exclude it")
        if not photos.get(name):
            near = difflib.get_close_matches(name, photos, 1, 0.6)
            hint = f" (is it {near[0]!r} there?)" if near else ""
            raise UserError(
                f"{photo_root}: class {name!r} has recordings but no photo{hint}; "
                "add photos or list it in data.exclude"
            )


def _simulated_twins(config: DataConfig, photos: dict[str, list[Path]]) -> Path:
    """Recordings simulated of every photo, kept in the cache under a key of all that matters."""
    contents = sorted(
        (name, file.name, file_sha256(file)) for name, files in photos.items() for file in files
    )
    key = settings_key("twins", contents, config.simulator.settings())
    out = cache_folder(config) / f"recordings-{key}"
    root = next(file.parent.parent for files in photos.values() for file in files)
    simulate_folder(root, out, config.simulator, seed=_SIMULATION_SEED, exclude=config.exclude)
    return out


def _digits_photos(config: DataConfig) -> Path:
    """Scikit-learn's 1,797 handwritten digits as PNG files in ImageFolder layout."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    photos_NHW = np.round(digits.images * (255 / 16)).astype(np.uint8)
    key = settings_key("digits", hashlib.sha256(photos_NHW.tobytes()).hexdigest())
    root = cache_folder(config) / f"digits-{key}"
    done = root / "complete"
    if not done.exists():
        for index, (photo_HW, label) in enumerate(zip(photos_NHW, digits.target, strict=True)):
            with atomic_path(root / "photos" / str(label) / f"image_{index:04d}.png") as temporary:
                Image.fromarray(photo_HW).save(temporary, format="PNG")
        done.touch()
    return root / "photos"


def _nmnist(config: DataConfig) -> Collection:
    """N-MNIST: EVENTS/[Train|Test/]DIGIT/NNNNN.bin and MNIST's IDX files.

    Recording Train/NNNNN shows MNIST training photo NNNNN − 1 counted from 0, Test/NNNNN the
    test photo.
    """
    if config.events is None or config.photos is None:
        raise UserError(
            "data.events and data.photos must be set for nmnist: the folder that holds "
            "Train/DIGIT/*.bin and the folder of MNIST's IDX files"
        )
    root = Path(config.events)
    parts = [p for p in (root / "Train", root / "Test") if p.is_dir()] or [root]
    recordings = [
        item
        for part in parts
        for digit, files in _list_recordings(part).items()
        for item in _nmnist_items(part.name, digit, files)
    ]
    photos = _idx_items(Path(config.photos))
    classes = tuple(str(digit) for digit in range(10))
    for label, name in enumerate(classes):
        for items, what in ((recordings, root), (photos, config.photos)):
            if not any(item.label == label for item in items):
                raise UserError(f"{what}: nothing of digit {name}; check the folder")
    return Collection("nmnist", classes, _NMNIST_SENSOR, recordings, photos, paired=True)


def _nmnist_items(part: str, digit: str, files: list[Path]) -> list[Item]:
    if len(digit) != 1 or digit not in "0123456789":
        raise UserError(f"{part}/{digit}: expected folders named 0 to 9; move it elsewhere")
    for file in files:
        if not file.stem.isdecimal():
            raise UserError(f"{file}: expected recordings named by number (00001.bin); rename it")
    source = "t10k" if part.lower() == "test" else "train"
    return [
        Item(str(file), int(digit), file.stem, f"{source}/{int(file.stem) - 1}") for file in files
    ]


def _idx_items(root: Path) -> list[Item]:
    items = []
    for source in ("train", "t10k"):
        images = _first_existing(root, f"{source}-images-idx3-ubyte", f"{source}-images.idx3-ubyte")
        labels = _first_existing(root, f"{source}-labels-idx1-ubyte", f"{source}-labels.idx1-ubyte")
        if images is None or labels is None:
            continue
        label_N, photos_NHW = read_idx(labels), read_idx(images)
        if label_N.ndim != 1 or photos_NHW.ndim != 3:
            raise UserError(f"{images}: no pictures with labels ({labels.name}); fetch both again")
        if len(label_N) != len(photos_NHW):
            raise UserError(
                f"{labels}: holds another number of entries than {images.name}; fetch both again"
            )
        items += [
            Item(f"{images}#{index}", int(label), str(index), f"{source}/{index}")
            for index, label in enumerate(label_N)
        ]
    if not items:
        raise UserError(
            f"{root}: no MNIST photos; expected t10k-images-idx3-ubyte(.gz) with its labels, "
            "or the train- files"
        )
    return items


def _first_existing(root: Path, *names: str) -> Path | None:
    candidates = [root / (name + suffix) for name in names for suffix in ("", ".gz")]
    return next((c for c in candidates if c.is_file()), None)


def _inside_idx(item: Item) -> bool:
    return item.file.rpartition("#")[2].isdecimal()


class PhotoReader:
    """Reads photos of a collection; an IDX file is read once."""

    def __init__(self) -> None:
        self._idx: dict[str, np.ndarray] = {}

    def __call__(self, item: Item) -> np.ndarray:
        """RGB photo_HWC as uint8."""
        if not _inside_idx(item):
            return read_photo(item.file)
        path, _, index = item.file.rpartition("#")
        if path not in self._idx:
            self._idx[path] = read_idx(path)
        return np.repeat(self._idx[path][int(index)][:, :, None], 3, axis=2)

    def sha256(self, item: Item) -> str:
        """Content hash: of the file, or of the pixels inside an IDX file."""
        if _inside_idx(item):
            return hashlib.sha256(self(item)[..., 0].tobytes()).hexdigest()
        return file_sha256(item.file)
