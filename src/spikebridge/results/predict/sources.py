"""Where live events come from: an event camera, or another program over UDP, both by eventcv."""

import re
import time
from pathlib import Path
from typing import Any, Protocol

import eventcv
import numpy as np

from spikebridge.base.errors import UserError
from spikebridge.data.formats.columns import Columns, event_columns

_READ_MS = 5.0
_WAIT_MS = 100
_LARGEST_SENSOR = (1 << 15, 1 << 15)
_UDP = re.compile(r"udp:(.+:\d+)(?:/([1-9]\d*)x([1-9]\d*))?")
_CAMERA = re.compile(r"camera(?::(.+))?")


class LiveSource(Protocol):
    """A stream of events, as they come."""

    name: str
    sensor: tuple[int, int]
    """Width and height in pixels."""
    outside: int
    """Events outside the sensor so far; they are left out."""

    def read(self) -> Columns | None:
        """The next events after a few milliseconds; None where none came."""
        ...

    @property
    def lost(self) -> int | None:
        """Losses before the events reached this program; None where nobody counts them."""
        ...

    def close(self) -> None:
        """Release the device."""
        ...


class Camera:
    """The event camera of a serial number, or the first that is found.

    Raises:
        UserError: there is none, or it cannot be opened.
    """

    outside = 0

    def __init__(self, serial: str | None) -> None:
        try:
            if not eventcv.list_cameras():
                raise UserError(
                    "no event camera found; plug one in, and on Linux give access by udev rules"
                )
            self._camera: Any = eventcv.stream(serial, dt_ms=_READ_MS)
        except (RuntimeError, OSError, ValueError) as error:
            raise UserError(f"camera {serial or ''}: cannot be opened ({error})") from error
        self.name = f"{self._camera.name} {self._camera.serial}"
        self.sensor: tuple[int, int] = tuple(self._camera.sensor_size)

    def read(self) -> Columns | None:
        """The next 5 ms of events; None after 100 ms without."""
        stream = self._camera.read(timeout_ms=_WAIT_MS)
        return None if stream is None else _columns(stream.numpy())

    @property
    def lost(self) -> int:
        """Overflows of the driver's buffer."""
        return self._camera.n_overflows

    def close(self) -> None:
        """Release the camera."""
        self._camera.close()


class Udp:
    """Events that eventcv, aestream or SPIF send to an address, with time stamps or without.

    Events without time stamps take those of their arrival, spread over the few milliseconds of one
    reading. Time stamps have 32 bits: each 71.6 minutes the stream's clock is set back.

    Args:
        address: HOST:PORT to listen at; port 0 takes a free one.
        sensor: Width and height in pixels, which the format does not tell.

    Raises:
        UserError: the address is none of this machine's, or taken.
    """

    def __init__(self, address: str, sensor: tuple[int, int]) -> None:
        try:
            # As large as the format allows: eventcv would leave out the others without a word.
            self._receiver: Any = eventcv.UdpReceiver(address, _LARGEST_SENSOR)
        except (OSError, ValueError) as error:
            raise UserError(
                f"udp:{address}: cannot be listened at ({error}); give HOST:PORT of this machine"
            ) from error
        self.name, self.sensor, self.outside = f"udp:{self._receiver.address}", sensor, 0
        self.address: str = self._receiver.address
        self._stamped: bool | None = None
        self._first: tuple[Columns, int] | None = None
        self._until_us = _now_us()

    def read(self) -> Columns | None:
        """What came within some 5 to 20 ms; None where nothing came."""
        columns = _columns(self._receiver.recv(_READ_MS).numpy())
        since_us, self._until_us = self._until_us, _now_us()
        if not len(columns[2]):
            return None
        # Without time stamps eventcv numbers the events of each reading from 0 on.
        if columns[2][0] != 0:
            self._stamped = True
        elif self._stamped is None and self._first is None:
            self._first = columns, since_us  # The second reading tells if 0 was a time stamp.
            return None
        elif self._stamped is None:
            self._stamped = False
        if self._first is not None:
            (first, since_us), self._first = self._first, None
            columns = tuple(map(np.concatenate, zip(first, columns, strict=True)))
        x_N, y_N, t_N, polarity_N = columns
        if not self._stamped:
            t_N = np.linspace(since_us, self._until_us, len(t_N), endpoint=False).astype(np.int64)
        inside_N = (x_N < self.sensor[0]) & (y_N < self.sensor[1])
        if inside_N.all():
            return x_N, y_N, t_N, polarity_N
        self.outside += int((~inside_N).sum())
        return x_N[inside_N], y_N[inside_N], t_N[inside_N], polarity_N[inside_N]

    @property
    def lost(self) -> int | None:
        """Datagrams that the kernel threw away since the start; known on Linux."""
        port = f":{int(self.address.rsplit(':', 1)[1]):04X}"
        try:
            lines = [
                line.split()
                for table in ("udp", "udp6")
                for line in Path("/proc/net", table).read_text().splitlines()[1:]
            ]
        except OSError:
            return None
        return sum(int(line[-1]) for line in lines if line[1].endswith(port))

    def close(self) -> None:
        """Stop listening."""
        del self._receiver


def open_live(where: str, sensor: tuple[int, int] | None) -> LiveSource:
    """Open what ``--live`` names.

    Args:
        where: ``camera``, ``camera:SERIAL``, ``udp:HOST:PORT`` or ``udp:HOST:PORT/WIDTHxHEIGHT``.
        sensor: Width and height of the run's sensor; None where its recordings tell it.

    Raises:
        UserError: none of these, it cannot be opened, its sensor is not the run's, or nobody says
            which sensor sends over UDP.
    """
    if camera := _CAMERA.fullmatch(where):
        source: LiveSource = Camera(camera[1])
    elif udp := _UDP.fullmatch(where):
        given = (int(udp[2]), int(udp[3])) if udp[2] else sensor
        if given is None:
            raise UserError(
                f"{where}: this run's recordings tell their sensor, events over UDP do not; append "
                "/WIDTHxHEIGHT in pixels"
            )
        source = Udp(udp[1], given)
    else:
        raise UserError(
            f"{where!r}: no live source; expected camera, camera:SERIAL, udp:HOST:PORT or "
            "udp:HOST:PORT/WIDTHxHEIGHT"
        )
    if sensor is not None and source.sensor != sensor:
        source.close()
        raise UserError(
            f"{source.name}: a sensor of {source.sensor[0]}×{source.sensor[1]} pixels, but the run "
            f"was trained on {sensor[0]}×{sensor[1]}; train a run for this one"
        )
    return source


def _columns(events_N4: np.ndarray) -> Columns:
    x_N, y_N, t_N, p_N = events_N4.T
    return event_columns(x_N, y_N, t_N, p_N)


def _now_us() -> int:
    return time.monotonic_ns() // 1000
