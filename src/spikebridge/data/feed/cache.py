"""Integer arrays of one shape, prepared once and kept by content in memory-mapped shards.

A shard is written whole or not at all and never changed, so that a killed preparation goes on
where it was. Of several processes that need the same arrays one makes them and the others wait.
"""

import contextlib
import mmap
import os
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from joblib.externals.loky import as_completed, get_reusable_executor

from spikebridge.base.console import console, progress
from spikebridge.base.errors import UserError
from spikebridge.base.files import remove_stale_temporaries, settings_key
from spikebridge.base.locks import locked
from spikebridge.data.feed.shards import RECORD, VERSION, decode, read_index, write_shard

_SHARD_CELLS = 8 << 20
_OPEN_FILES = 64


class ArrayCache:
    """A folder of shards that hold arrays of one shape under content hashes.

    Counts are kept as the smallest unsigned integers; where it is smaller, as the bits that tell
    which cells are not zero and the counts of those.

    Args:
        folder: Folder of the cache.
        kind: First part of the shards' folder, ``frames`` say.
        settings: All that determines an array besides its content hash; JSON values.
        shape: Shape of an array.
    """

    def __init__(self, folder: Path, kind: str, settings: Any, shape: tuple[int, ...]) -> None:
        self.folder = folder / f"{kind}-{settings_key(VERSION, settings)}"
        self.shape = shape
        self._places: dict[str, tuple[Path, np.void]] = {}
        self._known: set[Path] = set()
        self._open_nothing()

    def _open_nothing(self) -> None:
        self._open_files: OrderedDict[Path, int] = OrderedDict()
        self._lock = threading.Lock()  # Threads share the open files; a map outlives its file.

    def fill(
        self,
        make: Callable[[Any], np.ndarray],
        items: Mapping[str, Any],
        description: str,
        processes: int | None = None,
    ) -> int:
        """Make the arrays that are not there yet, on all cores, with a progress bar.

        Args:
            make: Makes an array of counts of an item; can be pickled.
            items: What ``make`` is called with, by content hash (64 hexadecimal digits), for all
                arrays that are needed; can be pickled.
            description: Label of the progress bar.
            processes: None takes as many as there are cores.

        Returns:
            How many were made.

        Raises:
            UserError: an item cannot be read, or the cache cannot be written.
        """
        if not self._missing(items):
            return 0
        waiting = f"{self.folder}: waiting for this data, which another process prepares"
        with locked(self.folder.parent, f"{self.folder.name}.lock", waiting=waiting):
            missing = self._missing(items)
            if missing:
                self._make(make, missing, description, processes)
            return len(missing)

    def _missing(self, items: Mapping[str, Any]) -> dict[str, Any]:
        self._scan()
        return {key: item for key, item in items.items() if key not in self._places}

    def _make(
        self,
        make: Callable[[Any], np.ndarray],
        missing: Mapping[str, Any],
        description: str,
        processes: int | None,
    ) -> None:
        remove_stale_temporaries(self.folder)
        shards = _chunks(missing, max(1, _SHARD_CELLS // int(np.prod(self.shape))))
        processes = min(processes or os.cpu_count() or 1, len(shards))
        with progress() as bar:
            shown = bar.add_task(description, total=len(missing))
            with contextlib.closing(
                _write_shards(self.folder, make, shards, self.shape, processes)
            ) as written:
                for count in written:
                    bar.update(shown, advance=count)
        self._scan()

    def select(self, keys: Sequence[str]) -> "CachedArrays":
        """The arrays of some keys, all of which must be there, in that order."""
        return CachedArrays(self, list(keys))

    def read_into(self, key: str, out: np.ndarray) -> None:
        """Copy one array from its shard.

        Args:
            key: Content hash.
            out: Array of the cache's shape, of a type that holds the counts.

        Raises:
            UserError: the shard is damaged or gone.
        """
        path, record = self._places[key]
        try:
            start = int(record["offset"])
            aligned = start - start % mmap.ALLOCATIONGRANULARITY
            length = int(record["length"])
            with self._map(path, start - aligned + length, aligned) as window:
                data = np.frombuffer(window, np.uint8, length, start - aligned)
                intact = zlib.crc32(data.data) == record["crc"]
                if intact:
                    decode(data, record, out)
                del data
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: {_REMEDY.format(error)}") from error
        if not intact:
            raise UserError(f"{path}: {_REMEDY.format('its checksum is wrong')}")

    def itemsize(self, key: str) -> int:
        """Bytes per count of one array."""
        return int(self._places[key][1]["itemsize"])

    def stored_bytes(self, key: str) -> int:
        """Bytes that one array takes on disk."""
        return int(self._places[key][1]["length"]) + RECORD.itemsize

    def _map(self, path: Path, length: int, offset: int) -> mmap.mmap:
        with self._lock:
            if path not in self._open_files:
                self._open_files[path] = os.open(path, os.O_RDONLY)
                if len(self._open_files) > _OPEN_FILES:
                    os.close(self._open_files.popitem(last=False)[1])
            self._open_files.move_to_end(path)
            file = self._open_files[path]
            return mmap.mmap(file, length, access=mmap.ACCESS_READ, offset=offset)

    def __del__(self) -> None:
        for file in self._open_files.values():
            os.close(file)

    def _scan(self) -> None:
        """Take up the shards that came since the last look; damaged ones are made again."""
        for path in sorted(self.folder.glob("*.shard")):
            if path in self._known:
                continue
            try:
                records = read_index(path)
            except ValueError as error:
                console.print(f"{path}: {error}; making it again", soft_wrap=True)
                with contextlib.suppress(OSError):
                    path.unlink()
                continue
            except OSError as error:
                raise UserError(
                    f"{path}: cannot be read ({error.strerror or error}); choose a data.cache "
                    "folder that can be read and written"
                ) from error
            self._known.add(path)
            for record in records:
                self._places[bytes(record["key"]).hex()] = (path, record)

    def __getstate__(self) -> dict[str, Any]:
        """Without open files, so that other processes can have a copy."""
        return {k: v for k, v in self.__dict__.items() if k not in ("_open_files", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open_nothing()


_REMEDY = "damaged cache ({}); delete this file and repeat the command"


class CachedArrays:
    """Arrays of an `ArrayCache` as if they were stacked; what is read is only what is asked for.

    Args:
        cache: Where they are.
        keys: Content hash of each row.
    """

    def __init__(self, cache: ArrayCache, keys: list[str]) -> None:
        self._cache, self._keys = cache, keys
        self.dtype = np.dtype(f"u{max((cache.itemsize(key) for key in keys), default=1)}")

    def rows(self, rows_K: np.ndarray) -> "CachedArrays":
        """A stack of some of the arrays."""
        return CachedArrays(self._cache, [self._keys[row] for row in rows_K])

    def and_then(self, others: Sequence["CachedArrays"]) -> "CachedArrays":
        """A stack of these arrays, and of others of the same cache behind them."""
        assert all(other._cache.folder == self._cache.folder for other in others)
        keys = [key for stack in (self, *others) for key in stack._keys]
        return CachedArrays(self._cache, keys)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the stack."""
        return (len(self._keys), *self._cache.shape)

    @property
    def size(self) -> int:
        """Number of counts."""
        return len(self) * int(np.prod(self._cache.shape))

    @property
    def stored_bytes(self) -> int:
        """Bytes on disk."""
        return sum(self._cache.stored_bytes(key) for key in self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, rows: np.ndarray | slice | int) -> np.ndarray:
        """Some rows in RAM: an index array or slice gives a stack, an integer one array.

        Raises:
            UserError: the cache is damaged.
        """
        if isinstance(rows, int | np.integer):
            return self[np.array([rows])][0]
        chosen = np.arange(len(self))[rows]
        out = np.empty((len(chosen), *self._cache.shape), self.dtype)
        for row, array in zip(chosen, out, strict=True):
            self._cache.read_into(self._keys[row], array)
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype)


def _chunks(items: Mapping[str, Any], size: int) -> list[dict[str, Any]]:
    left = iter(items.items())
    return [dict(islice(left, size)) for _ in range(0, len(items), size)]


def _write_shards(
    folder: Path,
    make: Callable[[Any], np.ndarray],
    shards: list[dict[str, Any]],
    shape: tuple[int, ...],
    processes: int,
) -> Generator[int]:
    """Write all shards, in this process or in some that end with it; yields their lengths."""
    if processes == 1:
        for shard in shards:
            yield write_shard(folder, make, shard, shape)
        return
    executor = get_reusable_executor(max_workers=processes)
    written = [executor.submit(write_shard, folder, make, shard, shape) for shard in shards]
    try:
        for one in as_completed(written):
            yield one.result()
    finally:
        for one in written:
            one.cancel()
        executor.shutdown(wait=True)  # what is being written is finished, or cleared away
