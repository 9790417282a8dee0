"""Headers before binary events, where eventcv would misread the events without a word."""

import re
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, NamedTuple

import eventcv

from spikebridge.base.errors import UserError
from spikebridge.data.formats.aedat2 import VERSION, read_header

SUFFIXES = (".raw", ".dat", ".aedat", ".aedat4")

_LONGEST_HEADER = 1 << 20
_BLOCK = 1 << 20
_PROPHESEE = re.compile(rb"(?:%(?! end\r?\n)[\t\x20-\x7e]*\r?\n)*(?:% end\r?\n)?")
_EVT = re.compile(rb"^%\s*(?:evt|format\s+EVT)\s*(\d)\.?(\d?)", re.MULTILINE | re.IGNORECASE)
_GEOMETRY = re.compile(rb"^%\s*geometry\W+(\d+)\s*x\s*(\d+)", re.MULTILINE | re.IGNORECASE)
_WIDTH, _HEIGHT = (
    re.compile(rb"^%%(?:.*;)?\s*%s\W+(\d+)" % side, re.MULTILINE | re.IGNORECASE)
    for side in (b"width", b"height")
)
_AEDAT4 = b"#!AER-DAT4.0\r\n"
_NO_TABLE = struct.pack("<q", -1)
_COMPRESSED = (b"\x04\x22\x4d\x18", b"\x28\xb5\x2f\xfd")
"""How LZ4 and Zstandard begin: a packet begins with its stream's number."""


class _Layout(NamedTuple):
    header: bytes
    word_size: int
    """Bytes of what the events are made of; 1 where unknown."""
    no_event: bytes = b""
    """A word that is skipped."""


@contextmanager
def readable(file: Path) -> Iterator[Path]:
    """The file, or a copy of it that eventcv reads whole.

    eventcv takes events for header lines where the first one begins with the byte that such lines
    begin with, and drops what follows the last whole event. In AEDAT 4 it drops a packet that is
    cut, and reads nothing where the table at the end, which it can do without, is.

    Args:
        file: A file with one of `SUFFIXES`.

    Raises:
        UserError: the file ends inside an event, or is of EVT 2.1, which eventcv takes for EVT 2.
    """
    if file.suffix.lower() == ".aedat4":
        with _aedat4(file) as path:
            yield path
        return
    layout = _aedat(file) if file.suffix.lower() == ".aedat" else _prophesee(file)
    length = len(layout.header)
    if (rest := file.stat().st_size - length) % layout.word_size:
        raise UserError(
            f"{file}: truncated, {rest} bytes of events are not a multiple of {layout.word_size}; "
            "fetch the file again"
        )
    with open(file, "rb") as source:
        source.seek(length)
        if not layout.no_event or source.read(1) != layout.header[:1]:
            yield file
            return
        source.seek(length)
        with TemporaryDirectory() as folder:
            copy = Path(folder, f"copy{file.suffix}")
            with open(copy, "wb") as target:
                target.write(layout.header + layout.no_event)
                shutil.copyfileobj(source, target)
            yield copy


def told_size(file: Path) -> tuple[int, int] | None:
    """The sensor's width and height in the header of a ``.raw`` or ``.dat``."""
    with open(file, "rb") as stream:
        match = _PROPHESEE.match(stream.read(_LONGEST_HEADER))
    header = match[0] if match else b""
    if geometry := _GEOMETRY.search(header):
        return int(geometry[1]), int(geometry[2])
    width, height = _WIDTH.search(header), _HEIGHT.search(header)
    return (int(width[1]), int(height[1])) if width and height else None


def _aedat(file: Path) -> _Layout:
    with open(file, "rb") as stream:
        header = read_header(stream)
    known = header.startswith(VERSION)
    return _Layout(header, 8, b"\0\0\4\0\0\0\0\0") if known else _Layout(header, 1)


@contextmanager
def _aedat4(file: Path) -> Iterator[Path]:
    with open(file, "rb") as source:
        header = source.read(len(_AEDAT4) + 4)
        header += source.read(min(int.from_bytes(header[-4:], "little"), _LONGEST_HEADER))
        try:
            at, table = _place_of_table(header)
        except (struct.error, ValueError):
            yield file  # which eventcv refuses
            return
        size = file.stat().st_size
        told = len(header) <= table <= size
        end = _end_of_packets(file, source, len(header), table if told else size)
        if table == -1 or told and _opens(file):
            yield file
            return
        with TemporaryDirectory() as folder:
            copy = Path(folder, f"copy{file.suffix}")
            with open(copy, "wb") as target:
                target.write(header[:at] + _NO_TABLE + header[at + len(_NO_TABLE) :])
                source.seek(len(header))
                for start in range(len(header), end, _BLOCK):
                    target.write(source.read(min(_BLOCK, end - start)))
            yield copy


def _place_of_table(header: bytes) -> tuple[int, int]:
    """Where an AEDAT 4 header tells where the table is, and what it tells.

    It is the second field of a FlatBuffers table behind the version and the header's length.

    Raises:
        ValueError: this is no such header.
        struct.error: likewise.
    """
    start = len(_AEDAT4) + 4
    if not header.startswith(_AEDAT4):
        raise ValueError("another version")
    root = start + struct.unpack_from("<I", header, start)[0]
    fields = root - struct.unpack_from("<i", header, root)[0]
    offset = struct.unpack_from("<H", header, fields + 6)[0]
    if fields < 0 or not offset:
        raise ValueError("no such field")
    return root + offset, struct.unpack_from("<q", header, root + offset)[0]


def _end_of_packets(file: Path, stream: BinaryIO, start: int, end: int) -> int:
    """Where the last whole packet ends.

    Raises:
        UserError: another begins there, and is cut or damaged.
    """
    place = start
    while place < end:
        stream.seek(place)
        head = stream.read(8)
        if head[:4] in _COMPRESSED:
            return place
        length = int.from_bytes(head[4:], "little", signed=True) if len(head) == 8 else 0
        if length < 0:
            raise UserError(f"{file}: damaged at byte {place}; fetch the file again")
        if len(head) < 8 or place + 8 + length > end:
            cut = (
                f", or cut it to its first {place} bytes, which are whole" if place > start else ""
            )
            raise UserError(f"{file}: truncated inside a packet; fetch the file again{cut}")
        place += 8 + length
    return place


def _opens(file: Path) -> bool:
    try:
        eventcv.load(str(file), max_events=1)
    except BaseException:  # a panic of eventcv's Rust code is no Exception
        return False
    return True


def _prophesee(file: Path) -> _Layout:
    with open(file, "rb") as stream:
        match = _PROPHESEE.match(stream.read(_LONGEST_HEADER))
        header = match[0] if match else b""
        if file.suffix.lower() == ".dat":
            stream.seek(len(header))
            return _Layout(header + stream.read(2), 8)
    evt = _EVT.search(header)
    version = b".".join(evt.groups()).decode() if evt else ""
    match version.removesuffix(".").removesuffix(".0"):
        case "2":
            return _Layout(header, 4, b"\0\0\0\xe0")
        case "3":
            return _Layout(header, 2, b"\0\xe0")
        case "2.1":
            raise UserError(f"{file}: EVT 2.1 is not known; convert it to EVT 3")
        case _:
            return _Layout(header, 1)
