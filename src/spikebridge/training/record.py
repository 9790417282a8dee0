"""What a run writes while it trains: JSONL and TensorBoard."""

import json
import os
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter


class Recorder:
    """Appends one JSON object a line to ``metrics.jsonl``, and its scalars to TensorBoard.

    Args:
        folder: The run's folder.
        position: Length in bytes to which the file is cut back when a run is resumed.
        step: Global step from which TensorBoard forgets.
    """

    def __init__(self, folder: Path, position: int = 0, step: int = 0) -> None:
        path = folder / "metrics.jsonl"
        self._file = open(path, "ab")  # noqa: SIM115
        self._file.truncate(position)
        self._file.seek(0, os.SEEK_END)
        self._board = SummaryWriter(folder / "tensorboard", purge_step=step if step else None)

    def write(self, record: dict[str, Any]) -> None:
        """Log one record, which has a key `step`."""
        self._file.write(json.dumps(record).encode() + b"\n")
        prefix = record.get("split", "train")
        for name, value in _scalars(record):
            if name not in ("step", "epoch", "batch"):
                self._board.add_scalar(f"{prefix}/{name}", value, record["step"])

    def position(self) -> int:
        """Length of the file in bytes with everything written."""
        self._file.flush()
        return self._file.tell()

    def close(self) -> None:
        """Write everything out."""
        self._file.close()
        self._board.close()


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
