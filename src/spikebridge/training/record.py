"""What a run writes while it trains: JSONL and TensorBoard."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from spikebridge.files import json_text, writing_failed

_HELD_RECORDS = 20


class Recorder:
    """Appends one JSON object a line to ``metrics.jsonl``, and its scalars to TensorBoard.

    Records may hold tensors. They are read, for which a host has to wait for its device, when 20
    have come together.

    Args:
        folder: The run's folder.
        position: Length in bytes to which the file is cut back when a run is resumed.
        step: Global step from which TensorBoard forgets.
    """

    def __init__(self, folder: Path, position: int = 0, step: int = 0) -> None:
        self._path = folder / "metrics.jsonl"
        self._held: list[dict[str, Any]] = []
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
        self._held.append(record)
        if len(self._held) >= _HELD_RECORDS:
            self.flush()

    def flush(self) -> None:
        """Write all records that have come."""
        held, self._held = self._held, []
        with self._refusing_failures():
            for record in map(_read, held):
                prefix = record.get("split", "train")
                self._file.write(json_text(record, indent=None).encode())
                for name, value in _scalars(record):
                    if name not in ("step", "epoch", "batch"):
                        self._board.add_scalar(f"{prefix}/{name}", value, record["step"])
            self._file.flush()

    def position(self) -> int:
        """Length of the file in bytes with everything written."""
        self.flush()
        return self._file.tell()

    def close(self) -> None:
        """Write everything out."""
        with self._refusing_failures(), closing(self._board), self._file:
            self.flush()

    @contextmanager
    def _refusing_failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise writing_failed(self._path, error) from error


class NoRecorder:
    """Writes nothing: for all processes of a run but its first."""

    def write(self, record: dict[str, Any]) -> None:
        """Forget the record."""

    def flush(self) -> None:
        """Nothing is held."""

    def position(self) -> int:
        """Nothing is written."""
        return 0

    def close(self) -> None:
        """Nothing is open."""


def _read(value: Any) -> Any:
    """The same with numbers in place of tensors."""
    if isinstance(value, dict):
        return {name: _read(part) for name, part in value.items()}
    return value.tolist() if isinstance(value, Tensor) else value


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
