"""The columns of a recording, from whatever numbers a file keeps them in: one rule for all readers.

Time stamps with fractions are seconds, whole ones microseconds. Polarity is 0 and 1, or −1 and 1.
"""

from collections.abc import Sequence

import numpy as np

Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""x_N and y_N (int32), t_N (int64, µs) and polarity_N (True for ON)."""

ORDERS = ("txyp", "xytp", "xypt")
"""Of columns without names, as EV-IMO, rpg and v2e, MVSEC, and Metavision write them."""
SORTED_WITHIN_US = 1000
"""Events that come later than this many µs are not put in order: their clock is wrong."""

_NAMES = {
    "x": ("x", "xs", "x_coordinate", "x_coordinates", "x_pos", "col", "column", "u"),
    "y": ("y", "ys", "y_coordinate", "y_coordinates", "y_pos", "row", "v"),
    "t": ("t", "ts", "t_us", "time", "time_us", "timestamp", "timestamps", "timestamp_us"),
    "p": ("p", "ps", "pol", "polarity", "polarities"),
}
_INT32 = np.iinfo(np.int32)
_LARGEST = 1 << 62
_LARGEST_ADDRESS = (1 << 16) - 1
_LONGEST_IN_SECONDS = 3600
_SHOWN = 4


def event_columns(x: np.ndarray, y: np.ndarray, t: np.ndarray, p: np.ndarray) -> Columns:
    """Columns of arrays of any shape and type.

    An address beyond int32 becomes the nearest that int32 holds: off any sensor all the same.

    Raises:
        ValueError: they differ in length or are no numbers, an address is no whole number, a time
            stamp is not finite, time stamps in seconds last for hours, or polarity is neither 0 and
            1 nor −1 and 1.
    """
    x_N, y_N, t_N, p_N = (np.asarray(column).ravel() for column in (x, y, t, p))
    if not len(x_N) == len(y_N) == len(t_N) == len(p_N):
        raise ValueError("the columns differ in length")
    if any(column_N.dtype.kind not in "biuf" for column_N in (x_N, y_N, t_N, p_N)):
        raise ValueError("a column holds no numbers")
    return _address(x_N), _address(y_N), _time(t_N), _polarity(p_N)


def places_of(names: Sequence[str]) -> dict[str, int] | None:
    """Where x, y, t and p are among names that files give them; None where one is not, or twice."""
    plain = [name.strip(" \t\"'").lower() for name in names]
    places = {key: [i for i, n in enumerate(plain) if n in _NAMES[key]] for key in _NAMES}
    if any(len(found) != 1 for found in places.values()):
        return None
    return {key: found[0] for key, found in places.items()}


def unnamed_columns(table_N4: np.ndarray) -> Columns:
    """Columns of a table without names: of the `ORDERS` that its numbers allow, the likeliest.

    An order is allowed where polarity is one, addresses are whole and below 65536, and time does
    not run backwards by much, as addresses below 1000 that are taken for it never do. Of several
    orders, the one in which the fewest events come late is taken, then the first.

    Raises:
        ValueError: none is allowed. One that is, but for the time, is returned all the same.
    """
    allowed, backwards, wrong = [], [], []
    for order in ORDERS:
        try:
            columns = event_columns(**{name: table_N4[:, i] for i, name in enumerate(order)})
            _check_addresses(*columns[:2])
        except ValueError as error:
            wrong.append(f"as {' '.join(order)}, {error}")
            continue
        late_N = lateness(columns[2])
        if (late_N <= SORTED_WITHIN_US).all():
            allowed.append((np.count_nonzero(late_N), columns))
        else:
            backwards.append(columns)
    if allowed:
        return min(allowed, key=lambda one: one[0])[1]
    if len(backwards) == 1:
        return backwards[0]
    reason = "time runs backwards in each that its numbers allow" if backwards else wrong[0]
    raise ValueError(f"its columns are in no known order ({reason})")


def lateness(t_N: np.ndarray) -> np.ndarray:
    """By how much each event is earlier than the latest before it, or 0, in µs (uint64)."""
    # Unsigned, so that the widest difference does not overflow.
    return np.maximum.accumulate(t_N).astype(np.uint64) - t_N.astype(np.uint64)


def _check_addresses(*columns: np.ndarray) -> None:
    for column_N in columns:
        if not 0 <= column_N.min(initial=0) <= column_N.max(initial=0) <= _LARGEST_ADDRESS:
            raise ValueError("an address is negative or above 65535")


def _address(column_N: np.ndarray) -> np.ndarray:
    if column_N.dtype.kind == "f" and not (column_N == np.floor(column_N)).all():
        raise ValueError("an address is no whole number")
    if not np.can_cast(column_N.dtype, np.int32):
        column_N = column_N.clip(_INT32.min, _INT32.max)
    return column_N.astype(np.int32)


def _time(t_N: np.ndarray) -> np.ndarray:
    if (t_N.dtype.kind == "f" or t_N.dtype == np.uint64) and not (abs(t_N) < _LARGEST).all():
        raise ValueError("a time stamp is not finite, or far too large")
    if t_N.dtype.kind != "f" or (t_N == np.floor(t_N)).all():
        return t_N.astype(np.int64)
    t_N = t_N.astype(np.float64)
    if (lasts := t_N.max() - t_N.min()) > _LONGEST_IN_SECONDS:
        raise ValueError(
            f"time stamps with fractions are seconds, but these last {lasts:.0f} s: write whole "
            "microseconds"
        )
    return np.rint(t_N * 1e6).astype(np.int64)


def _polarity(p_N: np.ndarray) -> np.ndarray:
    on_N = p_N == 1
    if not (on_N | (p_N == 0)).all() and not (on_N | (p_N == -1)).all():
        values = np.unique(p_N)
        shown = ", ".join(f"{value:g}" for value in values[:_SHOWN].tolist())
        more = ", …" if len(values) > _SHOWN else ""
        raise ValueError(f"polarity is {shown}{more}, but must be 0 and 1, or -1 and 1")
    return on_N
