"""A split that a person gives as a CSV file: a run's manifest, or the columns file and split."""

import csv
import io
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np

from spikebridge.base.errors import UserError
from spikebridge.data.collection import Collection
from spikebridge.data.manifest import (
    COLUMNS,
    LEAKED_ROLES,
    MARKS,
    PROTOCOLS,
    ROLES,
    Entry,
    Manifest,
    caseless,
)
from spikebridge.data.settings import SplitConfig
from spikebridge.data.splits.draw import (
    adopt_split,
    all_entries,
    split_photos,
    without_copies,
    without_lookalikes,
)

_KNOWN = (*COLUMNS, "group")
_CHECKED = {"kind": "kind", "class": "class_name", "sha256": "sha256"}


def given_split(
    path: Path, collection: Collection, config: SplitConfig, seed: int, cache: Path
) -> Manifest:
    """The split of a CSV file, checked against the data.

    A file with all columns of a manifest is taken as it is. One that lacks some is completed:
    recordings that it does not name are unused. Where it names photos that are seen, those that it
    does not name are held out; else they are split as `make_split` does, copies and likenesses of
    held-out photos left out.

    Args:
        path: The CSV file.
        collection: Recordings and photos.
        config: Shares of the photos, and whether likenesses are left out.
        seed: Used when ``config.seed`` is None.
        cache: Folder where hashes are remembered.

    Raises:
        UserError: it cannot be read, names other files or splits, or lets training see what tests.
    """
    rows = _rows(path)
    if set(rows[0]) >= set(COLUMNS):
        manifest = adopt_split(Manifest.read(path), collection, cache)
    else:
        manifest = _completed(path, rows, collection, config, seed, cache)
    _refuse_leaks(path, manifest)
    return manifest


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such manifest; check data.split.manifest") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path}: not a manifest, or damaged ({error}); write CSV") from error
    if not rows:
        raise UserError(f"{path}: not a manifest: it has no line; expected columns file and split")
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            _refuse(path, number, "has more or fewer values than columns", "mend the line")
    lacking = {"file", "split"} - set(rows[0])
    if lacking or not set(rows[0]) <= set(_KNOWN):
        raise UserError(
            f"{path}: not a manifest (columns {', '.join(rows[0])}); expected file and split, and "
            f"of the others none but {', '.join(c for c in _KNOWN if c not in ('file', 'split'))}"
        )
    return rows


def _completed(
    path: Path,
    rows: Sequence[dict[str, str]],
    collection: Collection,
    config: SplitConfig,
    seed: int,
    cache: Path,
) -> Manifest:
    entries = all_entries(collection, cache)
    by_name: dict[str, list[int]] = defaultdict(list)
    for index, entry in enumerate(entries):
        by_name[caseless(entry.file.rpartition("/")[2])].append(index)
    placed: dict[int, Entry] = {}
    for number, row in enumerate(rows, 2):
        index = _index_of(path, number, row["file"], entries, by_name)
        if index in placed:
            _refuse(path, number, f"names {row['file']} again", "keep one line")
        placed[index] = _placed(path, number, row, entries[index])
    _refuse_leaks(path, Manifest(tuple(placed.values())))
    protocols = {row.get("protocol") or "clean" for row in rows}
    known = [name for name in PROTOCOLS if name not in MARKS]
    if len(protocols) > 1 or not protocols <= set(known):
        raise UserError(
            f"{path}: protocol must be one of {', '.join(known)} in all lines; a split of another "
            f"protocol has all columns: {', '.join(COLUMNS)}"
        )
    protocol = protocols.pop()
    recordings = [
        placed.get(i, replace(e, split="unused"))
        for i, e in enumerate(entries)
        if e.kind == "recording"
    ]
    photos = [placed[i] for i, e in enumerate(entries) if e.kind == "photo" and i in placed]
    others = [e for i, e in enumerate(entries) if e.kind == "photo" and i not in placed]
    if all(entry.split == "held-out" for entry in photos):
        photos += _photos_for(collection, recordings, others, config, seed)
    else:
        photos += [replace(e, split="held-out") for e in others]
    manifest = Manifest((*recordings, *photos), protocol)
    for split in ("train", "validation", "test"):
        there = {e.class_name for e in manifest.select("recording", split)}
        if not there:
            raise UserError(f"{path}: no recording of split {split}; name some")
        if lacking := sorted({e.class_name for e in recordings} - there):
            raise UserError(
                f"{path}: class {lacking[0]!r} has no recording of split {split}; name some, or "
                "leave the class out (data.exclude)"
            )
    whole = without_copies(manifest.entries)
    if config.near_duplicates == "exclude":
        whole = without_lookalikes(whole, cache)
    return replace(manifest, entries=whole)


def _index_of(
    path: Path,
    number: int,
    file: str,
    entries: Sequence[Entry],
    by_name: dict[str, list[int]],
) -> int:
    """The entry that a line names by its path, or by the end of it."""
    named = by_name[caseless(file.rpartition("/")[2])]
    wholes = {os.path.abspath(file), os.path.abspath(path.parent / file)}
    whole = [i for i in named if os.path.abspath(entries[i].file) in wholes]
    end = "/" + caseless(file.removeprefix("./"))
    found = whole or [i for i in named if ("/" + caseless(entries[i].file)).endswith(end)]
    if len(found) != 1:
        what = "names several files" if found else "is not among the data"
        _refuse(path, number, f"{file} {what}", "write its path, or CLASS/NAME")
    return found[0]


def _placed(path: Path, number: int, row: dict[str, str], entry: Entry) -> Entry:
    roles = (role for role in ROLES if role not in LEAKED_ROLES)
    words = [split for kind, split in roles if kind == entry.kind]
    if row["split"] not in words:
        _refuse(
            path, number, f"split {row['split']!r} of a {entry.kind}", f"use {', '.join(words)}"
        )
    for column, name in _CHECKED.items():
        if row.get(column) and caseless(row[column]) != caseless(getattr(entry, name)):
            _refuse(
                path, number, f"{column} {row[column]!r} is not that of {entry.file}", "mend it"
            )
    return replace(
        entry,
        split=row["split"],
        pair=row.get("pair") or entry.pair,
        group=row.get("group", ""),
    )


def _photos_for(
    collection: Collection,
    recordings: Sequence[Entry],
    photos: Sequence[Entry],
    config: SplitConfig,
    seed: int,
) -> list[Entry]:
    """Photos split for given recordings."""
    random = np.random.default_rng([0x5B11, seed if config.seed is None else config.seed])
    held = Manifest(tuple(recordings)).held_groups
    drawn = []
    for label, name in enumerate(collection.classes):
        own = [entry for entry in photos if entry.label == label]
        of_class = [(entry, entry.split) for entry in recordings if entry.label == label]
        drawn += split_photos(own, name, of_class, held, config, random)
    return [replace(entry, split=split) for entry, split in drawn]


def _refuse_leaks(path: Path, manifest: Manifest) -> None:
    """Refuse a split in which training sees what validates or tests beyond its protocol."""
    if manifest.protocol == "published":  # It cuts by position, copies or not.
        return
    held = {scene: e for e in manifest.held_recordings if (scene := manifest.scene(e))}
    contents = {e.sha256: e for e in (*manifest.held_recordings, *manifest.held_photos)}
    groups = {e.group: e for e in manifest.held_recordings if e.group}
    allowed = manifest.allowed
    photos = [e for e in manifest.seen_photos if e.sha256 not in allowed]
    for seen in (*manifest.select("recording", "train"), *photos):
        shown = held.get(manifest.scene(seen)) if seen.kind == "photo" else None
        other = shown or groups.get(seen.group) or contents.get(seen.sha256)
        if other is not None:
            out = "unused" if seen.kind == "recording" else "held-out"
            raise UserError(
                f"{path}: {seen.file} is of split {seen.split}, but it is a copy, the photo or of "
                f"the session of {other.file}, which is held out; make it {out}"
            )
    validates, tests = (
        {e.group for e in manifest.select("recording", split)} - {""}
        for split in ("validation", "test")
    )
    for group in sorted(validates & tests):
        raise UserError(f"{path}: session {group} both validates and tests; keep it in one split")


def _refuse(path: Path, number: int, what: str, remedy: str) -> NoReturn:
    raise UserError(f"{path}, line {number}: {what}; {remedy}")
