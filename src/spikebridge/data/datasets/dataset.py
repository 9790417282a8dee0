"""What is known of a data set, and what is found of it on disk."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from spikebridge.data.settings import DataConfig

Kind = Literal["recording", "photo"]
Trouble = Literal[
    "layout",
    "missing",
    "empty",
    "unreadable",
    "duplicated",
    "unpaired",
    "left out",
    "out of order",
    "series",
    "sensor",
]
Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """Something that a person should know about a file, a class or a folder."""

    severity: Severity
    """`error`: training would stop at it; `warning`: training would take it as it is; `note`."""
    trouble: Trouble
    kind: Kind | None
    """What it concerns; None for both."""
    class_name: str
    """Empty where it concerns no single class."""
    message: str
    """One line: where, what is wrong, and what to do."""


@dataclass(frozen=True)
class Found:
    """A recording or photo on disk."""

    file: str
    """Path, or PATH#INDEX inside a file of many."""
    number: str
    """Unique in its class, where `pair` is empty."""
    pair: str
    """Equal for a recording and the photo that it was made of; empty where that is unknown. Where
    data sets pair by file name (`Dataset.paired` None), known only where a photo has it."""


@dataclass(frozen=True)
class Listing:
    """The recordings, or the photos, of a data set."""

    root: str
    """Folder that holds them, for messages."""
    classes: dict[str, list[Found]]
    """By class; a folder without any has an empty list."""
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class Dataset:
    """A known data set: what a person should know of it, and how it is listed."""

    name: str
    """Value of data.name."""
    title: str
    published: Mapping[str, int]
    """Recordings by class, as published; empty where a person brings the classes."""
    classes_note: str
    """What to know of the classes, or empty."""
    sensor: tuple[int, int] | None
    """Width and height; None where each recording tells its own."""
    camera: str
    licence: str
    source: str
    """Where a person gets recordings and photos."""
    events_layout: tuple[str, ...]
    """Lines that show the recordings on disk."""
    photos_layout: tuple[str, ...]
    pairing: str
    protocols: str
    recipes: tuple[str, ...]
    page: str
    """Documentation, relative to the repository."""
    paired: bool | None
    """Recordings and photos pair; None: by file name, where any of them match."""
    transposed: bool = field(default=False, kw_only=True)
    """The camera lay on its side: rows and columns are exchanged."""
    list_recordings: Callable[[DataConfig], Listing]
    """Reads data.events (a UserError where there is nothing to list)."""
    list_photos: Callable[[DataConfig], Listing]
    """Reads data.photos, likewise."""
