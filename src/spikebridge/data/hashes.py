"""Content and perceptual hashes of files, remembered in the cache folder."""

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track
from scipy.fft import dctn

from spikebridge.console import console
from spikebridge.errors import UserError
from spikebridge.files import file_sha256

_HASH_SIDE = 16
_PICTURE_SIDE = 4 * _HASH_SIDE
LOOKALIKE_BITS = 48
"""Two photos look alike when at most so many of their hashes' 256 bits differ. On Caltech101 all
copies, re-encoded, re-coloured or cropped by a little, lie below; unrelated photos at 128 ± 8."""
SMALLEST_PHOTO = 32
"""Photos with a shorter side, in pixels, have too little detail for a perceptual hash."""


def file_hashes(files: Sequence[str], cache: Path) -> list[str]:
    """SHA-256 of each file; one that has not changed since the last call is not read again.

    Args:
        files: Paths.
        cache: Folder of the memory, ``hashes.sqlite``; lost or unusable, all is computed again.

    Raises:
        UserError: a file cannot be read.
    """
    states = [_state(file) for file in files]
    with _memory(cache) as memory:
        known = dict(_look_up(memory, "files", states))
        missing = [state for state in dict.fromkeys(states) if state not in known]
        for state, sha in _on_all_cores(_hash_file, missing, "reading files"):
            known[state] = sha
        _remember(memory, "files", [(state, known[state]) for state in missing])
    return [known[state] for state in states]


def look_hashes(
    photos: Sequence[tuple[str, Callable[[], np.ndarray]]], cache: Path
) -> dict[str, np.ndarray]:
    """Perceptual hash of each photo by its content hash; those that are too small have none.

    Args:
        photos: Content hash, and what reads the photo_HWC.
        cache: Folder of the memory.
    """
    readers = dict(photos)
    with _memory(cache) as memory:
        known = dict(_look_up(memory, "looks", list(readers)))
        missing = [sha for sha in readers if sha not in known]
        found = list(
            _on_all_cores(lambda sha: look_hash(readers[sha]()), missing, "comparing photos")
        )
        new = [(sha, b"" if look is None else look.tobytes()) for sha, look in found]
        _remember(memory, "looks", new)
    known.update(new)
    return {sha: np.frombuffer(look, np.uint8) for sha, look in known.items() if look}


def look_hash(photo_HWC: np.ndarray) -> np.ndarray | None:
    """Perceptual hash of 256 bits: the signs of the lowest frequencies about their median.

    ImageHash's pHash at hash size 16: grey, 64×64 pixels, discrete cosine transform.

    Args:
        photo_HWC: RGB, uint8.

    Returns:
        32 bytes, or None for a photo smaller than `SMALLEST_PHOTO`.
    """
    if min(photo_HWC.shape[:2]) < SMALLEST_PHOTO:
        return None
    grey = Image.fromarray(photo_HWC).convert("L")
    grey_HW = grey.resize((_PICTURE_SIDE, _PICTURE_SIDE), Image.Resampling.LANCZOS)
    spectrum_HW = np.asarray(dctn(np.asarray(grey_HW, np.float64)))
    low_HW = spectrum_HW[:_HASH_SIDE, :_HASH_SIDE]
    return np.packbits(low_HW > np.median(low_HW))


def lookalikes(first: np.ndarray, second: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Pairs of hashes that differ in at most `LOOKALIKE_BITS` bits.

    Args:
        first: Hashes, N × 32 bytes.
        second: Hashes, M × 32 bytes.

    Yields:
        Index in ``first``, index in ``second``, number of bits that differ.
    """
    words_M4 = np.ascontiguousarray(second).view(np.uint64)
    for index, hash_4 in enumerate(np.ascontiguousarray(first).view(np.uint64)):
        distance_M = _set_bits(words_M4 ^ hash_4)
        for other in np.flatnonzero(distance_M <= LOOKALIKE_BITS):
            yield index, int(other), int(distance_M[other])


_BITS_OF_BYTE = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, np.uint8)


def _set_bits(words_M4: np.ndarray) -> np.ndarray:
    return _BITS_OF_BYTE[words_M4.view(np.uint8)].sum(1, np.int64)


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


def _on_all_cores(function: Callable, items: Sequence[str], description: str) -> Iterable:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = zip(items, pool.map(function, items), strict=True)
        yield from track(
            results,
            description,
            total=len(items),
            console=console,
            transient=True,
            disable=len(items) < 100,
        )


@contextmanager
def _memory(cache: Path) -> Iterator[sqlite3.Connection]:
    """The remembered hashes; where the file cannot be used, an empty one in RAM."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(cache / "hashes.sqlite", timeout=60)
        _create_tables(connection)
    except (OSError, sqlite3.Error):
        connection = sqlite3.connect(":memory:")
        _create_tables(connection)
    with closing(connection):
        yield connection


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
