"""Files of a few kB that claim 10⁹ events or pixels, or inflate to them, take no such memory."""

import gzip
import io
import json
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from fuzz_seeds import RECORDINGS, photo

from spikebridge.data.formats import foreign

MANY = 10**9
MIB = 1 << 20
ALLOWED_MIB = foreign._MEMORY // MIB + 60
UNITS = 5
"""Work of a file in units of 64 MiB inflated; 10⁹ events are 13 GB."""

READ = """
import json, resource, sys, time, zlib
from spikebridge.data.formats import foreign
from spikebridge.data.events import read_events
from spikebridge.data.photos import read_idx, read_photo
from spikebridge.base.errors import UserError

def children():
    foreign._stop_all()
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10

valid, names = sys.argv[1:6], sys.argv[6:]
for name in valid:
    read_events(name)
with_libraries = children()
packed = zlib.compress(bytes(64 << 20))
start = time.process_time()
zlib.decompress(packed)
unit = time.process_time() - start
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in names:
    read = {"p": read_photo, "i": read_idx}.get(name.rsplit("/", 1)[1][0], read_events)
    start = time.process_time()
    try:
        read(name)
        line = "read"
    except UserError as error:
        line = str(error)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps([name, line, (time.process_time() - start) / unit, grown >> 10]))
print(json.dumps(children() - with_libraries))
"""


def h5(create: Callable[[h5py.File, str, str], None]) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, kind in {"x": "u2", "y": "u2", "t": "i8", "p": "u1"}.items():
            create(file, f"events/{name}", kind)
    return buffer.getvalue()


def npz(real: int, compression: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, kind in {"x": "<u2", "y": "<u2", "t": "<i8", "p": "|u1"}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                header = {"descr": kind, "fortran_order": False, "shape": (MANY,)}
                np.lib.format.write_array_header_1_0(member, header)
                member.write(bytes(real))
    return buffer.getvalue()


def mat(packed: bool) -> bytes:
    def element(kind: int, data: bytes, claimed: int | None = None) -> bytes:
        size = len(data) if claimed is None else claimed
        return struct.pack("<II", kind, size) + data + bytes(-len(data) % 8)

    data = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM"
    for name in ("x", "y", "ts", "p"):
        body = element(6, struct.pack("<II", 6, 0)) + element(5, struct.pack("<ii", MANY // 2, 1))
        body += element(1, name.encode()) + element(9, bytes(8), 4 * MANY)
        variable = element(14, body, 4 * MANY + 64)
        data += element(15, zlib.compress(variable)) if packed else variable
    return data


def mat_4() -> bytes:
    return b"".join(
        struct.pack("<5i", 0, MANY, 1, 0, len(name) + 1) + name + bytes(9)
        for name in (b"x", b"y", b"ts", b"p")
    )


def aedat4(header: int | None = None, packet: bytes | None = None) -> bytes:
    """The valid file with another length of the header, or without an index and other packets."""
    data = bytearray(RECORDINGS["aedat4"][1])
    body = 18 + int.from_bytes(data[14:18], "little")
    if header is not None:
        data[14:18] = header.to_bytes(4, "little")
    if packet is not None:
        del data[body:]
        data[50:58] = b"\xff" * 8  # the index's place
        data += packet
    return bytes(data)


def lz4_bomb(blocks: int) -> bytes:
    """Blocks of 4 MiB of zeros in 16 kB."""
    block = b"\x1f\0\1\0" + b"\xff" * 16_400 + b"\0\x50" + bytes(5)
    data = b"\x04\x22\x4d\x18\x60\x70\x73"
    data += (struct.pack("<I", len(block)) + block) * blocks + bytes(4)
    return struct.pack("<ii", 0, len(data)) + data


def bag(size: int) -> bytes:
    data = bytearray(RECORDINGS["bag"][1])
    place = data.index(b"size=", data.index(b"compression=none")) + 5
    data[place : place + 4] = size.to_bytes(4, "little")
    return bytes(data)


def bag_message() -> bytes:
    data = bytearray(RECORDINGS["bag"][1])
    place = data.index(struct.pack("<II", 34, 34)) + 8
    data[place : place + 4] = MANY.to_bytes(4, "little")
    return bytes(data)


def png(side: int) -> bytes:
    def chunk(kind: bytes, data: bytes = b"") -> bytes:
        length, check = struct.pack(">I", len(data)), struct.pack(">I", zlib.crc32(kind + data))
        return length + kind + data + check

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND")


def bmp(side: int) -> bytes:
    data = bytearray(photo("BMP"))
    data[18:26] = struct.pack("<ii", side, side)
    return bytes(data)


def jpg(side: int) -> bytes:
    data = bytearray(photo("JPEG"))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", side, side)
    return bytes(data)


def idx(*shape: int) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + bytes(900)


def large_hdf5(count: int = MANY, **options: Any) -> bytes:
    return h5(lambda file, name, kind: file.create_dataset(name, (count,), kind, **options))


def inflating_hdf5(file: h5py.File, name: str, kind: str) -> None:
    data = np.zeros(10_000_000, kind)
    file.create_dataset(name, data=data, chunks=data.shape, compression="gzip")


CASES: dict[str, Callable[[], bytes]] = {
    "e1.npz": lambda: npz(16, zipfile.ZIP_STORED),
    "e2.npz": lambda: npz(30 * MIB, zipfile.ZIP_DEFLATED),
    "e1.h5": lambda: large_hdf5(),
    "e2.h5": lambda: large_hdf5(chunks=(1024,), compression="gzip"),
    "e3.h5": lambda: large_hdf5(chunks=(4 * 10**8,)),
    "e4.h5": lambda: large_hdf5(10**15, chunks=(1024,)),
    "e5.h5": lambda: h5(inflating_hdf5),
    "e1.mat": lambda: mat(packed=False),
    "e2.mat": lambda: mat(packed=True),
    "e3.mat": mat_4,
    "e1.aedat4": lambda: aedat4(header=2**32 - 1),
    "e2.aedat4": lambda: aedat4(packet=struct.pack("<ii", 0, 2**31 - 1) + bytes(900)),
    "e3.aedat4": lambda: aedat4(packet=struct.pack("<ii", 0, -1) + bytes(900)),
    "e4.aedat4": lambda: aedat4(packet=lz4_bomb(100)),
    "e1.bag": lambda: bag(MANY),
    "e2.bag": lambda: bag(2**32 - 1),
    "e3.bag": bag_message,
    "p1.png": lambda: png(65_535),
    "p2.png": lambda: png(8_000),
    "p1.bmp": lambda: bmp(65_535),
    "p2.bmp": lambda: bmp(8_000),
    "p1.jpg": lambda: jpg(65_500),
    "i1.idx": lambda: idx(MANY),
    "i2.idx": lambda: idx(2**31, 28, 28),
    "i3.idx": lambda: idx(2**32 - 1, 2**32 - 1, 2**32 - 1),
    "i1.gz": lambda: gzip.compress(idx(MANY)),
    "i2.gz": lambda: gzip.compress(idx(2**32 - 1, 2**32 - 1, 2**32 - 1)),
    "i3.gz": lambda: gzip.compress(idx(2) + bytes(64 * MIB), 9),
}


def test_claims_of_a_billion_are_refused(tmp_path: Path) -> None:
    for name, make in CASES.items():
        (tmp_path / name).write_bytes(make())
    files = [str(tmp_path / name) for name in CASES]
    valid = []
    for kind in ("h5", "mat", "aedat4", "bag", "txt"):
        suffix, data = RECORDINGS[kind]
        valid.append(str(tmp_path / f"valid{suffix}"))
        Path(valid[-1]).write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", READ, *valid, *files], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    *results, children_grown_mib = map(json.loads, done.stdout.splitlines())
    assert [name for name, *_ in results] == files
    for name, line, units, grown_mib in results:
        assert line.startswith(f"{name}: ")
        assert line.isprintable()
        assert units < UNITS, name
        assert grown_mib < ALLOWED_MIB, name
    largest = max(Path(name).stat().st_size for name in files)
    for_bytes_mib = foreign._MEMORY_PER_BYTE * largest // MIB
    assert children_grown_mib < ALLOWED_MIB + for_bytes_mib
