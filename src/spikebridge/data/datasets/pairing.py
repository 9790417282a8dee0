"""Recordings and photos of a data set, brought together."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from spikebridge.data.collection import Item
from spikebridge.data.datasets.dataset import Dataset, Finding, Found, Listing
from spikebridge.data.datasets.walk import composed, counted, near


def compare_classes(
    dataset: Dataset, recordings: Listing, photos: Listing, events_alone: Iterable[str]
) -> list[Finding]:
    """What keeps the classes of recordings and photos apart.

    A class that has photos only is an error in a person's own folders; photos of a published set
    have classes more. One that has recordings only is an error but for ``events_alone``.
    """
    alone = {composed(name) for name in events_alone}
    findings = _compare_alone(recordings, photos, alone)
    for name, found in recordings.classes.items():
        if not found:
            message = (
                f"{recordings.root}/{name}: class without a recording; add some, or list "
                f"{name!r} in data.exclude"
            )
            findings.append(Finding("error", "missing", "recording", name, message))
        elif not photos.classes.get(name) and name not in alone:
            message = (
                f"{photos.root}: class {name!r} has recordings but no photo"
                f"{near(name, photos.classes)}; rename one, add photos or list it in data.exclude, "
                "or in data.events_alone to train it without photos"
            )
            findings.append(Finding("error", "missing", "photo", name, message))
    for name in sorted(photos.classes.keys() - recordings.classes.keys()):
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


def _compare_alone(recordings: Listing, photos: Listing, alone: set[str]) -> list[Finding]:
    """What is to be said of the classes that train on events alone."""
    findings = []
    for name in sorted(alone - recordings.classes.keys()):
        message = (
            f"{recordings.root}: no class {name!r}, which data.events_alone names"
            f"{near(name, recordings.classes)}; mend the name"
        )
        findings.append(Finding("error", "missing", "recording", name, message))
    if alone and alone >= recordings.classes.keys():
        message = (
            f"{recordings.root}: data.events_alone names every class; leave out one that has photos"
        )
        findings.append(Finding("error", "missing", "photo", "", message))
    for name in sorted(alone & photos.classes.keys()):
        if found := photos.classes[name]:
            message = (
                f"{photos.root}: class {name!r} trains on events alone; "
                f"{counted(len(found), 'photo')} not used"
            )
            findings.append(Finding("note", "left out", "photo", name, message))
    return findings


def without_classes(listing: Listing, names: Iterable[str]) -> Listing:
    """The files of the other classes."""
    left_out = {composed(name) for name in names}
    classes = {name: found for name, found in listing.classes.items() if name not in left_out}
    return replace(listing, classes=classes)


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
        for one in listing.classes.get(name, ())
    ]
