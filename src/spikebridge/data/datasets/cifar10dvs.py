"""CIFAR10-DVS (Li et al. 2017) with the photos of CIFAR-10."""

import re
from dataclasses import replace
from pathlib import Path

from spikebridge.base.errors import UserError
from spikebridge.data.datasets.dataset import Dataset, Finding, Found, Listing
from spikebridge.data.datasets.pairing import without_pairs
from spikebridge.data.datasets.walk import (
    counted,
    descend,
    folder_of,
    list_class_folders,
    nothing_found,
)
from spikebridge.data.formats.cifar10 import (
    BATCHES,
    CLASSES,
    check_class_names,
    find_batches,
    read_batch,
)
from spikebridge.data.photos import PHOTO_SUFFIXES
from spikebridge.data.settings import DataConfig

PUBLISHED: dict[str, int] = dict.fromkeys(CLASSES, 1000)
"""Recordings by class."""

_EVENTS_LAYOUT = ("EVENTS/CLASS/cifar10_CLASS_0.aedat   CLASS: airplane to truck",)
_PHOTOS_LAYOUT = (
    "PHOTOS/cifar-10-batches-py/   holds data_batch_1 to 5 and test_batch; PHOTOS may be it",
    "PHOTOS/cifar-10-batches-bin/  holds data_batch_1.bin to test_batch.bin, likewise",
    "PHOTOS/CLASS/PHOTO.png        or .jpg .bmp .webp",
)
_LAST_NUMBER = re.compile(r"(\d+)$")


def list_recordings(config: DataConfig) -> Listing:
    """Recordings by class, in order of their numbers."""
    root = folder_of(config.events, "recording", _EVENTS_LAYOUT)
    root = descend(root, "CIFAR10-DVS", "CIFAR10DVS", "extract")
    listing = list_class_folders(root, "recording", (".aedat",), config.exclude, PUBLISHED)
    classes = {name: sorted(found, key=_by_number) for name, found in listing.classes.items()}
    return without_pairs(replace(listing, classes=classes))


def list_photos(config: DataConfig) -> Listing:
    """Photos in CIFAR-10's batches, training and test alike, or in class folders."""
    root = folder_of(config.photos, "photo", _PHOTOS_LAYOUT)
    batches = find_batches(root)
    if not batches:
        try:
            listing = list_class_folders(root, "photo", PHOTO_SUFFIXES, config.exclude, PUBLISHED)
        except UserError as error:
            raise nothing_found(root, "photo", "cifar-10-batches-py, -bin or CLASS/*") from error
        return without_pairs(listing)
    folder = batches[0].parent
    check_class_names(folder)
    classes: dict[str, list[Found]] = {name: [] for name in CLASSES if name not in config.exclude}
    findings = _missing_batches(folder, batches)
    for file in batches:
        try:
            label_N, _ = read_batch(file)
        except UserError as error:
            findings.append(Finding("error", "unreadable", "photo", "", str(error)))
            continue
        for index, label in enumerate(label_N):
            if (name := CLASSES[label]) in classes:
                classes[name].append(Found(f"{file}#{index}", f"{file.stem}/{index}", ""))
    return Listing(str(folder), classes, findings)


def _missing_batches(folder: Path, batches: list[Path]) -> list[Finding]:
    there = {file.stem for file in batches}
    if not (missing := [name for name in BATCHES if name not in there]):
        return []
    message = (
        f"{folder}: {counted(len(missing), 'batch')} missing ({', '.join(missing)}); unpack "
        "CIFAR-10's archive again, or go on without"
    )
    return [Finding("warning", "missing", "photo", "", message)]


def _by_number(found: Found) -> tuple[int, str]:
    number = _LAST_NUMBER.search(found.number)
    return (int(number[1]) if number else -1, found.number)


CIFAR10_DVS = Dataset(
    name="cifar10-dvs",
    title="CIFAR10-DVS with CIFAR-10",
    published=PUBLISHED,
    classes_note="",
    sensor=(128, 128),
    camera="DVS128, 128x128, before a monitor on which the photo moves",
    licence="CC BY 4.0 (recordings); none stated, for research (photos)",
    source=(
        "recordings: https://figshare.com/articles/CIFAR10-DVS_New/4724671; "
        "photos: https://www.cs.toronto.edu/~kriz/cifar.html"
    ),
    events_layout=_EVENTS_LAYOUT,
    photos_layout=_PHOTOS_LAYOUT,
    pairing=(
        "by class only: which photo a recording shows was not published, so a test recording's "
        "photo may be among the training photos"
    ),
    protocols="clean, few-shot, published; none can hold back the photos of test recordings",
    recipes=("cifar10-dvs",),
    page="docs/data/cifar10-dvs.md",
    paired=False,
    transposed=True,  # against jAER's display, as events-tfds and SpikingJelly read it
    list_recordings=list_recordings,
    list_photos=list_photos,
)
