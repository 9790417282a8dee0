"""Small recordings, photos and data sets that tests make."""

import builtins
import errno
import io
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import strategies as st
from PIL import Image

from spikebridge.base.errors import UserError
from spikebridge.data.datasets.catalog import Collection, Item
from spikebridge.data.events import Events
from spikebridge.data.settings import DataConfig, SplitConfig
from spikebridge.data.simulation.camera import Simulator
from spikebridge.data.simulation.twins import simulate_folder
from spikebridge.settings.presets import merge


def real_data(below: str) -> tuple[Path, pytest.MarkDecorator]:
    """A folder of downloaded data, and the mark that skips a test where it is not there."""
    root = os.environ.get("SPIKEBRIDGE_DATA") or Path(__file__).parents[2] / "shared" / "data"
    folder = Path(root) / below
    reason = f"no {folder}; set SPIKEBRIDGE_DATA to the folder that holds {below}"
    return folder, pytest.mark.skipif(not folder.is_dir(), reason=reason)


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


def forbid(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """Let a file, or a folder and what is in it, be unreadable: also for root, who reads all."""
    forbidden = os.path.abspath(place)

    def refusing(function: Any, below_only: bool = False) -> Any:
        def call(path: Any = ".", *arguments: Any, **options: Any) -> Any:
            if isinstance(path, str | os.PathLike):
                full = os.path.abspath(path)
                at = full == forbidden and not below_only
                if at or full.startswith(forbidden + os.sep):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
            return function(path, *arguments, **options)

        return call

    for module, name in ((builtins, "open"), (io, "open"), (os, "listdir"), (os, "scandir")):
        monkeypatch.setattr(module, name, refusing(getattr(module, name)))
    monkeypatch.setattr(os, "stat", refusing(os.stat, below_only=True))


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


def recorded_folders(root: Path, simulator: Simulator, *, count: int) -> DataConfig:
    """Data settings of photos in ``root`` and their simulated recordings, which are made."""
    photos = photo_folder(root / "photos", count=count)
    simulate_folder(photos, root / "events", simulator, seed=0)
    return DataConfig(
        name="folders",
        photos=str(photos),
        events=str(root / "events"),
        sensor=(simulator.width, simulator.height),
        size=(8, 8),
        time_steps=3,
        simulator=simulator,
        split=SplitConfig(labelled_per_class=2, validation_per_class=1, test_per_class=1),
        cache=str(root / "cache"),
    )


def changed_file(file: Path, settings: dict[str, Any], changes: dict[str, Any]) -> Path:
    """A YAML file of settings with changed keys; None leaves one out."""
    given = {k: v for k, v in (settings | changes).items() if v is not None}
    file.write_text(yaml.safe_dump(given, sort_keys=False))
    return file


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


# Published formats, written byte by byte ----------------------------------------------------------

AEDAT2_HEADER = (
    b"#!AER-DAT2.0\r\n"
    b"# This is a raw AE data file - do not edit\r\n"
    b"# Data format is int32 address, int32 timestamp (8 bytes total), repeated for each event\r\n"
    b"# Timestamps tick is 1 us\r\n"
    b"# created Tue Nov 29 15:01:02 CST 2016\r\n"
)


def aedat2_bytes(rows: Iterable[tuple[int, int, int, int]], header: bytes = AEDAT2_HEADER) -> bytes:
    """Rows (x, y, t, polarity) of what jAER shows as a DVS128 writes them."""
    return header + b"".join(
        struct.pack(">II", (127 - y) << 8 | (127 - x) << 1 | (1 - p), t) for x, y, t, p in rows
    )


def cifar10_pickle(label_N: list[int], photos_NHWC: np.ndarray) -> bytes:
    """A batch as Python 2 pickled it for cifar-10-python.tar.gz."""

    def text(words: bytes) -> bytes:
        return b"U" + bytes([len(words)]) + words

    rows = photos_NHWC.transpose(0, 3, 1, 2).tobytes()
    shape = b"M" + struct.pack("<H", len(label_N)) + b"M" + struct.pack("<H", 3072) + b"\x86"
    return b"".join(
        [
            b"\x80\x02}q\x01(",
            text(b"batch_label"), b"q\x02", text(b"training batch 1 of 5"), b"q\x03",
            text(b"labels"), b"q\x04]q\x05(", *(b"K" + bytes([label]) for label in label_N), b"e",
            text(b"data"), b"q\x06cnumpy.core.multiarray\n_reconstruct\nq\x07",
            b"cnumpy\nndarray\nq\x08K\x00\x85", text(b"b"), b"\x87Rq\x09(K\x01", shape,
            b"cnumpy\ndtype\nq\x0a", text(b"u1"), b"K\x00K\x01\x87Rq\x0b(K\x03", text(b"|"),
            b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T", struct.pack("<I", len(rows)),
            rows, b"tb",
            text(b"filenames"), b"q\x0c]q\x0d(",
            *(text(b"photo_%06d.png" % i) for i in range(len(label_N))), b"eu.",
        ]
    )  # fmt: skip


def cifar10_records(label_N: list[int], photos_NHWC: np.ndarray) -> bytes:
    """A batch of cifar-10-binary.tar.gz: a label, then red, green and blue, row by row."""
    return b"".join(
        bytes([label]) + b"".join(photo_HWC[..., c].tobytes() for c in range(3))
        for label, photo_HWC in zip(label_N, photos_NHWC, strict=True)
    )


def files_in(root: Path, contents: dict[str, bytes]) -> Path:
    """Files by their path below a folder, which is made."""
    root.mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def png_bytes(seed: int, suffix: str = "png", side: int = 16) -> bytes:
    """A small photo as a file's bytes; another for every seed."""
    stream = io.BytesIO()
    Image.fromarray(picture(seed, side)).save(stream, format=suffix)
    return stream.getvalue()


# Runs of seconds ---------------------------------------------------------------------------------

BARS = ("across", "down", "slope")


def bar_photos(root: Path, count: int = 20) -> Path:
    """ROOT/CLASS/image_NNNN.png: bars that lie, stand or slope, soon told apart."""
    random = np.random.default_rng(0)
    for label, name in enumerate(BARS):
        (root / name).mkdir(parents=True)
        for index in range(count):
            place, strength = random.integers(3, 12), random.integers(160, 256)
            row_HW, column_HW = np.mgrid[:16, :16]
            distance = (row_HW, column_HW, (row_HW + column_HW) // 2)[label] - place
            photo_HW = np.where(np.abs(distance) < 2, strength, random.integers(0, 40))
            photo = Image.fromarray(photo_HW.astype(np.uint8))
            photo.save(root / name / f"image_{index:04d}.png")
    return root


def tiny_recipe(root: Path, **changes: dict[str, Any]) -> dict[str, Any]:
    """Settings of a run of seconds, with changes; unless these name photos, those are of bars.

    Args:
        root: Gets photos and cache.
        changes: Settings that are laid over the others, room by room.
    """
    photos = root / "photos"
    if "photos" not in changes.get("data", {}) and not photos.exists():
        bar_photos(photos)
    settings = {
        "data": {
            "name": "folders",
            "photos": str(photos),
            "size": [8, 8],
            "time_steps": 2,
            "simulator": {"width": 16, "height": 16, "amplitude": 3.0, "frames": 30},
            "split": {"labelled_per_class": 4, "validation_per_class": 4, "test_per_class": 4},
            "cache": str(root / "cache"),
        },
        "student": {"width": 0.1},
        "teacher": {"width": 0.25, "epochs": 1, "batch_size": 8},
        "train": {
            "epochs": 2,
            "batches_per_epoch": 5,
            "batch_size": 6,
            "lr": 0.5,
            "warmup_epochs": 0.4,
            "precision": "float32",
        },
    }
    return merge(settings, changes)


def own_network(classes: int) -> Any:
    """A teacher of one's own, named in settings as factories:own_network."""
    import torch

    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(classes))
