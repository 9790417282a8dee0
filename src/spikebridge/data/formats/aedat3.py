"""AEDAT 3.1 of cAER: DVS Gesture, and recordings of the DVS128 and DAVIS cameras."""

import re
import struct
from pathlib import Path

import numpy as np

from spikebridge.base.errors import UserError
from spikebridge.data.formats.columns import Columns

_VERSION = b"#!AER-DAT3."
_KNOWN = b"#!AER-DAT3.1"
_END = b"#!END-HEADER"
_LONGEST_HEADER = 1 << 20
_FORMAT = re.compile(rb"^#Format:\s*([^\r\n]*)", re.MULTILINE)
_SOURCE = re.compile(rb"^#Source\s+\d+:\s*([A-Za-z0-9]+)", re.MULTILINE)
_SENSORS = {
    "DVS128": (128, 128),
    "DAVIS128": (128, 128),
    "DAVIS208": (208, 192),
    "DAVIS240": (240, 180),
    "DAVIS346": (346, 260),
    "DAVIS640": (640, 480),
}
_PACKET = struct.Struct("<hhiiiiii")
"""Type, source, size of an event, place of its time stamp, overflows, capacity, number, valid."""
_POLARITY_EVENT = 1
_EVENT = np.dtype([("data", "<u4"), ("time", "<i4")])
_FIFTEEN_BITS = 0x7FFF


def is_aedat3(file: Path) -> bool:
    """Whether a file is AEDAT 3."""
    with open(file, "rb") as stream:
        return stream.read(len(_VERSION)) == _VERSION


def read_aedat3(file: Path) -> tuple[Columns, tuple[int, int] | None]:
    """Columns of the polarity events, and the size of the camera that the header names.

    Other events, pictures and inertia say, and those that are marked invalid are left out.
    Addresses count from the upper left.

    Raises:
        UserError: it is not AEDAT 3.1, its packets are compressed, or it ends inside one.
    """
    data = file.read_bytes()
    end = data.find(_END, 0, _LONGEST_HEADER)
    place = data.find(b"\n", end, _LONGEST_HEADER) + 1
    header = data[:place]
    form = _FORMAT.search(header)
    if not header.startswith(_KNOWN) or end < 0 or not place:
        line = data[: len(_KNOWN)].decode("ascii", "replace")
        raise UserError(
            f"{file}: of AEDAT 3 only 3.1 with a whole header is known, not {line!r}; export the "
            "recording as AEDAT 2.0, AEDAT 4 or CSV"
        )
    if form and form[1].strip() != b"RAW":
        raise UserError(
            f"{file}: AEDAT 3.1 of the format {form[1].decode('ascii', 'replace')!r}, and only RAW "
            "is known; export it uncompressed, or as CSV"
        )
    pieces, times = [np.empty(0, _EVENT)], [np.empty(0, np.int64)]
    while place < len(data):
        body = place + _PACKET.size
        fields = _PACKET.unpack_from(data, place) if body <= len(data) else None
        kind, _, size, _, overflows, capacity, number, _ = fields or (0,) * 8
        next_place = body + size * capacity
        if fields is None or next_place > len(data):
            raise UserError(
                f"{file}: truncated, its last packet has {len(data) - place} bytes; fetch the file "
                "again"
            )
        if min(size, capacity, overflows) < 0 or not 0 <= number <= capacity:
            raise UserError(f"{file}: damaged at byte {place}; fetch the file again")
        if kind == _POLARITY_EVENT:
            if size != _EVENT.itemsize:
                raise UserError(
                    f"{file}: polarity events of {size} bytes at byte {place}; fetch the file again"
                )
            events_N = np.frombuffer(data, _EVENT, number, body)
            pieces.append(events_N)
            times.append(events_N["time"].astype(np.int64) + (overflows << 31))
        place = next_place
    events_N, t_N = np.concatenate(pieces), np.concatenate(times)
    valid_N = events_N["data"] & 1 == 1
    bits_N, t_N = events_N["data"][valid_N], t_N[valid_N]
    x_N, y_N = (bits_N >> 17 & _FIFTEEN_BITS), (bits_N >> 2 & _FIFTEEN_BITS)
    columns = x_N.astype(np.int32), y_N.astype(np.int32), t_N, bits_N >> 1 & 1 == 1
    return columns, _sensor(header)


def _sensor(header: bytes) -> tuple[int, int] | None:
    source = _SOURCE.search(header)
    name = source[1].decode().upper() if source else ""
    return next((size for known, size in _SENSORS.items() if name.startswith(known)), None)
