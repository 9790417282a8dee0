"""What a run writes while it trains: JSONL and TensorBoard."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from spikebridge.files import writing_failed


class Recorder:
    """Appends one JSON object a line to ``metrics.jsonl``, and its scalars to TensorBoard.

    Args:
        folder: The run's folder.
        position: Length in bytes to which the file is cut back when a run is resumed.
        step: Global step from which TensorBoard forgets.
    """

    def __init__(self, folder: Path, position: int = 0, step: int = 0) -> None:
        self._path = folder / "metrics.jsonl"
        with self._refusing_failures():
            self._file = open(self._path, "ab")  # noqa: SIM115
            self._file.truncate(position)
            self._file.seek(0, os.SEEK_END)
            self._board = SummaryWriter(folder / "tensorboard", purge_step=step if step else None)

    def write(self, record: dict[str, Any]) -> None:
        """Log one record, which has a key `step`.

        Raises:
            UserError: the disk is full.
        """
        prefix = record.get("split", "train")
        with self._refusing_failures():
            self._file.write(json.dumps(record).encode() + b"\n")
            for name, value in _scalars(record):
                if name not in ("step", "epoch", "batch"):
                    self._board.add_scalar(f"{prefix}/{name}", value, record["step"])

    def position(self) -> int:
        """Length of the file in bytes with everything written."""
        with self._refusing_failures():
            self._file.flush()
        return self._file.tell()

    def close(self) -> None:
        """Write everything out."""
        with self._refusing_failures():
            try:
                self._file.close()
            finally:
                self._board.close()

    @contextmanager
    def _refusing_failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise writing_failed(self._path, error) from error


def _scalars(record: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found = []
    for name, value in record.items():
        if isinstance(value, dict):
            found += _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, list):
            found += [(f"{prefix}{name}/{i}", v) for i, v in enumerate(value)]
        elif isinstance(value, int | float):
            found.append((prefix + name, value))
    return found
