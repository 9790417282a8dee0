"""The columns of a recording, from whatever numbers a file keeps them in."""

import numpy as np

Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""x_N and y_N (int32), t_N (int64, µs) and polarity_N (True for ON)."""

_INT32 = np.iinfo(np.int32)
_LARGEST = 1 << 62


def event_columns(x: np.ndarray, y: np.ndarray, t: np.ndarray, p: np.ndarray) -> Columns:
    """Columns of arrays of any shape and type, ON where p is positive.

    An address beyond int32 becomes the nearest that int32 holds: off any sensor all the same.

    Raises:
        ValueError: they differ in length or are no numbers, an address is no whole number, or a
            time stamp is not finite.
    """
    x_N, y_N, t_N, p_N = (np.asarray(column).ravel() for column in (x, y, t, p))
    if not len(x_N) == len(y_N) == len(t_N) == len(p_N):
        raise ValueError("the columns differ in length")
    if any(column_N.dtype.kind not in "biuf" for column_N in (x_N, y_N, t_N, p_N)):
        raise ValueError("a column holds no numbers")
    return _address(x_N), _address(y_N), _time(t_N), p_N > 0


def _address(column_N: np.ndarray) -> np.ndarray:
    if column_N.dtype.kind == "f" and not (column_N == np.floor(column_N)).all():
        raise ValueError("an address is no whole number")
    if not np.can_cast(column_N.dtype, np.int32):
        column_N = column_N.clip(_INT32.min, _INT32.max)
    return column_N.astype(np.int32)


def _time(t_N: np.ndarray) -> np.ndarray:
    if (t_N.dtype.kind == "f" or t_N.dtype == np.uint64) and not (abs(t_N) < _LARGEST).all():
        raise ValueError("a time stamp is not finite, or far too large")
    return t_N.astype(np.int64)
