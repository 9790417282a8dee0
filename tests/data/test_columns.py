"""What numbers mean is one rule, whatever file they come from: units of time, polarity, order."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from factories import as_rows, refused
from spikebridge.data.events import read_events
from spikebridge.data.formats.columns import event_columns, lateness, unnamed_columns

X, Y = np.array([3, 5, 5, 33]), np.array([4, 6, 6, 0])
T_US, ON = np.array([1, 100_000, 100_000, 300_001]), np.array([1, 0, 1, 0])
ROWS = list(zip(X.tolist(), Y.tolist(), T_US.tolist(), ON.tolist(), strict=True))
SENSOR = (34, 34)


def _npz(file: Path, t: np.ndarray, p: np.ndarray) -> None:
    np.savez(file, x=X, y=Y, t=t, p=p)


def _npz_of_n_imagenet(file: Path, t: np.ndarray, p: np.ndarray) -> None:
    data_N = np.zeros(4, [("x", "<u2"), ("y", "<u2"), ("t", t.dtype), ("p", p.dtype)])
    data_N["x"], data_N["y"], data_N["t"], data_N["p"] = X, Y, t, p
    np.savez(file, event_data=data_N)


def _mat(file: Path, t: np.ndarray, p: np.ndarray) -> None:
    columns = {"x": X, "y": Y, "ts": t, "p": p}
    savemat(file, {name: column[:, None] for name, column in columns.items()})


def _h5(file: Path, t: np.ndarray, p: np.ndarray) -> None:
    with h5py.File(file, "w") as h5:
        for name, column in {"x": X, "y": Y, "t": t, "p": p}.items():
            h5[f"events/{name}"] = column


def _h5_table(file: Path, t: np.ndarray, p: np.ndarray) -> None:
    with h5py.File(file, "w") as h5:
        h5["events"] = np.stack([t, X, Y, p], 1, dtype=np.float64)


def _txt(file: Path, t: np.ndarray, p: np.ndarray) -> None:
    np.savetxt(file, np.stack([t, X, Y, p], 1), "%.16g")


def _csv(file: Path, t: np.ndarray, p: np.ndarray) -> None:
    table = np.stack([X, Y, t, p], 1)
    np.savetxt(file, table, "%.16g", delimiter=",", header="x,y,t,p", comments="")


WRITERS: dict[str, tuple[str, Callable[[Path, np.ndarray, np.ndarray], None]]] = {
    "npz": ("a.npz", _npz),
    "npz of N-ImageNet": ("a.npz", _npz_of_n_imagenet),
    "mat": ("a.mat", _mat),
    "h5": ("a.h5", _h5),
    "h5, table": ("a.h5", _h5_table),
    "txt": ("a.txt", _txt),
    "csv": ("a.csv", _csv),
}
every_format = pytest.mark.parametrize(("name", "write"), WRITERS.values(), ids=WRITERS)


@every_format
def test_time_stamps_with_fractions_are_seconds(
    tmp_path: Path, name: str, write: Callable[..., None]
) -> None:
    for start in (0, 1_506_119_776):
        write(tmp_path / name, start + T_US / 1e6, ON)
        expected = [(x, y, t + start * 1_000_000, p) for x, y, t, p in ROWS]
        assert as_rows(read_events(tmp_path / name, (640, 480))) == expected


@every_format
def test_whole_floats_are_microseconds(
    tmp_path: Path, name: str, write: Callable[..., None]
) -> None:
    write(tmp_path / name, T_US.astype(np.float64), ON)
    assert as_rows(read_events(tmp_path / name, (640, 480))) == ROWS


@every_format
def test_fractions_of_microseconds_are_refused(
    tmp_path: Path, name: str, write: Callable[..., None]
) -> None:
    write(tmp_path / name, T_US + 0.25, ON)
    refused(lambda: read_events(tmp_path / name), tmp_path / name, "fractions", "microseconds")


@every_format
def test_polarity_of_minus_one_is_off(
    tmp_path: Path, name: str, write: Callable[..., None]
) -> None:
    write(tmp_path / name, T_US, np.where(ON == 1, 1, -1).astype(np.int8))
    assert as_rows(read_events(tmp_path / name, (640, 480))) == ROWS


@every_format
@pytest.mark.parametrize(
    ("on", "off", "kind", "shown"),
    [
        (2, 1, "u1", "1, 2"),
        (255, 0, "u1", "0, 255"),
        (1, 255, "u1", "1, 255"),  # −1 in eight bits without a sign
        (1, 2**32 - 1, "u4", "1, 4.29497e+09"),
        (0.5, 0, "f8", "0, 0.5"),
        (3, -1, "i2", "-1, 3"),
    ],
)
def test_another_polarity_is_refused_not_taken_for_on(
    tmp_path: Path,
    name: str,
    write: Callable[..., None],
    on: float,
    off: float,
    kind: str,
    shown: str,
) -> None:
    write(tmp_path / name, T_US, np.where(ON == 1, on, off).astype(kind))
    file = tmp_path / name
    refused(lambda: read_events(file), file, f"polarity is {shown}", "0 and 1", "-1 and 1")


def test_a_polarity_of_three_values_is_refused() -> None:
    with pytest.raises(ValueError, match="polarity is -1, 0, 1,"):
        event_columns(X, Y, T_US, np.array([1, 0, -1, 1]))


@pytest.mark.parametrize("value", [0, 1, -1, True, False])
def test_one_polarity_alone_will_do(value: int) -> None:
    assert (event_columns(X, Y, T_US, np.full(4, value))[3] == (value == 1)).all()


def test_seconds_are_rounded_to_the_nearest_microsecond() -> None:
    t = np.array([0.000001, 0.29, 0.57, 1.15], np.float64)
    assert event_columns(X, Y, t, ON)[2].tolist() == [1, 290_000, 570_000, 1_150_000]


@pytest.mark.parametrize("order", ["txyp", "xytp", "xypt"])
def test_the_order_of_unnamed_columns_is_told_by_their_numbers(order: str) -> None:
    named = {"x": X, "y": Y, "t": T_US, "p": ON}
    columns = unnamed_columns(np.stack([named[name] for name in order], 1))
    for column_N, expected_N in zip(columns, (X, Y, T_US, ON), strict=True):
        np.testing.assert_array_equal(column_N, expected_N)


@pytest.mark.parametrize("order", ["txyp", "xytp", "xypt"])
@pytest.mark.parametrize("late", [0, 5])
def test_the_order_is_told_by_time_where_it_could_be_an_address(order: str, late: int) -> None:
    random = np.random.default_rng(0)
    t = np.sort(random.integers(0, 50_000, 500))
    t[:late] = t[:late][::-1]  # As some cameras write them.
    named = {"x": random.integers(0, 346, 500), "y": random.integers(0, 260, 500), "t": t}
    named["p"] = random.integers(0, 2, 500)
    columns = unnamed_columns(np.stack([named[name] for name in order], 1))
    for column_N, name in zip(columns, "xytp", strict=True):
        np.testing.assert_array_equal(column_N, named[name])


def test_orders_that_are_as_likely_are_taken_in_turn() -> None:
    still = np.stack([np.arange(4), np.arange(4), np.arange(4), np.ones(4, int)], 1)
    still[:, 1] += 4
    x, y, t, _ = unnamed_columns(still)
    assert (t[0], x[0], y[0]) == (0, 4, 0)


def test_unnamed_columns_in_another_order_are_refused() -> None:
    with pytest.raises(ValueError, match="no known order"):
        unnamed_columns(np.stack([T_US, ON, X, Y], 1))
    with pytest.raises(ValueError, match="no known order"):
        unnamed_columns(np.stack([ON, T_US, Y, X], 1))


def test_lateness_does_not_overflow() -> None:
    t_N = np.array([-10, 2**63 - 1, -5])
    assert lateness(t_N).tolist() == [0, 0, 2**63 + 4]
