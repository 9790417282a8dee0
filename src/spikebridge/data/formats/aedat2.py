"""AEDAT 2.0 of a DVS128 camera: CIFAR10-DVS, and recordings of jAER."""

import re
from pathlib import Path
from typing import BinaryIO

import numpy as np

from spikebridge.base.errors import UserError

DVS128_SENSOR = (128, 128)
VERSION = b"#!AER-DAT2.0"

_END = b"#End Of ASCII Header"
_CHIP = re.compile(rb"AEChip:\s*(\S+)")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_LONGEST_LINE = 1 << 16
_EVENT = np.dtype([("address", ">u4"), ("time", ">u4")])
_SIDE = 128
_SEVEN_BITS = 0x7F
_SPECIAL = ~0x7FFF
_WRAP = 1 << 32


def is_dvs128(file: Path) -> bool:
    """Whether a file is AEDAT 2.0 of a DVS128.

    A header that names no camera is taken for a DVS128's where all addresses have 16 bits; those
    of the DAVIS family have 32.
    """
    with open(file, "rb") as stream:
        header = read_header(stream)
        if not header.startswith(VERSION):
            return False
        if chip := _CHIP.search(header):
            return b"DVS128" in chip[1].upper()
        data = stream.read(1 << 16)
    count = len(data) // _EVENT.itemsize
    return bool((np.frombuffer(data, _EVENT, count)["address"] <= 0xFFFF).all())


def read_dvs128(file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Events of an AEDAT 2.0 file of a DVS128.

    After the header each event is a big-endian address and time stamp of 32 bits. The picture
    stands as jAER shows it: column 127 − x, row 127 − y, ON where bit 0 is 0. Special events,
    external triggers say, are left out, and a time stamp that passes 2³² µs goes on.

    Returns:
        x_N and y_N (int32), t_N (int64, µs) and polarity_N (True for ON).

    Raises:
        UserError: the file ends inside an event.
    """
    with open(file, "rb") as stream:
        read_header(stream)
        data = stream.read()
    if len(data) % _EVENT.itemsize:
        raise UserError(
            f"{file}: truncated, {len(data)} bytes of events are not a multiple of 8; "
            "fetch the file again"
        )
    events_N = np.frombuffer(data, _EVENT)
    address_N = events_N["address"].astype(np.int64)
    t_N = events_N["time"].astype(np.int64)
    t_N += np.cumsum(np.diff(t_N, prepend=t_N[:1]) < -_WRAP // 2) * _WRAP
    pixel_N = (address_N & _SPECIAL) == 0
    address_N, t_N = address_N[pixel_N], t_N[pixel_N]
    x_N = _SIDE - 1 - (address_N >> 1 & _SEVEN_BITS)
    y_N = _SIDE - 1 - (address_N >> 8 & _SEVEN_BITS)
    return x_N.astype(np.int32), y_N.astype(np.int32), t_N, address_N & 1 == 0


def read_header(stream: BinaryIO) -> bytes:
    """The text before the events; the stream is left behind it.

    A line of it begins with '#' and holds no control characters, as a first event that begins with
    the byte of '#' does; jAER ends a header by a line of its own.
    """
    header = bytearray()
    while True:
        start = stream.tell()
        line = stream.readline(_LONGEST_LINE)
        if not line.startswith(b"#") or _CONTROL.search(line):
            stream.seek(start)
            return bytes(header)
        header += line
        if line.startswith(_END):
            return bytes(header)
