"""Prophesee's ``.raw`` and ``.dat``: what eventcv would misread without a word."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from spikebridge.errors import UserError

_LONGEST_HEADER = 1 << 20
_HEADER = re.compile(rb"(?:%(?! end\r?\n)[\t\x20-\x7e]*\r?\n)*(?:% end\r?\n)?")
_VERSION = re.compile(rb"^%\s*(?:evt|format\s+EVT)\s*(\d)\.?(\d?)", re.MULTILINE | re.IGNORECASE)
_WORD = {b"2": 4, b"3": 2}
_NO_EVENT = {b"2": b"\0\0\0\xe0", b"3": b"\0\xe0"}


@contextmanager
def readable(file: Path) -> Iterator[Path]:
    """The file, or a copy of it that eventcv reads whole.

    eventcv takes events for header lines where their first byte is that of ``%``, and drops what
    follows the last whole event.

    Raises:
        UserError: the file ends inside an event, or is of EVT 2.1, which eventcv takes for EVT 2.
    """
    with open(file, "rb") as stream:
        start = stream.read(_LONGEST_HEADER)
    match = _HEADER.match(start)
    header = match[0] if match else b""
    length = file.stat().st_size - len(header)
    if file.suffix.lower() == ".dat":
        _check_whole(file, length - 2, 8)
        yield file
        return
    version = _VERSION.search(header)
    if version is None or version[1] not in _WORD:
        yield file
        return
    if version[2] not in (b"", b"0"):
        name = b".".join(version.groups()).decode()
        raise UserError(f"{file}: EVT {name} is not known; convert it to EVT 3")
    _check_whole(file, length, _WORD[version[1]])
    if not start.startswith(b"%", len(header)):
        yield file
        return
    with TemporaryDirectory() as folder:
        copy = Path(folder, "copy.raw")
        with open(file, "rb") as source, open(copy, "wb") as target:
            target.write(source.read(len(header)) + _NO_EVENT[version[1]])
            shutil.copyfileobj(source, target)
        yield copy


def _check_whole(file: Path, length: int, size: int) -> None:
    if length > 0 and length % size:
        raise UserError(
            f"{file}: truncated, {length} bytes of events are not a multiple of {size}; "
            "fetch the file again"
        )
