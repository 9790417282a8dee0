"""A shard: one file of many integer arrays of one shape, each with its key and checksum."""

import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spikebridge.base.files import atomic_path, settings_key

VERSION = 2
"""Of the files, and of what readers make of recordings and photos."""
_MAGIC = b"spikebrg"
_HEADER = np.dtype([("magic", "S8"), ("version", "<u4"), ("crc", "<u4"), ("count", "<u8"),
                    ("size", "<u8")])  # fmt: skip
RECORD = np.dtype([("key", "V32"), ("offset", "<u8"), ("length", "<u4"), ("crc", "<u4"),
                    ("itemsize", "u1"), ("sparse", "u1")])  # fmt: skip


def write_shard(
    folder: Path,
    make: Callable[[Any], np.ndarray],
    items: Mapping[str, Any],
    shape: tuple[int, ...],
) -> int:
    """Make some arrays and keep them in one file.

    Args:
        folder: Where the file goes.
        make: Makes an array of counts of an item; can be pickled.
        items: What ``make`` is called with, by the content hash of 64 hexadecimal digits that it
            is kept under; can be pickled.
        shape: Shape of an array.

    Returns:
        The number of arrays.
    """
    path = folder / f"{settings_key(*items)}.shard"
    if path.exists():  # by another process
        return len(items)
    records = np.zeros(len(items), RECORD)
    offset = _HEADER.itemsize + records.nbytes
    with atomic_path(path) as temporary, open(temporary, "r+b") as stream:
        stream.seek(offset)
        for index, (key, item) in enumerate(items.items()):
            data, itemsize, sparse = _encode(make(item).reshape(shape))
            records[index] = (
                bytes.fromhex(key),
                offset,
                len(data),
                zlib.crc32(data),
                itemsize,
                sparse,
            )
            stream.write(data)
            offset += len(data)
        header = np.zeros((), _HEADER)
        header[...] = (_MAGIC, VERSION, zlib.crc32(records.tobytes()), len(items), offset)
        stream.seek(0)
        stream.write(header.tobytes() + records.tobytes())
    return len(items)


def read_index(path: Path) -> np.ndarray:
    """Records of a shard.

    Raises:
        ValueError: it is cut short, damaged, or of another version.
    """
    with open(path, "rb") as stream:
        head = stream.read(_HEADER.itemsize)
        if len(head) < _HEADER.itemsize:
            raise ValueError("cut short")
        header = np.frombuffer(head, _HEADER)[0]
        if header["magic"] != _MAGIC or header["version"] != VERSION:
            raise ValueError("not a shard of this version")
        size = os.fstat(stream.fileno()).st_size
        length = int(header["count"]) * RECORD.itemsize
        if header["size"] != size or length > size:
            raise ValueError("cut short")
        index = stream.read(length)
    if len(index) != length or zlib.crc32(index) != header["crc"]:
        raise ValueError("damaged")
    return np.frombuffer(index, RECORD)


def _encode(array: np.ndarray) -> tuple[bytes, int, bool]:
    """Bytes of an array, the bytes per count, and whether only those not zero are kept."""
    flat = array.reshape(-1)
    flat = flat.astype(np.min_scalar_type(int(flat.max(initial=0))))
    active = flat != 0
    packed = -(-len(flat) // 8) + int(active.sum()) * flat.itemsize
    if packed < flat.nbytes:
        return np.packbits(active).tobytes() + flat[active].tobytes(), flat.itemsize, True
    return flat.tobytes(), flat.itemsize, False


def decode(data: np.ndarray, record: np.void, out: np.ndarray) -> None:
    """Fill an array from its bytes in a shard and its record there."""
    kind = np.dtype(f"u{record['itemsize']}")
    if not record["sparse"]:
        out[...] = data.view(kind).reshape(out.shape)
        return
    bits = -(-out.size // 8)
    active = np.unpackbits(data[:bits], count=out.size).view(bool).reshape(out.shape)
    out[...] = 0
    out[active] = data[bits:].view(kind)
