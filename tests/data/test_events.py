"""Recordings: every format read to the µs, and bad files refused in one line."""

import sys
from collections.abc import Callable
from pathlib import Path

import eventcv
import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat

from factories import as_events, as_rows, event_lists, packed, real_data, refused
from spikebridge.data.events import EVENT_SUFFIXES, Events, read_events, write_bin
from spikebridge.data.frames import frame_events

# A recording of 0.3 s: short enough that a reader which guesses the unit would guess wrong.
ROWS = [(3, 4, 1, 1), (5, 6, 100_000, 0), (5, 6, 100_000, 1), (33, 0, 300_001, 0)]
SENSOR = (34, 34)


def test_bin_reads_a_hand_made_byte_string(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    # x = 3, y = 4, ON at 0x010203 µs; x = 33, y = 0, OFF at the largest time 0x7FFFFF.
    file.write_bytes(bytes([3, 4, 0x81, 0x02, 0x03, 33, 0, 0x7F, 0xFF, 0xFF]))
    events = read_events(file, SENSOR)
    assert as_rows(events) == [(3, 4, 0x010203, 1), (33, 0, 0x7FFFFF, 0)]
    assert events.sensor == SENSOR
    assert (events.x_N.dtype, events.t_N.dtype) == (np.int32, np.int64)
    assert events.polarity_N.dtype == bool


def test_write_bin_packs_8_8_1_23_bits_big_endian(tmp_path: Path) -> None:
    write_bin(tmp_path / "a.bin", as_events(ROWS))
    assert (tmp_path / "a.bin").read_bytes() == packed(ROWS)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 255),
            st.integers(0, 255).filter(lambda y: y != 240),
            st.integers(0, (1 << 23) - 1),
            st.integers(0, 1),
        ),
        min_size=1,
    )
)
def test_bin_round_trip(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, int, int]]
) -> None:
    file = tmp_path_factory.getbasetemp() / "round.bin"
    events = as_events(sorted(rows, key=lambda row: row[2]), (256, 256))
    write_bin(file, events)
    assert file.read_bytes() == packed(as_rows(events))
    back = read_events(file, (256, 256))
    assert as_rows(back) == as_rows(events)
    assert back.sensor == (256, 256)


@pytest.mark.parametrize(
    ("row", "word"),
    [((256, 0, 0, 1), "0–255"), ((0, 240, 0, 1), "0–255"), ((0, 0, 1 << 23, 1), "8.39 s")],
)
def test_write_bin_refuses_what_does_not_fit(
    tmp_path: Path, row: tuple[int, int, int, int], word: str
) -> None:
    file = tmp_path / "a.bin"
    refused(lambda: write_bin(file, as_events([row], (300, 300))), file, word)
    assert not list(tmp_path.iterdir())


def test_write_bin_refuses_negative_times(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    refused(lambda: write_bin(file, as_events([(0, 0, -1, 1)])), file)


def test_row_240_moves_the_clock_on_and_is_no_event(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    rows = [(1, 2, 10, 1), (0, 240, 8191, 0), (3, 4, 5, 0), (9, 240, 0, 1), (5, 6, 7, 1)]
    file.write_bytes(packed(rows))
    step = 1 << 13
    expected = [(1, 2, 10, 1), (3, 4, 5 + step, 0), (5, 6, 7 + 2 * step, 1)]
    assert as_rows(read_events(file, (240, 180))) == expected
    assert as_rows(read_events(file, (34, 34))) == expected
    # On a sensor that has such a row it is an event like any other.
    ordered = [(1, 2, 10, 1), (3, 240, 11, 0)]
    file.write_bytes(packed(ordered))
    assert as_rows(read_events(file, (256, 256))) == ordered


def test_bin_without_a_sensor_is_n_caltech101s(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(packed([(239, 179, 1, 1)]))
    assert read_events(file).sensor == (240, 180)


@pytest.mark.parametrize("off", [0, -1])
def test_mat_of_cep_dvs(tmp_path: Path, off: int) -> None:
    x, y, t, p = np.array(ROWS).T[:, :, None]
    p = np.where(p == 1, 1, off).astype(np.int16)
    savemat(tmp_path / "a.mat", {"x": x, "y": y, "ts": t.astype(np.float64), "p": p})
    events = read_events(tmp_path / "a.mat", (346, 260))
    assert as_rows(events) == ROWS
    assert events.sensor == (346, 260)
    assert read_events(tmp_path / "a.mat").sensor == (34, 7)


@pytest.mark.parametrize(
    "variables",
    [
        {"x": [[1]], "y": [[1]], "ts": [[1]]},
        {"x": [[1], [2]], "y": [[1], [2]], "ts": [[1], [2]], "p": [[1]]},
        {"x": "text", "y": [[1]], "ts": [[1]], "p": [[1]]},
    ],
    ids=["no-p", "lengths-differ", "text"],
)
def test_mat_of_something_else_is_refused(tmp_path: Path, variables: dict) -> None:
    savemat(tmp_path / "a.mat", variables)
    refused(lambda: read_events(tmp_path / "a.mat"), tmp_path / "a.mat", "x, y, ts and p")


# Formats that eventcv reads ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "suffix", [".npz", ".h5", ".hdf5", ".txt", ".csv", ".dat", ".raw", ".aedat4", ".bag", ".NPZ"]
)
def test_files_of_eventcv_keep_every_us(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    stream = eventcv.from_numpy(np.array(ROWS), time_unit="us", sensor_size=SENSOR)
    eventcv.save(stream, str(file.with_suffix(suffix.lower())))
    file.with_suffix(suffix.lower()).rename(file)
    for sensor in (SENSOR, (40, 50)):
        events = read_events(file, sensor)
        assert as_rows(events) == ROWS
        assert events.sensor == sensor
    told = (34, 7) if suffix in (".txt", ".csv") else SENSOR
    assert read_events(file).sensor == told
    assert as_rows(read_events(file)) == ROWS


def test_aedat_of_a_davis_keeps_rows_and_us(tmp_path: Path) -> None:
    file = tmp_path / "a.aedat"
    stream = eventcv.from_numpy(np.array(ROWS), time_unit="us", sensor_size=(346, 260))
    eventcv.save(stream, str(file))
    for sensor in (None, (346, 260)):
        events = read_events(file, sensor)
        assert as_rows(events) == ROWS
        assert events.sensor == (346, 260)
    refused(lambda: read_events(file, (20, 20)), file, "outside", "data.sensor")


def _lines(rows: list[tuple], separator: str = " ", header: str = "") -> str:
    return header + "".join(separator.join(map(str, row)) + "\n" for row in rows)


TXYP = [(t, x, y, p) for x, y, t, p in ROWS]
TEXTS = {
    "plain": _lines(TXYP),
    "comment": _lines(TXYP, header="# made by v1.5\n"),
    "signed": _lines([(t, x, y, p if p else -1) for t, x, y, p in TXYP]),
    "whole floats": _lines([(f"{t}.0", f"{x}.0", y, p) for t, x, y, p in TXYP]),
    "csv": _lines(TXYP, ","),
    "header": _lines(TXYP, ",", "t,x,y,p\n"),
    "other order": _lines(ROWS, ",", "x,y,t,p\n"),
    "seconds": _lines([(f"{t / 1e6:.6f}", x, y, p) for t, x, y, p in TXYP]),
    "seconds, header": _lines([(t / 1e6, x, y, p) for t, x, y, p in TXYP], ",", "t,x,y,p\n"),
}


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("suffix", [".txt", ".csv"])
def test_text_by_hand(tmp_path: Path, kind: str, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    file.write_text(TEXTS[kind])
    assert as_rows(read_events(file, SENSOR)) == ROWS


def test_text_in_seconds_of_the_epoch_keeps_every_us(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("1587540271.650001 3 4 1\n1587540271.950002 5 6 0\n")
    expected = [(3, 4, 1587540271650001, 1), (5, 6, 1587540271950002, 0)]
    assert as_rows(read_events(file, SENSOR)) == expected


def test_text_with_fractions_of_a_us_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("1.5 3 4 1\n100000.25 5 6 0\n300000.75 7 8 1\n")
    refused(lambda: read_events(file, SENSOR), file, "fraction", "microseconds")


def _write_npz(file: Path, rows: np.ndarray) -> None:
    x, y, t, p = rows.T
    np.savez(file, x=x.astype("u2"), y=y.astype("u2"), t=t, p=p.astype("u1"))


def _write_h5(file: Path, rows: np.ndarray) -> None:
    with h5py.File(file, "w") as h5:
        for name, column in zip("xytp", rows.T, strict=True):
            h5[f"events/{name}"] = column.astype("i1") if name == "p" else column


def _write_txt(file: Path, rows: np.ndarray) -> None:
    np.savetxt(file, rows[:, [2, 0, 1, 3]], "%d")


def _write_mat(file: Path, rows: np.ndarray) -> None:
    savemat(file, dict(zip(("x", "y", "ts", "p"), rows.T[:, :, None], strict=True)))


def _write_bin(file: Path, rows: np.ndarray) -> None:
    file.write_bytes(packed(map(tuple, rows.tolist())))


def _write_dat(file: Path, rows: np.ndarray, sensor: tuple[int, int] = (60, 60)) -> None:
    """Prophesee's .dat without the sensor's size in its header."""
    eventcv.save(eventcv.from_numpy(rows, time_unit="us", sensor_size=sensor), str(file))
    data = file.read_bytes()
    for line in (b"% Width 60\n", b"% Height 60\n"):
        assert line in data
        data = data.replace(line, b"")
    file.write_bytes(data)


WRITERS: dict[str, Callable[[Path, np.ndarray], None]] = {
    ".npz": _write_npz,
    ".h5": _write_h5,
    ".txt": _write_txt,
    ".csv": _write_txt,
    ".mat": _write_mat,
    ".bin": _write_bin,
    ".dat": _write_dat,
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_files_by_hand(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    WRITERS[suffix](file, np.array(ROWS))
    assert as_rows(read_events(file, SENSOR)) == ROWS


@pytest.mark.parametrize("suffix", WRITERS)
def test_an_event_outside_the_sensor_is_refused_not_dropped(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    WRITERS[suffix](file, np.array(ROWS))
    refused(lambda: read_events(file, (33, 34)), file, "(33, 0)", "33×34", "data.sensor")
    refused(lambda: read_events(file, (34, 6)), file, "(5, 6)", "34×6", "data.sensor")


@pytest.mark.parametrize("suffix", [".mat", ".h5", ".txt"])
def test_negative_addresses_are_refused_not_dropped(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    WRITERS[suffix](file, np.array([(-3, 4, 1, 1), *ROWS[1:]]))
    for sensor in (SENSOR, None):
        refused(lambda s=sensor: read_events(file, s), file)


def test_hdf5_with_events_outside_its_own_sensor_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.h5"
    _write_h5(file, np.array(ROWS))
    with h5py.File(file, "a") as h5:
        h5.attrs["width"], h5.attrs["height"] = 20, 20
    assert as_rows(read_events(file, SENSOR)) == ROWS
    refused(lambda: read_events(file), file, "20×20")


def test_hdf5_with_polarity_minus_one_is_refused_not_read_as_on(tmp_path: Path) -> None:
    file = tmp_path / "a.h5"
    _write_h5(file, np.array([(x, y, t, p if p else -1) for x, y, t, p in ROWS]))
    refused(lambda: read_events(file, SENSOR), file, "polarity", "0 and 1")


@pytest.mark.parametrize("suffix", WRITERS)
def test_time_stamps_that_run_backwards_are_refused(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    rows = np.array(ROWS)
    rows[2, 2] = 99_999
    WRITERS[suffix](file, rows)
    refused(
        lambda: read_events(file, SENSOR), file, "backwards at event 2", "100000 then 99999", "sort"
    )


# What is no recording -----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", EVENT_SUFFIXES)
def test_a_missing_file_is_refused(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    refused(lambda: read_events(file), file, "no such recording", "check the path")


@pytest.mark.parametrize("suffix", EVENT_SUFFIXES)
def test_an_empty_file_is_refused(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    file.touch()
    refused(lambda: read_events(file), file, "empty", "remove it")


@pytest.mark.parametrize("sensor", [None, SENSOR], ids=["unknown sensor", "known sensor"])
@pytest.mark.parametrize("kind", ["random", "zeros", "text"])
@pytest.mark.parametrize("suffix", EVENT_SUFFIXES)
def test_garbage_is_refused(
    tmp_path: Path,
    suffix: str,
    kind: str,
    sensor: tuple[int, int] | None,
    capfd: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / f"a{suffix}"
    random = np.random.default_rng(0).bytes(1001)
    file.write_bytes({"random": random, "zeros": bytes(503), "text": b"not a recording\n"}[kind])
    line = refused(lambda: read_events(file, sensor), file)
    assert any(remedy in line for remedy in ("fetch", "expected", "sort", "set data.sensor"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".bag", ".npz", ".h5", ".aedat4", ".raw", ".txt", ".bin"])
def test_a_truncated_file_is_refused(
    tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"a{suffix}"
    if suffix == ".bin":
        _write_bin(file, np.array(ROWS))
    else:
        eventcv.save(
            eventcv.from_numpy(np.array(ROWS), time_unit="us", sensor_size=SENSOR), str(file)
        )
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2 + 1])
    refused(lambda: read_events(file, SENSOR), file)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("extra", [1, 2, 3, 4])
def test_a_bin_that_ends_inside_an_event_is_refused(tmp_path: Path, extra: int) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(packed(ROWS) + bytes(extra))
    refused(lambda: read_events(file, SENSOR), file, "truncated", f"{20 + extra} bytes", "fetch")


def test_a_bin_of_overflow_marks_alone_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(packed([(0, 240, 0, 0)] * 3))
    refused(lambda: read_events(file, SENSOR), file, "no event", "remove it")


@pytest.mark.parametrize("name", ["a.avi", "a", "a.bin.gz"])
def test_an_unknown_suffix_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(b"12345")
    refused(lambda: read_events(file), file, "unknown event format", ".bin", ".aedat4")


def test_a_folder_is_no_recording(tmp_path: Path) -> None:
    (tmp_path / "a.bin").mkdir()
    refused(lambda: read_events(tmp_path / "a.bin"), tmp_path / "a.bin", "no such recording")


@given(events=event_lists(max_size=10))
def test_any_recording_survives_npz(
    tmp_path_factory: pytest.TempPathFactory, events: Events
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.npz"
    _write_npz(file, np.array(as_rows(events)))
    assert as_rows(read_events(file, events.sensor)) == as_rows(events)


# Real recordings ---------------------------------------------------------------------------------

N_MNIST, needs_n_mnist = real_data("nmnist/events/Train")


@needs_n_mnist
def test_500_real_recordings_of_n_mnist() -> None:
    counts = []
    for file in sorted(N_MNIST.glob("*/*.bin")):
        events = read_events(file, SENSOR)
        assert 200_000 < events.t_N[-1] < 400_000
        counts.append(len(events))
        for bins in ("time", "count"):
            frames_TCHW = frame_events(events, 4, (32, 32), bins)
            assert frames_TCHW.sum() == len(events)
            assert frames_TCHW[:, 1].sum() == events.polarity_N.sum()
    assert len(counts) == 500
    assert 4_000 < np.mean(counts) < 4_160
    assert min(counts) > 1_000


def test_eventcv_is_imported_only_where_it_is_needed() -> None:
    assert "eventcv" not in vars(sys.modules["spikebridge.data.events"])
