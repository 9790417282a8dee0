"""Photos without labels: those that nobody has sorted, and those whose label a study hides."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from spikebridge.base.console import console
from spikebridge.base.errors import UserError
from spikebridge.base.files import printable
from spikebridge.data.collection import Collection, PhotoReader
from spikebridge.data.datasets.walk import CROPPED, CROPS, counted
from spikebridge.data.hashes import unreadable
from spikebridge.data.manifest import UNKNOWN, Entry, Manifest, caseless
from spikebridge.data.settings import SplitConfig
from spikebridge.data.splits.draw import lookalike_photos, unlabelled_entries
from spikebridge.data.splits.sessions import session_of

_NAMED = 3


def with_unlabelled(
    manifest: Manifest, collection: Collection, config: SplitConfig, seed: int, cache: Path
) -> Manifest:
    """A split with its photos without labels; the same where there are none to be.

    Args:
        manifest: A split; one that has such photos already keeps them.
        collection: The data, with the photos that nobody has sorted.
        config: How many photos of a class keep their label, and whether likenesses are left out.
        seed: Used when ``config.seed`` is None.
        cache: Folder where hashes are remembered.

    Raises:
        UserError: a class has too few photos, or no unsorted photo is left.
    """
    there = manifest.select("photo", "unlabelled")
    if config.labelled_photos_per_class and all(e.label == UNKNOWN for e in there):
        manifest = _labels_hidden(manifest, config, seed)
    if collection.unlabelled and not manifest.has_strangers:
        strangers = _strangers(manifest, collection, config, cache)
        manifest = replace(manifest, entries=(*manifest.entries, *strangers))
    return manifest


def _labels_hidden(manifest: Manifest, config: SplitConfig, seed: int) -> Manifest:
    """Photos of each class in random order: some keep their label, the others are unlabelled."""
    labelled = config.labelled_photos_per_class
    assert labelled is not None
    selecting = 0
    if labelled > 1 and manifest.protocol != "published":
        selecting = min(labelled - 1, max(1, round(config.photo_validation * labelled)))
    random = np.random.default_rng([0x1ABE1, config.seed_of(seed)])
    by_class: dict[str, list[Entry]] = defaultdict(list)
    for entry in sorted(manifest.teaching_photos, key=lambda e: (e.label, e.number, e.file)):
        by_class[entry.class_name].append(entry)
    split_of = {}
    for name, entries in by_class.items():
        if len(entries) < labelled:
            raise UserError(
                f"class {name!r} has {len(entries)} photos that may be seen, too few for "
                f"data.split.labelled_photos_per_class {labelled}; lower it, or add photos"
            )
        for place, index in enumerate(random.permutation(len(entries))):
            kept = "train" if place < labelled - selecting else "validation"
            split_of[entries[index].file] = kept if place < labelled else "unlabelled"
    return replace(
        manifest,
        entries=tuple(
            replace(e, split=split_of[e.file]) if e.kind == "photo" and e.file in split_of else e
            for e in manifest.entries
        ),
    )


def _strangers(
    manifest: Manifest, collection: Collection, config: SplitConfig, cache: Path
) -> list[Entry]:
    """The photos that nobody has sorted; what shows a held-out recording is held out, too.

    Copies of other photos, and what cannot be read, are left out. A line says how many.
    """
    found, reader = unlabelled_entries(collection, cache), PhotoReader()
    why = unreadable([(e.sha256, lambda e=e: reader(e)) for e in found], cache)
    readable = {e.file: e for e in found if e.sha256 not in why}
    broken = [item.file for item in collection.unlabelled if item.file not in readable]
    photos = [e for e in manifest.entries if e.kind == "photo"]
    held = {e.sha256 for e in photos if e.split in ("test", "held-out")}
    taken = {e.sha256 for e in photos} - held
    pairs = {_name(e.class_name, e.number): e.pair for e in manifest.entries if e.pair}
    scenes = {manifest.scene(e) for e in manifest.held_recordings} - {""}
    strangers = []
    for entry in readable.values():
        if entry.sha256 in taken:
            continue
        taken.add(entry.sha256)
        pair = next((pairs[name] for name in _names(entry.number) if name in pairs), "")
        entry = replace(entry, pair=pair, group=_held_session(entry.number, manifest, config))
        shows_held = entry.sha256 in held or entry.group or manifest.scene(entry) in scenes
        strangers.append(replace(entry, split="held-out" if shows_held else "unlabelled"))
    if config.near_duplicates == "exclude":
        free = [e for e in strangers if e.split == "unlabelled"]
        alike = {e.file for _, e, _ in lookalike_photos(manifest.held_photos, free, cache)}
        strangers = [replace(e, split="held-out") if e.file in alike else e for e in strangers]
    _say(strangers, copies=len(readable) - len(strangers), broken=broken)
    return strangers


def _held_session(number: str, manifest: Manifest, config: SplitConfig) -> str:
    """The held-out session that a path names, or the end of it; empty where there is none."""
    if config.group is None:
        return ""
    told = (session_of(end, config.group) for end in _ends(number))
    return next((session for session in told if session in manifest.held_groups), "")


def _say(strangers: list[Entry], copies: int, broken: list[str]) -> None:
    """Tell what is left out, and of the broken files the first ones' names."""
    left = sum(e.split == "unlabelled" for e in strangers)
    names = ", ".join(printable(file) for file in broken[:_NAMED]) + (
        ", …" if len(broken) > _NAMED else ""
    )
    reasons = [
        (len(strangers) - left, "show what validates or tests"),
        (copies, "are copies of others"),
        (len(broken), f"cannot be read ({names})"),
    ]
    told = ", ".join(f"{number:,} {reason}" for number, reason in reasons if number)
    if not left:
        raise UserError(f"data.unlabelled: no photo is left, for {told}; add others, or unset it")
    if told:
        text = f"data.unlabelled: {counted(left, 'photo')}; left out: {told}"
        console.print(text, soft_wrap=True, markup=False)


def _ends(number: str) -> Iterator[str]:
    """A path and its ends: a/b/c, b/c, c."""
    parts = number.split("/")
    return ("/".join(parts[start:]) for start in range(len(parts)))


def _names(number: str) -> Iterator[tuple[str, str]]:
    """Class and number that a path may end with; then those whose photos the class crops."""
    ends = [end.partition("/")[::2] for end in _ends(number) if "/" in end]
    yield from (_name(*end) for end in ends)
    yield from (
        _name(CROPPED, name) for folder, name in ends if caseless(folder) == caseless(CROPS)
    )


def _name(folder: str, name: str) -> tuple[str, str]:
    return caseless(folder), caseless(name)
