"""Recordings in HDF5: data sets x, y, t and p, fields of one, or the columns of a table."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spikebridge.data.formats.columns import Columns, event_columns, places_of, unnamed_columns

_TABLE = "events"
_SHOWN = 8


def read_hdf5(file: Path, max_events: int) -> tuple[Columns, tuple[int, int] | None]:
    """Columns of a recording, and the sensor's size where attributes width and height tell it.

    They are looked for everywhere: data sets of one group (DSEC), fields of a data set, or a data
    set "events" of four columns in one of `ORDERS` (v2e, MVSEC). Of two cameras, left and right,
    the left one is read.

    Raises:
        ValueError: no or several recordings.
        OSError: damaged.
    """
    with h5py.File(file, "r") as h5:
        found, seen = _recordings(h5)
        left = {name.replace("right", "left") for name in found if "right" in name}
        if left and left <= set(found):
            found = {name: one for name, one in found.items() if "right" not in name}
        if len(found) != 1:
            what = "several recordings, " if found else "no recording, only "
            shown = ", ".join(list(found or seen)[:_SHOWN]) or "no data set"
            raise ValueError(f"it holds {what}{shown}")
        (recording,) = found.values()
        told: dict[str, Any] = dict(h5.attrs)
        size = (
            (int(told["width"]), int(told["height"])) if {"width", "height"} <= set(told) else None
        )
        return _columns(recording, max_events), size


def _recordings(h5: h5py.File) -> tuple[dict[str, Any], list[str]]:
    """By name what columns can be made of, and the names of all data sets."""
    found: dict[str, Any] = {}
    seen: list[str] = []

    def visit(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            seen.append(name)
            table = name.rpartition("/")[2] == _TABLE and node.ndim == 2 and node.shape[1] == 4
            if table or node.dtype.names and places_of(node.dtype.names):
                found[name] = node
        elif (columns := _data_sets(node)) is not None:
            found[name] = columns

    visit("/", h5)
    h5.visititems(visit)
    return found, seen


def _data_sets(group: Any) -> list[Any] | None:
    """x, y, t and p of a group."""
    names = [name for name in group if group.get(name, getclass=True) is h5py.Dataset]
    places = places_of(names)
    return [group[names[places[key]]] for key in "xytp"] if places else None


def _columns(recording: Any, max_events: int) -> Columns:
    if isinstance(recording, list):
        # Lengths are compared before anything is read: damaged files claim any.
        lengths = {one.shape for one in recording}
        if len(lengths) > 1 or any(len(shape) != 1 for shape in lengths):
            raise ValueError("the columns differ in length")
        return event_columns(*(one[:max_events] for one in recording))
    if recording.dtype.names:
        data_N = recording[:max_events]
        places = places_of(recording.dtype.names) or {}
        return event_columns(*(data_N[recording.dtype.names[places[key]]] for key in "xytp"))
    return unnamed_columns(np.asarray(recording[:max_events]))
