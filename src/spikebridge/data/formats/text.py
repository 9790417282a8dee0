"""Recordings as text: a line per event, its columns named by a header or told by their numbers."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np

from spikebridge.data.formats.columns import Columns, event_columns, places_of, unnamed_columns

_COMMENTS = ("#", "%", "//")


def read_text(file: Path, max_events: int) -> tuple[Columns, tuple[int, int] | None]:
    """Columns of a recording, and the sensor's width and height where a first line tells them.

    Numbers may be parted by commas, semicolons or white space and written in any way that floats
    are. Before them there may be comments, the size as E2VID writes it ("346 260"), and a header
    that names the columns, itself a comment or not.

    Raises:
        ValueError: it is no such text, or has a line of fewer than four numbers.
    """
    with open(file, encoding="utf-8-sig") as stream:
        lines = _without_comments(stream)
        size = places = None
        for line, comment in lines:
            fields = _fields(line)
            numbers = [_is_number(field) for field in fields]
            if comment or not any(numbers):
                named = places_of(fields)
                if not (named or comment):
                    raise ValueError(f"the header {line.strip()[:60]!r} names no x, y, t and p")
                places = named or places
            elif len(fields) == 2 and size is None and all(f.isdecimal() for f in fields):
                size = int(fields[0]), int(fields[1])
            else:
                break
        else:
            empty_N = np.empty(0)
            return event_columns(empty_N, empty_N, empty_N, empty_N), size
        table_N4 = np.loadtxt(
            islice(chain([line], stream), max_events),  # max_rows would take memory for as many
            delimiter=_separator(line),
            usecols=[places[key] for key in "xytp"] if places else range(4),
            ndmin=2,
        )
    return event_columns(*table_N4.T) if places else unnamed_columns(table_N4), size


def _without_comments(lines: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Lines that are not empty, without the mark of a comment, and whether there was one."""
    for line in lines:
        stripped = line.strip()
        mark = next((mark for mark in _COMMENTS if stripped.startswith(mark)), "")
        if stripped:
            yield stripped.removeprefix(mark), bool(mark)


def _separator(line: str) -> str | None:
    return next((separator for separator in ",;" if separator in line), None)


def _fields(line: str) -> list[str]:
    return [field.strip() for field in line.split(_separator(line))]


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
