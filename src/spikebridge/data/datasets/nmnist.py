"""N-MNIST (Orchard et al. 2015) with the photos of MNIST."""

from dataclasses import replace
from pathlib import Path

from spikebridge.base.errors import UserError
from spikebridge.data.datasets.dataset import Dataset, Finding, Found, Listing
from spikebridge.data.datasets.walk import (
    descend,
    folder_of,
    list_class_folders,
    nothing_found,
)
from spikebridge.data.photos import read_idx
from spikebridge.data.settings import DataConfig

_TRAIN = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
_TEST = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)
PUBLISHED = {
    str(digit): sum(counts) for digit, counts in enumerate(zip(_TRAIN, _TEST, strict=True))
}
"""Recordings by class, training and test together."""

_SOURCES = {"train": "train", "test": "t10k"}
_EVENTS_LAYOUT = (
    "EVENTS/Train/DIGIT/00001.bin and EVENTS/Test/DIGIT/00001.bin, or one of the two",
)
_PHOTOS_LAYOUT = (
    "PHOTOS/train-images-idx3-ubyte and train-labels-idx1-ubyte, plain or .gz;",
    "t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte likewise; one of the parts will do",
)


def list_recordings(config: DataConfig) -> Listing:
    """Recordings of both parts, or of the one that is there.

    Recording Train/NNNNN shows MNIST training photo NNNNN − 1 counted from 0, Test/NNNNN the
    test photo; in a folder of another name, which photo a recording shows is unknown.
    """
    root = folder_of(config.events, "recording", _EVENTS_LAYOUT)
    root = descend(root, "N-MNIST", "NMNIST")
    parts = [p for p in (root / "Train", root / "Test") if p.is_dir()] or [root]
    classes: dict[str, list[Found]] = {}
    findings: list[Finding] = []
    for part in parts:
        source = _SOURCES.get(part.name.lower())
        listing = list_class_folders(part, "recording", (".bin",), config.exclude, PUBLISHED)
        findings += listing.findings
        for digit, found in listing.classes.items():
            numbered = [one for one in found if one.number.isdecimal()]
            classes.setdefault(digit, []).extend(
                replace(one, pair=f"{source}/{int(one.number) - 1}" if source else "")
                for one in numbered
            )
            for one in found:
                if not one.number.isdecimal():
                    message = (
                        f"{one.file}: expected recordings named by number (00001.bin); rename it"
                    )
                    findings.append(Finding("error", "layout", "recording", digit, message))
    return Listing(str(root), classes, findings)


def list_photos(config: DataConfig) -> Listing:
    """Photos in MNIST's IDX files, training and test alike.

    Raises:
        UserError: no pair of files, or a damaged one.
    """
    root = folder_of(config.photos, "photo", _PHOTOS_LAYOUT)
    root = descend(root, "MNIST/raw", "raw")
    classes: dict[str, list[Found]] = {}
    for source in ("train", "t10k"):
        images = _first_existing(root, f"{source}-images-idx3-ubyte", f"{source}-images.idx3-ubyte")
        labels = _first_existing(root, f"{source}-labels-idx1-ubyte", f"{source}-labels.idx1-ubyte")
        if images is None or labels is None:
            continue
        label_N, photos_NHW = read_idx(labels), read_idx(images)
        if label_N.ndim != 1 or photos_NHW.ndim != 3 or label_N.max(initial=0) > 9:
            raise UserError(f"{images}: no pictures with labels ({labels.name}); fetch both again")
        if len(label_N) != len(photos_NHW):
            raise UserError(
                f"{labels}: holds another number of entries than {images.name}; fetch both again"
            )
        for index, label in enumerate(label_N):
            pair = f"{source}/{index}"
            classes.setdefault(str(label), []).append(Found(f"{images}#{index}", str(index), pair))
    if not classes:
        expected = "t10k-images-idx3-ubyte(.gz) with its labels, or the train- files"
        raise nothing_found(root, "photo", expected)
    kept = {name: found for name, found in sorted(classes.items()) if name not in config.exclude}
    return Listing(str(root), kept)


def _first_existing(root: Path, *names: str) -> Path | None:
    candidates = [root / (name + suffix) for name in names for suffix in ("", ".gz")]
    return next((c for c in candidates if c.is_file()), None)


N_MNIST = Dataset(
    name="nmnist",
    title="N-MNIST with MNIST",
    published=PUBLISHED,
    classes_note="60,000 recordings to train and 10,000 to test; both are split here",
    sensor=(34, 34),
    camera="ATIS, 34x34, moved in three saccades before a monitor",
    licence="CC BY-SA 4.0 (recordings), CC BY-SA 3.0 (photos)",
    source=(
        "recordings: https://www.garrickorchard.com/datasets/n-mnist (Mendeley Data, "
        "doi 10.17632/468j46mzdv); photos: MNIST's four IDX files, of any mirror"
    ),
    events_layout=_EVENTS_LAYOUT,
    photos_layout=_PHOTOS_LAYOUT,
    pairing="Train/NNNNN.bin shows MNIST's training photo NNNNN - 1, Test/NNNNN.bin its test photo",
    protocols="clean, few-shot",
    recipes=("nmnist",),
    page="docs/data/nmnist.md",
    paired=True,
    list_recordings=list_recordings,
    list_photos=list_photos,
)
