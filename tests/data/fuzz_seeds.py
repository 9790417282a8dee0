"""Small valid files of every format, and ways to damage them."""

import gzip
import io
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import eventcv
import h5py
import numpy as np
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from factories import idx_bytes, packed, picture

_random = np.random.default_rng(5)
COUNT = 20
ROWS = np.stack(
    [
        _random.integers(0, 34, COUNT),
        _random.integers(0, 34, COUNT),
        np.sort(_random.integers(0, 300_000, COUNT)),
        _random.integers(0, 2, COUNT),
    ],
    1,
)
DAVIS = (346, 260)


def by_eventcv(suffix: str, sensor: tuple[int, int] = (34, 34)) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"a{suffix}")
        stream = eventcv.from_numpy(ROWS, time_unit="us", sensor_size=sensor)
        eventcv.save(stream, str(file))
        return file.read_bytes()


def h5(**options: Any) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, column_N in zip("xytp", ROWS.T, strict=True):
            data = column_N.astype("i1") if name == "p" else column_N
            file.create_dataset(f"events/{name}", data=data, **options)
    return buffer.getvalue()


def npz(save: Callable = np.savez) -> bytes:
    buffer = io.BytesIO()
    x, y, t, p = ROWS.T
    save(buffer, x=x.astype("u2"), y=y.astype("u2"), t=t, p=p.astype("u1"))
    return buffer.getvalue()


def mat(**options: Any) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, dict(zip(("x", "y", "ts", "p"), ROWS.T[:, :, None], strict=True)), **options)
    data = buffer.getvalue()
    # The header says when it was written.
    return b"MATLAB 5.0 MAT-file".ljust(116) + data[116:] if "format" not in options else data


def evt2() -> bytes:
    data, high = b"% evt 2.0\n% geometry 34x34\n% end\n", -1
    for x, y, t, p in ROWS.tolist():
        if t >> 6 != high:
            high = t >> 6
            data += struct.pack("<I", 8 << 28 | high)
        data += struct.pack("<I", p << 28 | (t & 63) << 22 | x << 11 | y)
    return data


def evt3(later: int = 0) -> bytes:
    data = b"% evt 3.0\n% geometry 34x34\n% end\n"
    for x, y, t, p in (ROWS + [0, 0, later, 0]).tolist():
        words = 0x8000 | t >> 12, 0x6000 | t & 0xFFF, y, 0x2000 | p << 11 | x
        data += struct.pack("<4H", *words)
    return data


def dvs128() -> bytes:
    data = b"#!AER-DAT2.0\r\n# AEChip: DVS128\r\n"
    return data + b"".join(
        struct.pack(">II", y << 8 | x << 1 | p, t) for x, y, t, p in ROWS.tolist()
    )


def aedat3() -> bytes:
    data = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"
    for rows in (ROWS[:12], ROWS[12:]):
        number = len(rows)
        data += struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, number, number, number)
        for x, y, t, p in rows.tolist():
            data += struct.pack("<II", x << 17 | y << 2 | p << 1 | 1, t)
    return data


def h5_table() -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["events"] = ROWS[:, [2, 0, 1, 3]].astype("u4")
    return buffer.getvalue()


def text(line: str, header: str = "") -> bytes:
    lines = (line.format(x=x, y=y, t=t, s=t / 1e6, p=p) for x, y, t, p in ROWS.tolist())
    return (header + "\n".join(lines) + "\n").encode()


RECORDINGS: dict[str, tuple[str, bytes]] = {
    "bin": (".bin", packed(map(tuple, ROWS.tolist()))),
    "mat": (".mat", mat()),
    "mat, compressed": (".mat", mat(do_compression=True)),
    "mat, version 4": (".mat", mat(format="4")),
    "aedat of a DAVIS": (".aedat", by_eventcv(".aedat", DAVIS)),
    "aedat of a DVS128": (".aedat", dvs128()),
    "aedat 3.1": (".aedat", aedat3()),
    "aedat4": (".aedat4", by_eventcv(".aedat4")),
    "raw, EVT2": (".raw", evt2()),
    "raw, EVT3": (".raw", evt3()),
    "dat": (".dat", by_eventcv(".dat")),
    "h5": (".h5", h5()),
    "h5, gzip": (".h5", h5(chunks=(8,), compression="gzip", shuffle=True)),
    "hdf5, lzf": (".hdf5", h5(chunks=(8,), compression="lzf")),
    "h5, table": (".h5", h5_table()),
    "npz": (".npz", npz()),
    "npz, compressed": (".npz", npz(np.savez_compressed)),
    "csv": (".csv", text("{t},{x},{y},{p}", "t,x,y,p\n")),
    "csv, no header": (".csv", text("{x},{y},{p},{t}")),
    "txt": (".txt", text("{t} {x} {y} {p}")),
    "txt, seconds": (".txt", text("{s:.6f} {x} {y} {p}")),
    "bag": (".bag", by_eventcv(".bag")),
}
MAGIC = {
    ".bin": b"",
    ".mat": b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM",
    ".aedat": b"#!AER-DAT2.0\r\n",
    ".aedat4": b"#!AER-DAT4.0\r\n",
    ".raw": b"% evt 3.0\n% geometry 34x34\n",
    ".dat": b"% Width 34\n% Height 34\n\x0c\x08",
    ".h5": b"\x89HDF\r\n\x1a\n",
    ".hdf5": b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0",
    ".npz": b"PK\3\4",
    ".csv": b"t,x,y,p\n",
    ".txt": b"1 2 3 1\n",
    ".bag": b"#ROSBAG V2.0\n",
    ".jpg": b"\xff\xd8\xff\xe0",
    ".png": b"\x89PNG\r\n\x1a\n",
    ".bmp": b"BM",
    ".webp": b"RIFF\0\0\0\0WEBPVP8 ",
    ".gz": b"\x1f\x8b\x08\0\0\0\0\0\0\xff",
    ".idx": b"\0\0\x08\x03",
}


def photo(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(1)).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "made by hand"
    return exif


PHOTOS: dict[str, tuple[str, bytes]] = {
    "jpg": (".jpg", photo("JPEG", exif=_exif())),
    "jpg, progressive": (".jpg", photo("JPEG", progressive=True)),
    "png": (".png", photo("PNG", exif=_exif())),
    "png, palette": (".png", photo("PNG", "P")),
    "bmp": (".bmp", photo("BMP")),
    "webp": (".webp", photo("WEBP", exif=_exif())),
    "webp, lossless": (".webp", photo("WEBP", lossless=True)),
}
IDX_ARRAY = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
IDX: dict[str, tuple[str, bytes]] = {
    "idx": (".idx", idx_bytes(IDX_ARRAY)),
    "idx, gzip": (".gz", gzip.compress(idx_bytes(IDX_ARRAY), mtime=0)),
}

# Damage ------------------------------------------------------------------------------------------

_LENGTHS = [0, 1, 0xFF, 0x7FFF, 0xFFFF, 2**30, 10**9, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]
_DAMAGE = ["flip", "byte", "cut", "delete", "repeat", "insert", "length"]


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes after a few flips, cuts, repeats, insertions and lengths blown up."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(changed) - 1)))
        match draw(st.sampled_from(_DAMAGE)):
            case "flip" if changed:
                changed[place] ^= 1 << draw(st.integers(0, 7))
            case "byte" if changed:
                changed[place] = draw(st.integers(0, 255))
            case "cut":
                del changed[place:]
            case "delete":
                del changed[place : place + draw(st.integers(1, 64))]
            case "repeat":
                end = place + draw(st.integers(1, 64))
                changed[place:place] = changed[place:end] * draw(st.sampled_from([1, 2, 50]))
            case "insert":
                changed[place:place] = draw(st.binary(min_size=1, max_size=16))
            case "length":
                size = draw(st.sampled_from([2, 4, 8]))
                value = draw(st.sampled_from(_LENGTHS)) % (1 << 8 * size)
                little = draw(st.booleans())
                number = value.to_bytes(size, "little" if little else "big")
                changed[place : place + size] = number
    return bytes(changed)


def anything(suffix: str, data: bytes) -> st.SearchStrategy[bytes]:
    """Random bytes, random bytes behind the format's first ones, and damaged valid files."""
    random = st.binary(max_size=300)
    return st.one_of(
        random,
        random.map(lambda rest: MAGIC[suffix] + rest),
        st.tuples(st.integers(0, len(data)), random).map(lambda p: data[: p[0]] + p[1]),
        *[damaged(data)] * 5,
    )
