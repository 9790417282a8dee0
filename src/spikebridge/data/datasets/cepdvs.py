"""CEP-DVS (Deng et al. 2021): recordings and photos of CIFAR-100's twenty superclasses."""

import re
from collections.abc import Sequence
from pathlib import Path

from spikebridge.base.errors import UserError
from spikebridge.base.files import expand_path
from spikebridge.data.datasets.dataset import Dataset, Finding, Found, Kind, Listing
from spikebridge.data.datasets.walk import counted, folder_of, nothing_found
from spikebridge.data.settings import DataConfig

CLASSES = (
    "aquatic_mammals", "fish", "flowers", "food_containers", "fruit_and_vegetables",
    "household_electrical_devices", "household_furniture", "insects", "large_carnivores",
    "large_man-made_outdoor_things", "large_natural_outdoor_scenes",
    "large_omnivores_and_herbivores", "medium_mammals", "non-insect_invertebrates", "people",
    "reptiles", "small_mammals", "trees", "vehicles_1", "vehicles_2",
)  # fmt: skip
PUBLISHED: dict[str, int] = dict.fromkeys(CLASSES, 500)
"""Recordings by class."""

_TABLE = "pathFile.csv"
_CLASS_PLACE = 4
_EVENTS_LAYOUT = (
    "ROOT/pathFile.csv             its row i, counted from 0, tells the class of number i",
    "ROOT/data/MAT/img/00000.mat   EVENTS is ROOT or a folder below it",
)
_PHOTOS_LAYOUT = ("ROOT/data/img/00000.jpg       PHOTOS is ROOT or a folder below it",)


def list_recordings(config: DataConfig) -> Listing:
    """Recordings, by the class that their row of pathFile.csv names."""
    root = folder_of(config.events, "recording", _EVENTS_LAYOUT)
    below = ("data/MAT/img", "MAT/img", "img", "")
    return _list(config, root, "recording", below, (".mat",), config.photos)


def list_photos(config: DataConfig) -> Listing:
    """Photos, by the class that their row of pathFile.csv names."""
    root = folder_of(config.photos, "photo", _PHOTOS_LAYOUT)
    return _list(config, root, "photo", ("data/img", "img", ""), (".jpg", ".jpeg"), config.events)


def _list(
    config: DataConfig,
    root: Path,
    kind: Kind,
    below: Sequence[str],
    suffixes: Sequence[str],
    other_root: str | None,
) -> Listing:
    folder, files = _first_with(root, below, suffixes)
    if not files:
        raise nothing_found(root, kind, f"{root}/{below[0]}/00000{suffixes[0]}")
    table = _find_table(root, other_root)
    rows = _classes_of_rows(table)
    classes: dict[str, list[Found]] = {}
    findings = []
    without_class = []
    for file in files:
        if not file.stem.isdecimal():
            message = f"{file}: expected a {kind} named by number (00000{suffixes[0]}); rename it"
            findings.append(Finding("error", "layout", kind, "", message))
            continue
        number = int(file.stem)
        name = rows[number] if number < len(rows) else None
        if name is None:
            without_class.append(number)
        elif name not in config.exclude:
            classes.setdefault(name, []).append(Found(str(file), file.stem, str(number)))
    if without_class:
        findings.append(_without_class(table, kind, without_class, len(rows)))
    return Listing(str(folder), dict(sorted(classes.items())), findings)


def _first_with(
    root: Path, below: Sequence[str], suffixes: Sequence[str]
) -> tuple[Path, list[Path]]:
    """The first folder that holds files with one of the suffixes, and those, in order of name."""
    for name in below:
        folder = root / name
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        files = [f for f in files if f.suffix.lower() in suffixes and not f.name.startswith(".")]
        if files:
            return folder, files
    return root, []


def _find_table(root: Path, other_root: str | None) -> Path:
    """pathFile.csv in a folder or up to three above it; else likewise from the other folder."""
    for start in (root, *([expand_path(other_root)] if other_root else [])):
        for folder in (start.absolute(), *start.absolute().parents[:3]):
            if (folder / _TABLE).is_file():
                return folder / _TABLE
    raise UserError(
        f"{root}: no {_TABLE}, which tells the classes, there or in the three folders above; put "
        "it beside the folder data, as in the archive"
    )


def _classes_of_rows(table: Path) -> list[str | None]:
    """The class of each row after the header, which its fifth word names; None for another word.

    Words are parted by white space or commas; two separators may (KT's reader) or may not have an
    empty word between them.
    """
    lines = table.read_text(encoding="utf-8", errors="replace").splitlines()[1:]
    rows = []
    for line in lines:
        if not line.strip():
            continue
        text = line.replace('"', "")
        words = [re.split(separator, text.strip()) for separator in (r"[\s,]", r"[\s,]+")]
        named = [w[_CLASS_PLACE] for w in words if len(w) > _CLASS_PLACE]
        rows.append(next((name for name in named if name in PUBLISHED), None))
    return rows


def _without_class(table: Path, kind: Kind, numbers: list[int], rows: int) -> Finding:
    first = numbers[0]
    what = "is missing" if first >= rows else "names no known class as its fifth word"
    more = f" (and {counted(len(numbers) - 1, 'row')} more)" if len(numbers) > 1 else ""
    message = (
        f"{table}: row {first}, which tells the class of {kind} {first:05d}, {what}{more}; "
        "restore the published file"
    )
    return Finding("error", "layout", kind, "", message)


CEP_DVS = Dataset(
    name="cep-dvs",
    title="CEP-DVS with its own photos",
    published=PUBLISHED,
    classes_note="CIFAR-100's superclasses",
    sensor=None,
    camera="recordings of different sizes; each is taken as large as its farthest events",
    licence="none stated with the data; ask the authors before you pass it on",
    source=(
        "the authors (https://ieeexplore.ieee.org/document/9426390); a mirror is linked in "
        "https://github.com/Brain-Cog-Lab/Transfer-for-DVS/issues/2"
    ),
    events_layout=_EVENTS_LAYOUT,
    photos_layout=_PHOTOS_LAYOUT,
    pairing="recording 00007.mat shows photo 00007.jpg",
    protocols="clean, few-shot, published",
    recipes=("cep-dvs",),
    page="docs/data/cep-dvs.md",
    paired=True,
    list_recordings=list_recordings,
    list_photos=list_photos,
)
