"""Whatever bytes a recording holds, it is read, or refused in one line that names it."""

import io
import struct
from pathlib import Path
from typing import Any

import eventcv
import h5py
import numpy as np
import pytest
from fuzz_seeds import DAVIS, RECORDINGS, ROWS, anything, evt3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factories import as_rows, refused
from spikebridge.base.errors import UserError
from spikebridge.data.events import Events, read_events
from spikebridge.data.formats import foreign


def outcome(file: Path, sensor: tuple[int, int] | None) -> Events | str:
    """The recording, or the line that refuses it, both held against what readers promise."""
    try:
        events = read_events(file, sensor)
    except UserError as error:
        line = str(error)
        assert str(file) in line
        assert line.isprintable()
        assert len(line) < 600
        return line
    width, height = events.sensor
    lengths = {len(a) for a in (events.x_N, events.y_N, events.t_N, events.polarity_N)}
    assert lengths == {len(events)} != {0}
    assert 0 <= events.x_N.min() <= events.x_N.max() < width <= 1 << 16
    assert 0 <= events.y_N.min() <= events.y_N.max() < height <= 1 << 16
    assert (events.t_N[:-1] <= events.t_N[1:]).all()
    assert events.t_N[-1] - events.t_N[0] >= 0
    assert (events.x_N.dtype, events.y_N.dtype) == (np.int32, np.int32)
    assert (events.t_N.dtype, events.polarity_N.dtype) == (np.int64, bool)
    return events


@pytest.mark.parametrize("kind", RECORDINGS)
def test_the_undamaged_file_reads(tmp_path: Path, kind: str) -> None:
    suffix, data = RECORDINGS[kind]
    file = tmp_path / f"a{suffix}"
    file.write_bytes(data)
    events = outcome(file, DAVIS if "DAVIS" in kind else None)
    assert isinstance(events, Events)
    if kind != "aedat of a DVS128":  # that camera's picture is turned
        assert as_rows(events) == list(map(tuple, ROWS.tolist()))


@pytest.mark.parametrize("kind", RECORDINGS)
@given(draw=st.data())
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_refused_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str, draw: st.DataObject
) -> None:
    suffix, data = RECORDINGS[kind]
    file = tmp_path / f"a{suffix}"
    file.write_bytes(draw.draw(anything(suffix, data)))
    outcome(file, draw.draw(st.sampled_from([None, (34, 34), DAVIS])))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "kind", [k for k, (suffix, _) in RECORDINGS.items() if suffix not in (".h5", ".hdf5")]
)
def test_a_file_cut_anywhere_is_read_or_refused(tmp_path: Path, kind: str) -> None:
    suffix, data = RECORDINGS[kind]
    file = tmp_path / f"a{suffix}"
    for length in range(0, len(data), 1 + len(data) // 100):
        file.write_bytes(data[:length])
        outcome(file, DAVIS)


# What the search found --------------------------------------------------------------------------

DAMAGED = Path(__file__).parent / "damaged"


@pytest.mark.parametrize("name", ["crashes.h5", "hangs.h5", "crashes.mat"])
def test_files_that_crash_or_hang_the_libraries_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Each is a valid file but for one to a few bytes."""
    monkeypatch.setattr(foreign, "_SECONDS", 1)
    assert isinstance(outcome(DAMAGED / name, (34, 34)), str)


@pytest.mark.parametrize("kind", ["raw, EVT2", "raw, EVT3", "dat", "aedat of a DAVIS"])
def test_a_recording_that_ends_inside_an_event_is_refused(tmp_path: Path, kind: str) -> None:
    suffix, data = RECORDINGS[kind]
    file = tmp_path / f"a{suffix}"
    size = {"raw, EVT2": 4, "raw, EVT3": 2, "dat": 8}.get(kind, 8)
    for cut in range(1, size):
        file.write_bytes(data[:-cut])
        refused(lambda: read_events(file, DAVIS), file, "truncated", f"multiple of {size}")
    file.write_bytes(data[:-8])  # the last event
    assert len(read_events(file, DAVIS)) == len(ROWS) - 1


def test_events_that_begin_like_a_header_line_are_no_header(tmp_path: Path) -> None:
    later = (0x25 << 12) - (ROWS[0, 2] >> 12 << 12)
    data = evt3(later)
    assert data[data.index(b"% end\n") + 6] == ord("%")
    file = tmp_path / "a.raw"
    file.write_bytes(data)
    expected = [(x, y, t + later, p) for x, y, t, p in ROWS.tolist()]
    assert as_rows(read_events(file, (34, 34))) == expected
    assert read_events(file).sensor == (34, 34)


def test_events_of_a_davis_that_begin_like_a_header_line_are_no_header(tmp_path: Path) -> None:
    rows = np.array([(5, 260 - 1 - 140, 1, 1), (6, 7, 0x0A, 0), (8, 9, 11, 1)])
    file = tmp_path / "a.aedat"
    eventcv.save(eventcv.from_numpy(rows, time_unit="us", sensor_size=DAVIS), str(file))
    assert b"davis346\r\n#" in file.read_bytes()
    assert as_rows(read_events(file)) == list(map(tuple, rows.tolist()))


def test_evt_2_1_is_refused_not_read_as_evt_2(tmp_path: Path) -> None:
    file = tmp_path / "a.raw"
    for line in (b"% evt 2.1\n", b"% format EVT21;height=34;width=34\n"):
        file.write_bytes(line + b"% end\n" + bytes(80))
        refused(lambda: read_events(file, (34, 34)), file, "EVT 2.1", "convert")


def test_hdf5_addresses_beyond_16_bits_are_refused_not_wrapped(tmp_path: Path) -> None:
    file = tmp_path / "a.h5"
    with h5py.File(file, "w") as h5:
        for name, column in {"x": [3, 65_539], "y": [4, 5], "t": [1, 2], "p": [1, 0]}.items():
            h5[f"events/{name}"] = np.array(column, "i1" if name == "p" else "i8")
    refused(lambda: read_events(file), file, "65540")
    refused(lambda: read_events(file, (34, 34)), file, "65539", "outside")


@pytest.mark.parametrize(
    "line", ["nan 3 2 1", "inf 3 2 1", "-inf 3 2 1", "1e30 3 2 1", "1 2 3 NaN"]
)
def test_text_with_times_that_are_no_numbers_is_refused(tmp_path: Path, line: str) -> None:
    file = tmp_path / "a.txt"
    file.write_text(f"# an informed line\n{line}\n")
    refused(lambda: read_events(file, (34, 34)), file)
    file.write_text("# an informed line\n# inf\n1 3 2 1\n")
    assert len(read_events(file, (34, 34))) == 1


def _npz(**columns: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **columns)
    return buffer.getvalue()


def test_npz_takes_whole_numbers_of_any_type(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    for kind in ("u2", ">i4", "f8", "u8"):
        columns = dict(zip("xytp", ROWS.T.astype(kind if kind != "u2" else "i8"), strict=True))
        file.write_bytes(_npz(**columns))
        assert as_rows(read_events(file)) == list(map(tuple, ROWS.tolist()))


def test_npz_of_n_imagenet(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    data_N = np.zeros(2, [("x", "<u2"), ("y", "<u2"), ("t", "<u2"), ("p", "?")])
    data_N["x"], data_N["t"], data_N["p"] = [639, 3], [7, 8], [True, False]
    file.write_bytes(_npz(event_data=data_N))
    events = read_events(file)
    assert as_rows(events) == [(639, 0, 7, 1), (3, 0, 8, 0)]
    assert events.sensor == (640, 480)


def test_npz_keeps_the_sensor_it_tells(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    columns = dict(zip("xytp", ROWS.T, strict=True))
    file.write_bytes(_npz(**columns, width=np.array([60]), height=np.array(50)))
    assert read_events(file).sensor == (60, 50)
    assert read_events(file, (34, 34)).sensor == (34, 34)


@pytest.mark.parametrize(
    ("name", "column", "word"),
    [
        ("x", [0.5, 1], "whole"),
        ("x", [np.nan, 1], "whole"),
        ("y", [1, 2**32 + 1], "outside"),
        ("y", [1, -(2**32) + 1], "outside"),
        ("t", [0, np.inf], "finite"),
        ("t", [0, 2**64 - 1], "finite"),
        ("t", [-(2**63), 2**63 - 1], "of one recording"),
        ("t", [0, 2**50], "of one recording"),
        ("p", ["a", "b"], "no numbers"),
        ("p", [1], "length"),
        ("x", [None, 1], "no plain array"),
    ],
)
def test_npz_with_impossible_columns_is_refused(
    tmp_path: Path, name: str, column: list, word: str
) -> None:
    file = tmp_path / "a.npz"
    columns = {"x": [1, 2], "y": [1, 2], "t": [1, 2], "p": [1, 0], name: column}
    file.write_bytes(_npz(**{name: np.array(column) for name, column in columns.items()}))
    refused(lambda: read_events(file, (34, 34)), file, word)


def test_a_sensor_of_impossible_size_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.dat"
    event = struct.pack("<II", 5, 1)
    file.write_bytes(b"% Width 1000000000\n% Height 1000000000\n\x0c\x08" + event)
    refused(lambda: read_events(file), file, "1000000000×1000000000", "data.sensor")
    assert len(read_events(file, (34, 34))) == 1


def test_a_long_header_of_aedat_reads_in_linear_time(tmp_path: Path) -> None:
    file = tmp_path / "a.aedat"
    file.write_bytes(b"#!AER-DAT2.0\r\n" + b"#\n" * 400_000 + bytes(80))
    assert len(read_events(file, (128, 128))) == 10
