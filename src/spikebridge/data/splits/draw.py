"""Who trains, validates and tests, joined by class and image number, under four protocols."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from spikebridge.base.errors import UserError
from spikebridge.base.files import is_named
from spikebridge.data.collection import Collection, Item, PhotoReader, place_of
from spikebridge.data.hashes import SMALL_LOOK, file_hashes, look_hashes, lookalikes
from spikebridge.data.manifest import UNKNOWN, Entry, Manifest, caseless, join_copies
from spikebridge.data.settings import SplitConfig
from spikebridge.data.splits.sessions import split_sessions, with_sessions

_PUBLISHED_TRAIN = 0.9

_HELD = {"validation": "held-out", "test": "test"}
"""Splits of recordings that hold out their photos, and where these go."""

_FOLDERS = ("data.events and data.photos to the folders", "data.unlabelled to the folder")

_OfOne = TypeVar("_OfOne", Item, Entry)
_Drawn = list[tuple[Item, str]]


def make_split(collection: Collection, config: SplitConfig, seed: int, cache: Path) -> Manifest:
    """Split per class: validation and test first, then k labelled, then the legal photos.

    Where ``config.group`` names sessions, none is in two splits, and no photo of one that validates
    or tests is seen.

    A photo whose recording validates or tests is never a source nor seen in the teacher's
    training; nor is its copy, byte for byte, nor (``config.near_duplicates``) its likeness, nor
    trains the recording that was made of one. Where photos are paired with no recording here,
    `photo_test` of them test the teacher.

    Protocol `published` does nothing of that. It cuts each class at 90 % by position, as KT's
    public code (AAAI 2024) does: recordings in random order, for nothing tells theirs, and photos
    in that of their numbers, with the first beyond the cut (its upper bound is inclusive). What is
    left tests, and selects too.

    Protocol `leaked` makes photos of test recordings sources, as ``config.leak`` says.

    Args:
        collection: Recordings and photos.
        config: Protocol, numbers and shares.
        seed: The run's; used when ``config.seed`` is None, and by protocol `leaked`.
        cache: Folder where hashes are remembered.

    Raises:
        UserError: a class has too few recordings, sessions or photos.
    """
    collection = _copies_joined(collection, cache)
    if config.group is not None:
        collection = with_sessions(collection, config.group)
    random = np.random.default_rng([0x5B11, config.seed_of(seed)])
    sessions = None if config.group is None else split_sessions(collection, config, random)
    held = {i.group for some in sessions or () for i, split in some if split in _HELD}
    recordings: _Drawn = []
    photos: _Drawn = []
    for label, name in enumerate(collection.classes):
        own = [item for item in collection.recordings if item.label == label]
        own_photos = [item for item in collection.photos if item.label == label]
        if config.name == "published":
            order = [own[i] for i in random.permutation(len(own))]
            recordings += _first_train(order, name, "recordings", beyond=0)
            if own_photos:  # Else the class trains on events alone.
                order = sorted(own_photos, key=lambda item: _numerical(item.number))
                photos += _first_train(order, name, "photos", beyond=1)
        else:
            drawn = sessions[label] if sessions else _split_recordings(own, name, config, random)
            recordings += drawn
            photos += split_photos(own_photos, name, drawn, held, config, random)
    entries = _entries(collection, recordings, photos, cache)
    if config.name != "published":
        entries = without_copies(entries)
        if config.near_duplicates == "exclude":
            entries = without_lookalikes(entries, cache)
    if config.name == "leaked":
        swapped = seed % 2 == 1
        entries = _with_leaks(entries, config, config.seed_of(seed), swapped, cache)
    manifest = Manifest(entries, config.name)
    for kind, what in (("recording", "labelled recording"), ("photo", "training photo")):
        for name in untrained_classes(kind, manifest, collection):
            raise UserError(
                f"class {name!r}: every {what} is a copy, or the likeness, of a held-out one; add "
                "others, exclude the class, or set data.split.near_duplicates keep"
            )
    return manifest


def adopt_split(manifest: Manifest, collection: Collection, cache: Path) -> Manifest:
    """A manifest's split of files that may have been moved, checked by their content.

    Raises:
        UserError: a file of it is missing here, or is another one; or the classes differ.
    """
    named: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
    here_now = [*all_entries(collection, cache)]
    if any(entry.label == UNKNOWN for entry in manifest.entries):
        here_now += unlabelled_entries(collection, cache)
    for here in here_now:
        named[here.kind, here.class_name, caseless(here.number)].append(here)
    return replace(manifest, entries=tuple(_found(entry, named) for entry in manifest.entries))


def _found(entry: Entry, named: dict[tuple[str, str, str], list[Entry]]) -> Entry:
    """A manifest's entry as it is here; each file is taken once."""
    there = named[entry.kind, entry.class_name, caseless(entry.number)]
    # Where several have the number (N-MNIST's parts, endings, letter case), the pair tells or
    # else the content.
    paired = [here for here in there if caseless(here.pair) == caseless(entry.pair)] or there
    if not paired:
        raise UserError(
            f"{entry.kind} {entry.class_name}/{entry.number} of the manifest is not among the "
            f"data; set {_FOLDERS[entry.label == UNKNOWN]} that it was made of"
        )
    here = next((here for here in paired if here.sha256 == entry.sha256), None)
    if here is None:
        raise UserError(
            f"{paired[0].file}: not the file that the manifest names (its content differs); "
            "restore it, or train on the data as they are now"
        )
    there.remove(here)
    pair = here.pair or _stated_pair(entry)
    return replace(here, split=entry.split, pair=pair, group=entry.group)


def _stated_pair(entry: Entry) -> str:
    """A pair that a person wrote, not the file's own name, which older versions wrote."""
    own_name = f"{entry.class_name}/{entry.number}"
    return "" if caseless(entry.pair) == caseless(own_name) else entry.pair


def all_entries(collection: Collection, cache: Path) -> tuple[Entry, ...]:
    """All files with their pairs and contents, in no split."""
    collection = _copies_joined(collection, cache)
    recordings = [(item, "") for item in collection.recordings]
    photos = [(item, "") for item in collection.photos]
    return _entries(collection, recordings, photos, cache)


def unlabelled_entries(collection: Collection, cache: Path) -> tuple[Entry, ...]:
    """The photos that nobody has sorted, in no split.

    Files that may not be read, or whose names no manifest can hold, are left out.
    """
    there = [
        (item, "")
        for item in collection.unlabelled
        if os.access(item.file, os.R_OK) and is_named(item.file)
    ]
    return _entries(collection, [], there, cache)


def _copies_joined(collection: Collection, cache: Path) -> Collection:
    """The same files; recordings with the same bytes have one pair, and so have their photos."""
    if not collection.paired:
        return collection
    recordings = collection.recordings
    hashes = file_hashes([item.file for item in recordings], cache)
    of_content, stands_for = join_copies(
        (item.pair, sha) for item, sha in zip(recordings, hashes, strict=True)
    )
    return replace(
        collection,
        recordings=[
            replace(item, pair=of_content.get(sha, ""))
            for item, sha in zip(recordings, hashes, strict=True)
        ],
        photos=[
            replace(item, pair=stands_for.get(item.pair, item.pair)) for item in collection.photos
        ],
    )


def _entries(
    collection: Collection, recordings: _Drawn, photos: _Drawn, cache: Path
) -> tuple[Entry, ...]:
    reader = PhotoReader()
    files = [item.file for item, _ in recordings]
    files += [item.file for item, _ in photos if place_of(item.file)[1] is None]
    hashes = dict(zip(files, file_hashes(files, cache), strict=True))
    return tuple(
        Entry(
            kind=kind,
            file=item.file,
            class_name="" if item.label == UNKNOWN else collection.classes[item.label],
            label=item.label,
            number=item.number,
            pair=item.pair,
            split=split,
            sha256=hashes.get(item.file) or reader.sha256(item),
            group=item.group,
        )
        for kind, items in (("recording", recordings), ("photo", photos))
        for item, split in items
    )


def without_copies(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Leave out of training what is, byte for byte, held out under another name.

    So are photos whose recording is held out in another class, and recordings made of a copy of a
    held-out recording's photo.
    """
    scenes = {e.pair for e in Manifest(entries).held_recordings} - {""}
    held = {
        e.sha256
        for e in entries
        if e.split in ("test", "held-out") or (e.kind, e.split) == ("recording", "validation")
    }
    tested = {e.sha256 for e in entries if (e.kind, e.split) == ("recording", "test")}

    def place(entry: Entry) -> str:
        if entry.kind == "photo":
            seen = entry.split in ("train", "validation", "unlabelled")
            copied = entry.sha256 in held or entry.pair in scenes
            return "held-out" if seen and copied else entry.split
        copied = entry.split == "validation" and entry.sha256 in tested
        return "unused" if copied else entry.split

    return _with_fit_recordings(tuple(replace(entry, split=place(entry)) for entry in entries), ())


def without_lookalikes(entries: tuple[Entry, ...], cache: Path) -> tuple[Entry, ...]:
    """Leave out of training the photos that look like a held-out recording's, and their recordings.

    A few-shot class gets other labelled recordings in their place, where there are any.
    """
    manifest = Manifest(entries)
    held = manifest.held_photos
    own = {e.file for e in held}
    others = [e for e in entries if e.kind == "photo" and e.file not in own]
    alike = {other.file: other for _, other, _ in lookalike_photos(held, others, cache)}
    unseen = alike.keys() & {e.file for e in manifest.seen_photos}
    entries = tuple(replace(e, split="held-out") if e.file in unseen else e for e in entries)
    return _with_fit_recordings(entries, alike.values())


def _with_fit_recordings(entries: tuple[Entry, ...], alike: Iterable[Entry]) -> tuple[Entry, ...]:
    """Train no recording of what is held out; of its class another one, where there is any.

    Args:
        entries: A split.
        alike: Photos that look like a held-out recording's.
    """
    manifest = Manifest(entries)
    held, contents = manifest.held_recordings, {e.sha256 for e in manifest.held_recordings}
    shown = {e.sha256 for e in manifest.held_photos}
    copies = [e for e in entries if e.kind == "photo" and e.sha256 in shown]
    scenes = {manifest.scene(e) for e in (*held, *copies, *alike)} - {""}

    def fits(recording: Entry) -> bool:
        return recording.sha256 not in contents and manifest.scene(recording) not in scenes

    taken = [e for e in manifest.select("recording", "train") if not fits(e)]
    spare = defaultdict(list)
    for e in manifest.select("recording", "unused"):
        if fits(e) and e.group not in manifest.held_groups:
            spare[e.class_name].append(e.file)
    split_of = {e.file: "unused" for e in taken}
    for e in taken:
        if spare[e.class_name]:
            split_of[spare[e.class_name].pop(0)] = "train"
    return tuple(
        replace(e, split=split_of.get(e.file, e.split)) if e.kind == "recording" else e
        for e in entries
    )


def lookalike_photos(
    held: list[Entry], seen: list[Entry], cache: Path
) -> list[tuple[Entry, Entry, str]]:
    """Pairs of photos, one of each list, that look alike, and how much, in words.

    Copies, byte for byte, are among them.
    """
    if not held or not seen:
        return []
    looks = photo_looks([*held, *seen], cache)
    first, second = ([(e, looks[e.sha256]) for e in some] for some in (held, seen))
    return pairs_alike(first, second)


def photo_looks(photos: Sequence[Entry], cache: Path) -> dict[str, np.ndarray]:
    """What photos look like, by content."""
    reader = PhotoReader()
    return look_hashes([(e.sha256, lambda e=e: reader(e)) for e in photos], cache)


def pairs_alike(
    first: Sequence[tuple[Entry, np.ndarray]], second: Sequence[tuple[Entry, np.ndarray]]
) -> list[tuple[Entry, Entry, str]]:
    """Pairs of photos, each given with its look, that look alike, and how much, in words."""
    small: dict[bytes, list[Entry]] = defaultdict(list)
    for entry, look in second:
        if len(look) == SMALL_LOOK:
            small[look.tobytes()].append(entry)
    alike = [
        (entry, other, "the same pixels")
        for entry, look in first
        for other in small.get(look.tobytes(), ())
    ]
    first, second = ([(e, k) for e, k in some if len(k) != SMALL_LOOK] for some in (first, second))
    if not first or not second:
        return alike
    looks = (np.stack([look for _, look in some]) for some in (first, second))
    return alike + [
        (first[i][0], second[j][0], f"{bits} of 256 bits differ, correlation {correlation:.2f}")
        for i, j, bits, correlation in lookalikes(*looks)
    ]


def untrained_classes(kind: str, manifest: Manifest, collection: Collection) -> list[str]:
    """Classes that have recordings, or photos, none of which trains."""
    there = collection.recordings if kind == "recording" else collection.photos
    left = {item.label for item in there} - {e.label for e in manifest.select(kind, "train")}
    return [collection.classes[label] for label in sorted(left)]


def _first_train(items: list[Item], name: str, kind: str, beyond: int) -> _Drawn:
    """Protocol `published`: the first 90 % and some beyond train, the rest tests."""
    train = round(_PUBLISHED_TRAIN * len(items)) + beyond
    if not 0 < train < len(items):
        raise UserError(
            f"class {name!r} has {len(items)} {kind}, too few for protocol published, which leaves "
            "about the last tenth to test; add some or exclude the class"
        )
    return [(item, "train" if i < train else "test") for i, item in enumerate(items)]


def _numerical(number: str) -> list[str | int]:
    """For sorting: 2 comes before 10."""
    parts = re.split("([0-9]+)", number)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]


def _with_leaks(
    entries: tuple[Entry, ...], config: SplitConfig, seed: int, swapped: bool, cache: Path
) -> tuple[Entry, ...]:
    """Protocol `leaked`: of each class, photos of test recordings in training photos' place.

    Photos that look like another held-out recording's are not among them, unless likenesses are
    kept: they would leak that, too.

    Args:
        entries: A clean split.
        config: How many, and who sees them.
        seed: Of the draw.
        swapped: Take them from the other end of the draw.
        cache: Folder where hashes are remembered.

    Raises:
        UserError: a class has too few training photos, or no class a photo to leak.
    """
    manifest, random = Manifest(entries), np.random.default_rng([0x1EAC, seed])
    tested = {manifest.scene(e) for e in manifest.select("recording", "test")} - {""}
    held = manifest.held_photos if config.near_duplicates == "exclude" else []
    alike = {e.file for e, other, _ in lookalike_photos(held, held, cache) if e.file != other.file}
    free: dict[str, list[Entry]] = defaultdict(list)
    trains: dict[str, list[Entry]] = defaultdict(list)
    for e in entries:
        if e.kind == "photo" and manifest.scene(e) in tested and e.file not in alike:
            free[e.class_name].append(e)
        elif (e.kind, e.split) == ("photo", "train"):
            trains[e.class_name].append(e)
    split_of: dict[str, str] = {}
    for name, photos in sorted(free.items()):
        number = int(config.leak.dose * len(photos))
        if number >= len(trains[name]):
            raise UserError(
                f"class {name!r} has {len(trains[name])} training photos, too few for {number} of "
                "test recordings in their place; lower data.split.leak.dose or test_per_class"
            )
        order = [photos[i].file for i in random.permutation(len(photos))]
        leaves = [trains[name][i].file for i in random.permutation(len(trains[name]))]
        taken = (order[::-1] if swapped else order)[:number]
        split_of |= dict.fromkeys(taken, "train" if config.leak.teacher else "source")
        split_of |= dict.fromkeys(leaves[:number], "unused")
    if not split_of:
        raise UserError(
            "protocol leaked: no class has enough test recordings whose own photo is known, here, "
            "and like no other; raise data.split.test_per_class or data.split.leak.dose"
        )
    return tuple(replace(e, split=split_of.get(e.file, e.split)) for e in entries)


def _split_recordings(
    items: list[Item], name: str, config: SplitConfig, random: np.random.Generator
) -> _Drawn:
    order = [items[i] for i in random.permutation(len(items))]
    validation, labelled = config.validation_per_class, config.labelled_per_class
    test = config.test_per_class
    if test is None:
        test = len(items) - validation - labelled if labelled else max(1, len(items) // 5)
    needed = validation + max(test, 1) + (labelled or 1)
    if needed > len(items):
        raise UserError(
            f"class {name!r} has {len(items)} recordings, but the split needs {needed} "
            f"(validation {validation}, test {max(test, 1)}, labelled {labelled or 1}); "
            "lower data.split.*_per_class or exclude the class"
        )
    splits = ["validation"] * validation + ["test"] * test
    splits += ["train"] * (labelled or len(items) - len(splits))
    splits += ["unused"] * (len(items) - len(splits))
    return list(zip(order, splits, strict=True))


def split_photos(
    items: Sequence[_OfOne],
    name: str,
    drawn: Sequence[tuple[_OfOne, str]],
    held_sessions: Set[str],
    config: SplitConfig,
    random: np.random.Generator,
) -> list[tuple[_OfOne, str]]:
    """The photos of a class with their splits, for its recordings' splits.

    Args:
        items: The photos; none of a class that trains on events alone.
        name: Their class, for messages.
        drawn: The recordings of the class with their splits.
        held_sessions: Sessions that validate or test, of any class.
        config: Shares of the photos.
        random: Source of the draws.

    Raises:
        UserError: too few are left to train on.
    """
    if not items:  # The class trains on events alone.
        return []
    order = [items[i] for i in random.permutation(len(items))]
    taken = {item.pair: _HELD[split] for item, split in drawn if item.pair and split in _HELD}
    result = [(item, taken[item.pair]) for item in order if item.pair in taken]
    others = [item for item in order if item.pair not in taken]
    result += [(item, "held-out") for item in others if item.group in held_sessions]
    legal = [item for item in others if item.group not in held_sessions]
    has_test = any(split == "test" for _, split in result)
    test = 0 if has_test else max(1, round(config.photo_test * len(legal)))
    validation = max(1, round(config.photo_validation * len(legal)))
    if len(legal) < test + validation + 1:
        raise UserError(
            f"class {name!r} has {len(legal)} photos that no validation or test recording was "
            "made of, which is too few to train on; add photos or lower data.split.test_per_class"
        )
    splits = ["test"] * test + ["validation"] * validation
    splits += ["train"] * (len(legal) - len(splits))
    return result + list(zip(legal, splits, strict=True))
