"""Content and perceptual hashes of files, remembered in the cache folder."""

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.fft import dctn

from spikebridge.base.console import progress
from spikebridge.base.errors import UserError
from spikebridge.base.files import file_sha256, is_named, not_named

_BLOCK = 200
_SIDE = 16
_PICTURE_SIDE = 4 * _SIDE
LOOKALIKE_BITS = 48
"""Two photos look alike when at most so many of their hashes' 256 bits differ. On Caltech101 all
copies, re-encoded, re-coloured or cropped by a little, lie below; unrelated photos at 128 ± 8."""
LOOKALIKE_CORRELATION = 0.96
"""They also look alike when their low frequencies correlate so much: the signs of a blurred
picture's weak frequencies are chance, and its copy's hash is far away. On Caltech101 this finds no
pair that the hash does not."""
_UNREADABLE = b"?"
"""What is remembered of the looks of a photo that does not decode."""
SMALLEST_PHOTO = 32
"""Photos with a shorter side, in pixels, have too little detail for a perceptual hash; they look
alike when their pixels are equal, whatever file holds them."""
SMALL_LOOK = 32
"""Bytes of what such a photo looks like."""


def file_hashes(files: Sequence[str], cache: Path) -> list[str]:
    """SHA-256 of each file; one that has not changed since the last call is not read again.

    Args:
        files: Paths.
        cache: Folder of the memory, ``hashes.sqlite``; lost or unusable, all is computed again.

    Raises:
        UserError: a file cannot be read, or its name is not UTF-8.
    """
    for file in files:
        if not is_named(file):
            raise UserError(not_named(file))
    states = [_state(file) for file in files]
    with _memory(cache) as memory:
        known = dict(_look_up(memory, "files", states))
        missing = [state for state in dict.fromkeys(states) if state not in known]
        known.update(_learned(memory, "files", missing, _hash_file, "reading files"))
    return [known[state] for state in states]


def look_hashes(
    photos: Sequence[tuple[str, Callable[[], np.ndarray]]], cache: Path
) -> dict[str, np.ndarray]:
    """`look_hash` of each photo by its content hash.

    Args:
        photos: Content hash, and what reads the photo_HWC.
        cache: Folder of the memory.
    """
    looks = _looks(dict(photos), cache, lenient=False)
    return {sha: np.frombuffer(look, np.uint8) for sha, look in looks.items()}


def unreadable(
    photos: Sequence[tuple[str, Callable[[], np.ndarray]]], cache: Path
) -> dict[str, str]:
    """Why photos cannot be read, by their content hash; those that can are not among them.

    Arguments are those of `look_hashes`, which then knows the looks of the others.
    """
    readers, reasons = dict(photos), {}
    for sha, look in _looks(readers, cache, lenient=True).items():
        if look == _UNREADABLE:
            try:
                readers[sha]()
            except UserError as error:
                reasons[sha] = str(error)
    return reasons


def _looks(
    readers: dict[str, Callable[[], np.ndarray]], cache: Path, *, lenient: bool
) -> dict[str, bytes]:
    """What photos look like, as it is remembered; one that cannot be read stops all but lenient."""

    def look(sha: str) -> bytes:
        try:
            return look_hash(readers[sha]()).tobytes()
        except UserError:
            if lenient:
                return _UNREADABLE
            raise

    with _memory(cache) as memory:
        known = dict(_look_up(memory, "looks", list(readers)))
        # Of small photos earlier versions remembered nothing.
        again = (b"",) if lenient else (b"", _UNREADABLE)
        known = {sha: some for sha, some in known.items() if some not in again}
        missing = [sha for sha in readers if sha not in known]
        known.update(_learned(memory, "looks", missing, look, "comparing photos"))
    return known


def look_hash(photo_HWC: np.ndarray) -> np.ndarray:
    """What a photo looks like: its lowest frequencies, and their signs about the median.

    The signs, 256 bits, are ImageHash's pHash at hash size 16: grey, 64×64 pixels, discrete cosine
    transform.

    Args:
        photo_HWC: RGB, uint8.

    Returns:
        32 bytes of signs and 512 of frequencies (float16, without the mean, of length 1); of a
        photo smaller than `SMALLEST_PHOTO` the SHA-256 of its shape and pixels.
    """
    if min(photo_HWC.shape[:2]) < SMALLEST_PHOTO:
        shape = repr(photo_HWC.shape).encode()
        digest = hashlib.sha256(shape + np.ascontiguousarray(photo_HWC).tobytes()).digest()
        return np.frombuffer(digest, np.uint8)
    grey = Image.fromarray(photo_HWC).convert("L")
    grey_HW = grey.resize((_PICTURE_SIDE, _PICTURE_SIDE), Image.Resampling.LANCZOS)
    low_HW = np.asarray(dctn(np.asarray(grey_HW, np.float64)))[:_SIDE, :_SIDE]
    signs = np.packbits(low_HW > np.median(low_HW))
    low_256 = low_HW.copy().reshape(-1)
    low_256[0] = 0
    low_256 /= max(float(np.linalg.norm(low_256)), 1e-9)
    return np.concatenate([signs, low_256.astype(np.float16).view(np.uint8)])


def lookalikes(first: np.ndarray, second: np.ndarray) -> Iterator[tuple[int, int, int, float]]:
    """Pairs of photos that look alike, by `LOOKALIKE_BITS` or `LOOKALIKE_CORRELATION`.

    Args:
        first: What N photos of `SMALLEST_PHOTO` or more look like, N × 544 bytes, from `look_hash`.
        second: The same of M photos.

    Yields:
        Index in ``first``, index in ``second``, bits that differ, correlation.
    """
    signs_M4, low_M256 = _parts(second)
    for index, (signs_4, low_256) in enumerate(zip(*_parts(first), strict=True)):
        distance_M = _BITS_OF_BYTE[(signs_M4 ^ signs_4).view(np.uint8)].sum(1, np.int64)
        correlation_M = low_M256 @ low_256
        alike_M = (distance_M <= LOOKALIKE_BITS) | (correlation_M >= LOOKALIKE_CORRELATION)
        for other in np.flatnonzero(alike_M):
            yield index, int(other), int(distance_M[other]), float(correlation_M[other])


_BITS_OF_BYTE = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, np.uint8)


def _parts(looks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    signs_N4 = np.ascontiguousarray(looks[:, :32]).view(np.uint64)
    return signs_N4, np.ascontiguousarray(looks[:, 32:]).view(np.float16).astype(np.float32)


def _state(file: str) -> str:
    """What changes whenever a file does: path, size and times."""
    try:
        stat = os.stat(file)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); restore it") from error
    times = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
    return f"{os.path.abspath(file)}\0{times}"


def _hash_file(state: str) -> str:
    file = state.split("\0")[0]
    try:
        return file_sha256(file)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); restore it") from error


def _learned(
    memory: sqlite3.Connection,
    table: str,
    keys: Sequence[str],
    function: Callable[[str], Any],
    description: str,
) -> Iterator[tuple[str, Any]]:
    """Each key and its value, computed on all cores and remembered every now and then."""
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        progress() as bar,
    ):
        shown = bar.add_task(description, total=len(keys))
        for start in range(0, len(keys), _BLOCK):
            some = keys[start : start + _BLOCK]
            rows = list(zip(some, pool.map(function, some), strict=True))
            _remember(memory, table, rows)
            bar.update(shown, advance=len(some))
            yield from rows


@contextmanager
def _memory(cache: Path) -> Iterator[sqlite3.Connection]:
    """The remembered hashes; where the file cannot be used, an empty one in RAM."""
    try:
        connection = _opened(cache)
    except (OSError, sqlite3.Error):
        connection = sqlite3.connect(":memory:")
        _create_tables(connection)
    with closing(connection):
        yield connection


def _opened(cache: Path) -> sqlite3.Connection:
    cache.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(cache / "hashes.sqlite", timeout=60)
    try:
        _create_tables(connection)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _create_tables(memory: sqlite3.Connection) -> None:
    for table in ("files", "looks"):
        memory.execute(f"CREATE TABLE IF NOT EXISTS {table} (key TEXT PRIMARY KEY, value)")


def _look_up(memory: sqlite3.Connection, table: str, keys: Sequence[str]) -> Iterator[tuple]:
    try:
        for start in range(0, len(keys), 500):
            some = list(keys[start : start + 500])
            marks = ",".join("?" * len(some))
            yield from memory.execute(
                f"SELECT key, value FROM {table} WHERE key IN ({marks})", some
            ).fetchall()
    except sqlite3.Error:
        return


def _remember(memory: sqlite3.Connection, table: str, rows: Sequence[tuple]) -> None:
    try:
        with memory:
            memory.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", rows)
    except sqlite3.Error:
        return
