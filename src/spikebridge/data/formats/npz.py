"""Recordings in NumPy's archive: x, y, t and p, or N-ImageNet's ``event_data``."""

import math
import zipfile
from pathlib import Path

import numpy as np

from spikebridge.base.errors import UserError
from spikebridge.data.formats.columns import Columns, event_columns

N_IMAGENET_SENSOR = (640, 480)

_EVENT_DATA = "event_data.npy"
_LARGEST_GROWTH, _ALWAYS_ALLOWED = 64, 1 << 26
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npz(file: Path) -> tuple[Columns, tuple[int, int] | None]:
    """Columns of a recording, and the sensor's width and height where the file tells them.

    Raises:
        UserError: no such arrays, damaged ones, or ones that inflate to far more than the file.
    """
    limit = _ALWAYS_ALLOWED + _LARGEST_GROWTH * file.stat().st_size
    try:
        with zipfile.ZipFile(file) as archive:
            if _EVENT_DATA in archive.namelist():
                data_N = _array(archive, _EVENT_DATA, limit)
                return event_columns(*(data_N[name] for name in "xytp")), N_IMAGENET_SENSOR
            columns = event_columns(*(_array(archive, f"{name}.npy", limit) for name in "xytp"))
            return columns, _sensor(archive)
    except Exception as error:  # zipfile and the array header raise a dozen kinds
        reason = " ".join(str(error).split())[:240] or type(error).__name__
        raise UserError(
            f"{file}: not a readable recording ({reason}); expected the arrays x, y, t and p, t in "
            "µs (or in seconds with fractions) and p 0 and 1 or -1 and 1"
        ) from error


def _sensor(archive: zipfile.ZipFile) -> tuple[int, int] | None:
    names = ("width.npy", "height.npy")
    if not set(names) <= set(archive.namelist()):
        return None
    width, height = (int(_array(archive, name, _ALWAYS_ALLOWED).item()) for name in names)
    return width, height


def _array(archive: zipfile.ZipFile, name: str, limit: int) -> np.ndarray:
    """One array of at most so many bytes."""
    member = archive.getinfo(name)
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed in a way that NumPy never uses")
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in _HEADERS:
            raise ValueError(f"{name} is of an unknown version")
        shape, fortran, dtype = _HEADERS[version](stream)
        if fortran and len(shape) > 1 or dtype.hasobject:
            raise ValueError(f"{name} is no plain array")
        size = math.prod(shape) * dtype.itemsize
        if size > limit:
            raise ValueError(f"{name} inflates to {size} bytes")
        data = stream.read(size + 1)
        if len(data) != size:
            raise ValueError(f"{name} has shape {shape}, but not its data")
    return np.frombuffer(data, dtype).reshape(shape)
