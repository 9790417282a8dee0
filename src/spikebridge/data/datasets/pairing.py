"""Recordings and photos of a data set, brought together."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from spikebridge.data.collection import Item
from spikebridge.data.datasets.dataset import Dataset, Finding, Found, Listing
from spikebridge.data.datasets.walk import near


def compare_classes(dataset: Dataset, recordings: Listing, photos: Listing) -> list[Finding]:
    """What keeps the classes of recordings and photos apart.

    A class that has photos only is an error in a person's own folders; photos of a published set
    have classes more.
    """
    findings = []
    for name, found in recordings.classes.items():
        if not found:
            message = (
                f"{recordings.root}/{name}: class without a recording; add some, or list "
                f"{name!r} in data.exclude"
            )
            findings.append(Finding("error", "missing", "recording", name, message))
        elif not photos.classes.get(name):
            message = (
                f"{photos.root}: class {name!r} has recordings but no photo"
                f"{near(name, photos.classes)}; rename one, add photos or list it in data.exclude"
            )
            findings.append(Finding("error", "missing", "photo", name, message))
    for name in photos.classes.keys() - recordings.classes.keys():
        message = (
            f"{recordings.root}: class {name!r} has photos but no recording"
            f"{near(name, recordings.classes)}"
        )
        if dataset.published:
            message += "; its photos are not used"
            findings.append(Finding("note", "left out", "photo", name, message))
        else:
            message += "; rename one, add recordings or list it in data.exclude"
            findings.append(Finding("error", "missing", "recording", name, message))
    return sorted(findings, key=lambda finding: finding.severity == "note")


def same_photo(recordings: Listing) -> list[Finding]:
    """Recordings that share a photo: one would train and the other could test."""
    findings = []
    first: dict[str, Found] = {}
    for name, found in recordings.classes.items():
        for one in found:
            if one.pair and one.pair in first:
                message = (
                    f"{one.file}: {first[one.pair].file} is a recording of the same photo; keep "
                    "one of them"
                )
                findings.append(Finding("error", "duplicated", "recording", name, message))
            first.setdefault(one.pair, one)
    return findings


def known_pairs(
    dataset: Dataset, recordings: Listing, photos: Listing
) -> tuple[Listing, Listing, bool]:
    """The same files with the pairs that are known, and whether any is.

    In own folders a file name tells the photo only where a photo has it.
    """
    if dataset.paired is not None:
        return recordings, photos, dataset.paired
    common = pairs_of(recordings) & pairs_of(photos)
    if not common:
        return without_pairs(recordings), without_pairs(photos), False
    return without_pairs(recordings, common), photos, True


def pairs_of(listing: Listing) -> set[str]:
    """All pairs of a listing that are known."""
    return {one.pair for found in listing.classes.values() for one in found} - {""}


def without_pairs(listing: Listing, known: Collection[str] = ()) -> Listing:
    """The same files, whose partners are not known but for some pairs."""
    classes = {
        name: [one if one.pair in known else replace(one, pair="") for one in found]
        for name, found in listing.classes.items()
    }
    return replace(listing, classes=classes)


def items_of(listing: Listing, classes: Sequence[str]) -> list[Item]:
    """The files of some classes, labelled by their place."""
    return [
        Item(one.file, label, one.number, one.pair)
        for label, name in enumerate(classes)
        for one in listing.classes[name]
    ]
