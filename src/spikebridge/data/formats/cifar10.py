"""CIFAR-10's photos as they are published: pickled batches, or batches of binary records."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from spikebridge.base.errors import UserError

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
FOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin")

_SHAPE_CHW = (3, 32, 32)
_RECORD_BYTES = 1 + 3 * 32 * 32


def is_batch(path: str | os.PathLike[str]) -> bool:
    """Whether a path has the name of a published batch."""
    file = Path(path)
    return file.name.removesuffix(".bin") in BATCHES


def find_batches(root: Path) -> list[Path]:
    """The batches in a folder, or in the folder below it that CIFAR-10's archive unpacks to.

    Of the pickled and the binary form the pickled one is taken where both are there.
    """
    for folder in (root, *(root / name for name in FOLDERS)):
        for suffix in ("", ".bin"):
            found = [folder / (name + suffix) for name in BATCHES]
            if any(file.is_file() for file in found):
                return [file for file in found if file.is_file()]
    return []


def read_batch(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Labels and photos of one batch.

    A pickled batch is read by an unpickler that knows arrays of bytes, strings, numbers, lists and
    dictionaries, and refuses all else.

    Returns:
        label_N (0 to 9, in the order of `CLASSES`) and photos_NHWC, RGB, uint8.

    Raises:
        UserError: missing, truncated, not a batch of CIFAR-10, or a pickle of other things.
    """
    file = Path(path)
    data = _bytes(file)
    label_N, rows_NP = _binary(file, data) if file.suffix == ".bin" else _pickled(file, data)
    if len(label_N) and not 0 <= label_N.min() <= label_N.max() < len(CLASSES):
        raise UserError(f"{file}: has labels beyond 0 to 9; fetch CIFAR-10 (not CIFAR-100) again")
    photos_NCHW = rows_NP.reshape(-1, *_SHAPE_CHW)
    return label_N, np.ascontiguousarray(photos_NCHW.transpose(0, 2, 3, 1))


def check_class_names(folder: Path) -> None:
    """Compare the published list of class names beside the batches, where it is there.

    Raises:
        UserError: the list is another one, damaged, or cannot be read.
    """
    names: tuple[str, ...] | None = None
    if (text := folder / "batches.meta.txt").is_file():
        lines = _bytes(text).decode("utf-8-sig", errors="replace").splitlines()
        names = tuple(line.strip() for line in lines if line.strip())
    elif (meta := folder / "batches.meta").is_file():
        listed = _unpickled(meta, _bytes(meta)).get("label_names")
        if not isinstance(listed, list) or not all(isinstance(n, str | bytes) for n in listed):
            raise UserError(f"{meta}: lists no class names; fetch CIFAR-10 again")
        names = tuple(map(_text, listed))
    if names not in (None, CLASSES):
        raise UserError(
            f"{folder}: the batches are of other classes ({', '.join(names or ())[:60]}); "
            "fetch CIFAR-10"
        )


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(
            f"{file}: cannot be read ({error.strerror or error}); check data.photos"
        ) from error


def _binary(file: Path, data: bytes) -> tuple[np.ndarray, np.ndarray]:
    if not data or len(data) % _RECORD_BYTES:
        raise UserError(
            f"{file}: truncated, {len(data)} bytes are not records of {_RECORD_BYTES}; fetch it "
            "again"
        )
    records_NB = np.frombuffer(data, np.uint8).reshape(-1, _RECORD_BYTES)
    return records_NB[:, 0].astype(np.int64), records_NB[:, 1:]


def _pickled(file: Path, data: bytes) -> tuple[np.ndarray, np.ndarray]:
    batch = _unpickled(file, data)
    rows_NP, labels = batch.get("data"), batch.get("labels")
    if (
        not isinstance(rows_NP, np.ndarray)
        or not isinstance(labels, list)
        or rows_NP.shape != (len(labels), _RECORD_BYTES - 1)
        or not all(isinstance(label, int) for label in labels)
    ):
        raise UserError(
            f"{file}: not a batch of CIFAR-10 (data of 3,072 bytes a photo and labels); fetch it "
            "again"
        )
    return np.array(labels, np.int64), rows_NP


def _unpickled(file: Path, data: bytes) -> dict[str, Any]:
    try:
        value = _Unpickler(io.BytesIO(data), encoding="bytes").load()
        return {_text(key): item for key, item in value.items()}
    except Exception as error:  # pickle raises a dozen kinds on damaged files
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(
            f"{file}: not a readable batch of CIFAR-10 ({reason}); fetch it again"
        ) from error


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _byte_type(code: str | bytes, *_: Any) -> np.dtype:
    if _text(code) != "u1":
        raise pickle.UnpicklingError(f"holds an array of {_text(code)}")
    return np.dtype(np.uint8)


class _Unpickler(pickle.Unpickler):
    """Knows nothing but NumPy's arrays of bytes."""

    _KNOWN = {
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): _byte_type,
    }

    def find_class(self, module: str, name: str) -> Any:
        """The few names that a published batch needs."""
        if (module, name) not in self._KNOWN:
            raise pickle.UnpicklingError(f"asks for {module}.{name}, which a batch does not need")
        return self._KNOWN[module, name]
