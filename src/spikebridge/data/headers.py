"""Text headers before binary events, where eventcv would misread the events without a word."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from spikebridge.data.aedat2 import VERSION, read_header
from spikebridge.errors import UserError

SUFFIXES = (".raw", ".dat", ".aedat")

_LONGEST_HEADER = 1 << 20
_PROPHESEE = re.compile(rb"(?:%(?! end\r?\n)[\t\x20-\x7e]*\r?\n)*(?:% end\r?\n)?")
_EVT = re.compile(rb"^%\s*(?:evt|format\s+EVT)\s*(\d)\.?(\d?)", re.MULTILINE | re.IGNORECASE)


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
    begin with, and drops what follows the last whole event.

    Args:
        file: Prophesee's ``.raw`` or ``.dat``, or an ``.aedat``.

    Raises:
        UserError: the file ends inside an event, or is of EVT 2.1, which eventcv takes for EVT 2.
    """
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


def _aedat(file: Path) -> _Layout:
    with open(file, "rb") as stream:
        header = read_header(stream)
    known = header.startswith(VERSION)
    return _Layout(header, 8, b"\0\0\4\0\0\0\0\0") if known else _Layout(header, 1)


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
