"""Small recordings, photos and data sets that tests make."""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from spikebridge.data.catalog import Collection, Item
from spikebridge.data.events import Events
from spikebridge.errors import UserError


def refused(act: Any, *words: Any) -> str:
    """The one line that ``act()`` is refused with; it must hold all words."""
    with pytest.raises(UserError) as caught:
        act()
    line = str(caught.value)
    assert "\n" not in line
    assert line.strip() == line != ""
    for word in words:
        assert str(word) in line
    return line


def as_events(
    rows: Iterable[tuple[int, int, int, int]], sensor: tuple[int, int] = (34, 34)
) -> Events:
    """Events of rows (x, y, t, polarity)."""
    x_N, y_N, t_N, p_N = np.array(list(rows), np.int64).reshape(-1, 4).T
    return Events(x_N.astype(np.int32), y_N.astype(np.int32), t_N, p_N > 0, sensor)


def as_rows(events: Events) -> list[tuple[int, int, int, int]]:
    """Rows (x, y, t, polarity) of events."""
    return [
        (int(x), int(y), int(t), int(p))
        for x, y, t, p in zip(events.x_N, events.y_N, events.t_N, events.polarity_N, strict=True)
    ]


def packed(rows: Iterable[tuple[int, int, int, int]]) -> bytes:
    """Rows (x, y, t, polarity) in the 40-bit format, by integer arithmetic alone."""
    return b"".join((x << 32 | y << 24 | p << 23 | t).to_bytes(5, "big") for x, y, t, p in rows)


@st.composite
def event_lists(
    draw: st.DrawFn, *, min_size: int = 1, max_size: int = 60, max_time: int = 2_000
) -> Events:
    """Ordered events on a sensor of any small size; equal time stamps and repeats are common."""
    width, height = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    event = st.tuples(
        st.integers(0, width - 1),
        st.integers(0, height - 1),
        st.integers(0, max_time),
        st.integers(0, 1),
    )
    rows = draw(st.lists(event, min_size=min_size, max_size=max_size))
    return as_events(sorted(rows, key=lambda row: row[2]), (width, height))


def picture(seed: int, side: int = 16) -> np.ndarray:
    """A photo_HWC with soft blobs: enough contrast for the simulated camera."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def photo_folder(
    root: Path, classes: Iterable[str] = ("cup", "saw"), count: int = 6, side: int = 16
) -> Path:
    """ROOT/CLASS/image_NNNN.png; every photo differs."""
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(count):
            file = root / name / f"image_{index + 1:04d}.png"
            Image.fromarray(picture(1000 * label + index, side)).save(file)
    return root


def idx_bytes(array: np.ndarray) -> bytes:
    """An IDX file of unsigned bytes."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def collection_in(root: Path, recordings: dict[str, int], photos: dict[str, int]) -> Collection:
    """A paired collection of one-line files: number of recordings and photos by class."""
    classes = tuple(sorted(recordings))

    def items(counts: dict[str, int], kind: str) -> list[Item]:
        made = []
        for label, name in enumerate(classes):
            (root / kind / name).mkdir(parents=True, exist_ok=True)
            for index in range(counts[name]):
                file = root / kind / name / f"{index:04d}.{kind}"
                if not file.exists():
                    file.write_text(f"{kind} {name} {index}")
                made.append(Item(str(file), label, file.stem, f"{name}/{file.stem}"))
        return made

    return Collection(
        "made", classes, (34, 34), items(recordings, "bin"), items(photos, "png"), True
    )
