"""The list of known data sets as plain text and as JSON."""

import textwrap
from collections.abc import Iterator
from typing import Any

from spikebridge.data.datasets.dataset import Dataset

_WIDTH = 98
_INDENT = 14


def datasets_page(datasets: list[Dataset]) -> str:
    """A block per data set, at most 100 columns wide."""
    return "\n".join("\n".join(_block(dataset)) + "\n" for dataset in datasets)


def dataset_json(dataset: Dataset) -> dict[str, Any]:
    """All but what lists it, as a JSON value."""
    left_out = ("list_recordings", "list_photos", "classes_note", "published", "transposed")
    shown = {key: value for key, value in vars(dataset).items() if key not in left_out}
    return {
        **shown,
        "classes": list(dataset.published),
        "classes_note": dataset.classes_note,
        "recordings": sum(dataset.published.values()) or None,
        "published": dict(dataset.published),
    }


def _block(dataset: Dataset) -> Iterator[str]:
    yield f"{dataset.name}: {dataset.title}"
    number = f"{len(dataset.published)}" if dataset.published else ""
    classes = "; ".join(text for text in (number, dataset.classes_note) if text)
    yield from _field("classes", classes)
    if dataset.published:
        yield from _field("recordings", f"{sum(dataset.published.values()):,}")
    yield from _field("sensor", dataset.camera)
    yield from _field("licence", dataset.licence)
    yield from _field("from", dataset.source)
    yield from _verbatim("layout", (*dataset.events_layout, *dataset.photos_layout))
    yield from _field("pairs", dataset.pairing)
    yield from _field("protocols", dataset.protocols)
    yield from _field("recipe", ", ".join(dataset.recipes))
    yield from _field("more", dataset.page)


def _field(name: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=f"  {name:{_INDENT - 2}}",
        subsequent_indent=" " * _INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _verbatim(name: str, lines: tuple[str, ...]) -> Iterator[str]:
    for index, line in enumerate(lines):
        yield f"  {'' if index else name:{_INDENT - 2}}{line}"
