"""Listing class folders, and what is wrong with them."""

import difflib
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from spikebridge.base.errors import UserError
from spikebridge.base.files import expand_path, is_named, not_named, printable
from spikebridge.data.datasets.dataset import Finding, Found, Kind, Listing
from spikebridge.data.manifest import caseless
from spikebridge.data.photos import PHOTO_SUFFIXES

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".rar", ".7z")
CROPPED, CROPS = "Faces_easy", "Faces"
"""Caltech101's classes that show the same photos, under the same numbers."""
_SETTING: dict[Kind, str] = {"recording": "data.events", "photo": "data.photos"}


def folder_of(config_value: str | None, kind: Kind, layout: Sequence[str]) -> Path:
    """The folder that a setting names.

    Raises:
        UserError: the setting is null, or names no folder.
    """
    if config_value is None:
        raise UserError(
            f"{_SETTING[kind]} is not set; give the folder that holds {layout[0].split('  ')[0]}"
        )
    root = expand_path(config_value)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder of {kind}s; set {_SETTING[kind]}")
    return root


def descend(root: Path, *below: str) -> Path:
    """The first of some folders below a root that is there, else the root."""
    return next((root / name for name in below if (root / name).is_dir()), root)


def list_class_folders(
    root: Path,
    kind: Kind,
    suffixes: Sequence[str],
    exclude: Sequence[str] = (),
    known: Iterable[str] = (),
    left_out: dict[str, str] | None = None,
    deep: bool = False,
) -> Listing:
    """Files with one of the suffixes in ROOT/CLASS, none of them hidden; their pair is CLASS/STEM.

    The Unicode form of a class's name does not matter; in a pair the stem's letter case neither.

    Args:
        root: The folder.
        kind: What the files are.
        suffixes: Endings of their names, in lower case.
        exclude: Classes to leave out without a word.
        known: Published classes; empty takes every folder for a class.
        left_out: Folders that are never a class, and why.
        deep: Also list the files of sub-folders, which are part of their number and pair.

    Raises:
        UserError: no such file in any folder.
    """
    known, left_out = set(known), left_out or {}
    excluded = {composed(name) for name in exclude}
    classes: dict[str, list[Found]] = {}
    findings: list[Finding] = []
    for child in sorted(_children(root)):
        name = composed(child.name)
        if not child.is_dir() or name.startswith(".") or name in excluded:
            continue
        files, others = _files(child, suffixes, deep)
        findings += [
            Finding("error", "layout", kind, printable(name), not_named(file))
            for file in files
            if not is_named(file)
        ]
        files = [file for file in files if is_named(file)]
        if not is_named(child):
            continue
        if name in left_out:
            findings.append(Finding("note", "left out", kind, name, f"{child}: {left_out[name]}"))
        elif known and name not in known:
            if files:
                findings.append(_unknown_class(child, kind, known))
        elif name in classes:
            message = (
                f"{child}: another folder beside it has the same name in another Unicode form; "
                "put their files into one"
            )
            findings.append(Finding("error", "layout", kind, name, message))
        else:
            numbers = [f.relative_to(child).with_suffix("").as_posix() for f in files]
            classes[name] = [
                Found(str(f), number, f"{name}/{caseless(number)}")
                for f, number in zip(files, numbers, strict=True)
            ]
            if others:
                finding = others_left_out(child, kind, name, others)
                if not deep and not known and any((child / other).is_dir() for other in others):
                    told = "; folders in it are read where data.split.group is set"
                    finding = replace(finding, message=finding.message + told)
                findings.append(finding)
    if not any(classes.values()) and not any(f.severity == "error" for f in findings):
        raise nothing_found(root, kind, f"{root}/CLASS/*{suffixes[0]}")
    return Listing(str(root), classes, findings)


def others_left_out(
    folder: str | Path, kind: Kind, class_name: str, others: Sequence[str]
) -> Finding:
    """A note on files of other kinds in a folder."""
    names = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
    message = f"{folder}: no {kind}, left out: {names} ({counted(len(others), 'file')})"
    return Finding("note", "left out", kind, class_name, message)


def list_unlabelled(config_value: str) -> tuple[list[Path], list[str]]:
    """Photos in a folder and below it, at any depth, in order of name; hidden ones are passed over.

    Args:
        config_value: ``data.unlabelled``.

    Returns:
        The photos, and the names of files of other kinds.

    Raises:
        UserError: no such folder, or no photo in it.
    """
    root = expand_path(config_value)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder of photos; set data.unlabelled")
    files, others = _files(root, PHOTO_SUFFIXES, deep=True)
    if not files:
        raise UserError(
            f"{root}: no photo found, neither there nor in its sub-folders; expected files with "
            f"one of {', '.join(PHOTO_SUFFIXES)}: check data.unlabelled"
        )
    return files, others


def nothing_found(root: Path, kind: Kind, expected: str) -> UserError:
    """The error of a folder without a single recording or photo; names an archive to unpack."""
    packed = sorted(file.name for file in _children(root) if file.name.endswith(_ARCHIVES))
    if packed:
        return UserError(f"{root}: no {kind} found, but {packed[0]}: unpack it first")
    return UserError(f"{root}: no {kind} found; expected {expected}: check {_SETTING[kind]}")


def near(name: str, names: Iterable[str]) -> str:
    """A hint at the name that was meant, or nothing."""
    by_lower = {other.lower(): other for other in names if other != name}
    close = difflib.get_close_matches(name.lower(), by_lower, 1, 0.6)
    return f" (is it {by_lower[close[0]]!r} there?)" if close else ""


def counted(number: int, noun: str) -> str:
    """Such as "1 photo", "8,709 photos" and "101 classes"."""
    plural = "es" if noun.endswith(("s", "ch")) else "s"
    return f"{number:,} {noun}{'' if number == 1 else plural}"


def composed(name: str) -> str:
    """A class's name in the Unicode form in which classes are compared."""
    return unicodedata.normalize("NFC", name)


def files_below(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Files of the right kind at any depth, in order of name; hidden ones are passed over.

    Linked folders are entered, but for those that lead back.

    Raises:
        UserError: a folder cannot be read.
    """
    return _files(folder, suffixes, deep=True)[0]


def _files(
    folder: Path, suffixes: Sequence[str], deep: bool = False, above: frozenset[str] = frozenset()
) -> tuple[list[Path], list[str]]:
    """Files of the right kind, and the names of the others, both in order of name.

    Links to a folder ``above`` are not followed, and pipes and devices, whose reading may never
    end, are of no kind.
    """
    files, others = [], []
    above |= {os.path.realpath(folder)}
    for file in sorted(_children(folder)):
        if deep and file.is_dir() and not file.name.startswith("."):
            if os.path.realpath(file) in above:
                continue
            below = _files(file, suffixes, deep, above)
            files += below[0]
            others += [f"{printable(file.name)}/{other}" for other in below[1]]
        elif file.suffix.lower() in suffixes and (file.is_file() or not file.exists()):
            files.append(file)
        elif not file.name.startswith("."):
            others.append(printable(file.name))
    return [file for file in files if not file.name.startswith(".")], others


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be read ({error.strerror or error}); check its permissions"
        ) from error


def _unknown_class(folder: Path, kind: Kind, known: set[str]) -> Finding:
    hint = near(folder.name, known).replace("there", "as published")
    message = (
        f"{folder}: holds {kind}s, but is none of the {len(known)} published classes{hint}; rename "
        "or move it, or list it in data.exclude"
    )
    return Finding("error", "layout", kind, folder.name, message)
