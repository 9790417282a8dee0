"""What a run writes while it trains: JSONL and TensorBoard."""

import math
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from spikebridge.base.errors import UserError
from spikebridge.base.files import json_text, writing_failed
from spikebridge.run_folder import RunFolder
from spikebridge.training.packing import Packed, unpacked

_HELD_RECORDS = 20


class Recorder:
    """Appends one JSON object a line to ``metrics.jsonl``, and its scalars to TensorBoard.

    What a step computed is read, for which a host has to wait for its device, when 20 steps have
    come together; then a loss that is not finite is noticed, too.

    Args:
        folder: The run's folder.
        position: Length in bytes to which the file is cut back when a run is resumed.
        step: Global step from which TensorBoard forgets.
    """

    def __init__(self, folder: Path, position: int = 0, step: int = 0) -> None:
        self._path = RunFolder(folder).metrics_file
        self._held: list[tuple[dict[str, Any], Packed | None]] = []
        with self._refusing_failures():
            self._file = open(self._path, "ab")  # noqa: SIM115
            if (there := self._file.tell()) < position:
                self._file.close()
                raise UserError(
                    f"{self._path}: {position - there} bytes are missing of what the checkpoint "
                    "counts on, after a reboot perhaps; delete the run's folder and start again"
                )
            self._file.truncate(position)
            self._file.seek(0, os.SEEK_END)
            self._board = SummaryWriter(folder / "tensorboard", purge_step=step if step else None)

    def write(self, record: dict[str, Any], computed: Packed | None = None) -> None:
        """Log one record, which has a key `step`, and what was computed beside it.

        Raises:
            UserError: the disk is full, or a loss of the last steps is not finite.
        """
        self._held.append((record, computed))
        if len(self._held) >= _HELD_RECORDS:
            self.flush()

    def flush(self) -> None:
        """Write all records that have come.

        Raises:
            UserError: as `write`; what came before the loss that is not finite is written.
        """
        held, self._held = self._held, []
        found = iter(unpacked([computed for _, computed in held if computed is not None]))
        with self._refusing_failures():
            for record, computed in held:
                record = record if computed is None else {**record, **next(found)}
                _require_finite(record)
                prefix = record.get("split", "train")
                self._file.write(json_text(record, indent=None).encode())
                for name, value in _scalars(record):
                    if name not in ("step", "epoch", "batch"):
                        self._board.add_scalar(f"{prefix}/{name}", value, record["step"])
            self._file.flush()

    def position(self) -> int:
        """Length of the file in bytes with everything written, to the disk too."""
        self.flush()
        with self._refusing_failures():
            os.fsync(self._file.fileno())
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

    def write(self, record: dict[str, Any], computed: Packed | None = None) -> None:
        """Forget the record."""

    def flush(self) -> None:
        """Nothing is held."""

    def position(self) -> int:
        """Nothing is written."""
        return 0

    def close(self) -> None:
        """Nothing is open."""


def _require_finite(record: dict[str, Any]) -> None:
    losses = _scalars(record.get("losses", {"validation": record.get("loss", 0.0)}))
    wrong = [(name, value) for name, value in losses if not math.isfinite(value)]
    if wrong:  # The total comes first, and says nothing where a term does.
        name, value = wrong[-1]
        raise UserError(
            f"training diverged: the loss {name!r} is {value} at step {record['step']}; lower "
            "train.lr or that loss's weight; the last checkpoint is from before it"
        )


def _scalars(record: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found = []
    for name, value in record.items():
        if isinstance(value, dict):
            found += _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, list):
            found += _scalars({str(i): v for i, v in enumerate(value)}, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            found.append((prefix + name, value))
    return found
