"""Files as other programs write them, byte by byte: text, HDF5, AEDAT 3.1 and 4, raw, bag."""

import struct
from pathlib import Path

import eventcv
import h5py
import numpy as np
import pytest
from fuzz_seeds import ROWS as MANY
from fuzz_seeds import evt2, evt3

from factories import as_rows, refused
from spikebridge.data.events import read_events

ROWS = [(3, 4, 30, 1), (5, 6, 100_000, 0), (5, 6, 100_000, 1), (33, 0, 300_001, 0)]
SENSOR = (34, 34)
X, Y, T, P = np.array(ROWS).T


def _save(file: Path, rows: np.ndarray, sensor: tuple[int, int] = SENSOR, **options: str) -> None:
    stream = eventcv.from_numpy(rows, time_unit="us", sensor_size=sensor)
    eventcv.save(stream, str(file), **options)


# Text -------------------------------------------------------------------------------------------


def test_numbers_as_savetxt_writes_them(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    np.savetxt(file, np.stack([T, X, Y, P], 1))
    assert file.read_text().startswith("3.000000000000000000e+01 ")
    assert as_rows(read_events(file, SENSOR)) == ROWS
    np.savetxt(file, np.stack([T / 1e6, X, Y, P], 1), delimiter=",")
    assert as_rows(read_events(file, SENSOR)) == ROWS
    np.savetxt(file, np.stack([P, Y, X, T], 1), header="p y x t")
    assert file.read_text().startswith("# p y x t\n")
    assert as_rows(read_events(file, SENSOR)) == ROWS


@pytest.mark.parametrize("suffix", [".csv", ".txt"])
@pytest.mark.parametrize("header", ["", "t,x,y,p\r\n", '"timestamp","x","y","polarity"\r\n'])
def test_a_byte_order_mark_is_passed_over(tmp_path: Path, suffix: str, header: str) -> None:
    file = tmp_path / f"a{suffix}"
    lines = header + "".join(f"{t},{x},{y},{p}\r\n" for x, y, t, p in ROWS)
    file.write_bytes(b"\xef\xbb\xbf" + lines.encode())
    assert as_rows(read_events(file, SENSOR)) == ROWS


@pytest.mark.parametrize("line", ["{x},{y},{p},{t}", "{x} {y} {t} {p}", "{x};{y};{p};{t}"])
def test_columns_without_names_in_another_order(tmp_path: Path, line: str) -> None:
    file = tmp_path / "a.csv"
    file.write_text("".join(line.format(x=x, y=y, t=t, p=p) + "\n" for x, y, t, p in ROWS))
    assert as_rows(read_events(file, SENSOR)) == ROWS


def test_swapped_columns_are_never_told_to_be_sorted(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    for line in ("{p} {t} {x} {y}", "{y} {x} {p} {t} ", "{t} {p} {x} {y}", "{x} {t} {y} {p}"):
        file.write_text("".join(line.format(x=x, y=y, t=t, p=p) + "\n" for x, y, t, p in ROWS))
        if line.startswith("{y} {x}"):  # nothing but the size tells rows from columns
            assert read_events(file).sensor == (7, 34)
            continue
        message = refused(lambda: read_events(file, SENSOR), file, "known order", "x y p t")
        assert "sort" not in message
    backwards = "".join(f"{t},{x},{y},{p}\n" for x, y, t, p in [(9, 9, 10**6, 1), *ROWS])
    file.write_text(backwards)
    refused(lambda: read_events(file, SENSOR), file, "backwards at event 1", "sort")
    file.write_text("t,x,y,p\n" + backwards)
    refused(lambda: read_events(file, SENSOR), file, "backwards at event 1", "sort")


def test_the_size_in_e2vids_first_line_is_the_sensors(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    lines = "".join(f"{t / 1e6:.9f} {x} {y} {p}\n" for x, y, t, p in ROWS)
    file.write_text("240 180\n" + lines)
    events = read_events(file)
    assert (as_rows(events), events.sensor) == (ROWS, (240, 180))
    file.write_text("240 180\n\n# made by hand\n" + lines)
    assert read_events(file, (346, 260)).sensor == (346, 260)
    file.write_text("20 20\n" + lines)
    refused(lambda: read_events(file), file, "(33, 0)", "20×20")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("t,x,y\n1,2,3\n", ["names no x, y, t and p", "expected"]),
        ("t,x,y,p,t\n1,2,3,1,1\n", ["names no x, y, t and p", "expected"]),
        ("1 2 3\n", ["expected"]),
        ("1 2 3 True\n", ["True", "expected"]),
        ("1 2 3 1\n4 5 x 1\n", ["x", "expected"]),
        ("# nothing\n", ["no event"]),
        ("346 260\n", ["no event"]),
    ],
)
def test_text_that_is_no_recording(tmp_path: Path, text: str, words: list[str]) -> None:
    file = tmp_path / "a.csv"
    file.write_text(text)
    refused(lambda: read_events(file), file, *words)


# HDF5 -------------------------------------------------------------------------------------------


def test_the_table_of_v2e(tmp_path: Path) -> None:
    file = tmp_path / "a.h5"
    with h5py.File(file, "w") as h5:
        h5.create_dataset("events", data=np.stack([T, X, Y, P], 1).astype("u4"), compression="gzip")
        h5["frame"], h5["frame_ts"] = np.zeros((2, 4, 4)), np.zeros(2)
    assert as_rows(read_events(file, SENSOR)) == ROWS


def test_the_tables_of_mvsec(tmp_path: Path) -> None:
    file = tmp_path / "a.hdf5"
    start = 1_506_119_776
    left = np.stack([X, Y, start + T / 1e6, np.where(P == 1, 1, -1)], 1)
    with h5py.File(file, "w") as h5:
        h5["davis/left/events"], h5["davis/right/events"] = left, left + [1, 1, 0, 0]
        h5["davis/left/imu"] = np.zeros((9, 6))
    expected = [(x, y, t + start * 1_000_000, p) for x, y, t, p in ROWS]
    assert as_rows(read_events(file, (346, 260))) == expected


def test_hdf5_of_dsec_and_of_ros(tmp_path: Path) -> None:
    names = ("x_coordinates", "y_coordinates", "timestamps", "polarities")
    for index, keys in enumerate([("x", "y", "t", "p"), names]):
        file = tmp_path / f"{index}.h5"
        with h5py.File(file, "w") as h5:
            for key, column in zip(keys, (X, Y, T, P.astype("u1")), strict=True):
                h5[f"events/{key}"] = column
            h5["ms_to_idx"], h5["t_offset"] = np.zeros(3), 5
        assert as_rows(read_events(file, SENSOR)) == ROWS


def test_hdf5_with_fields_as_metavision_writes_them(tmp_path: Path) -> None:
    file = tmp_path / "a.hdf5"
    data_N = np.zeros(4, [("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
    data_N["x"], data_N["y"], data_N["p"], data_N["t"] = X, Y, P, T
    with h5py.File(file, "w") as h5:
        h5["CD/events"] = data_N
        h5["EXT_TRIGGER/events"] = np.zeros(2, [("p", "<i2"), ("t", "<i8"), ("id", "<i2")])
    assert as_rows(read_events(file, SENSOR)) == ROWS


def test_hdf5_of_several_recordings_or_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.h5"
    table = np.stack([T, X, Y, P], 1)
    with h5py.File(file, "w") as h5:
        h5["one/events"] = h5["two/events"] = table
    refused(lambda: read_events(file), file, "several recordings, one/events, two/events")
    with h5py.File(file, "w") as h5:
        h5["images"] = table
    line = refused(lambda: read_events(file), file, "no recording, only images", "expected")
    assert "keys" not in line


# AEDAT 3.1 --------------------------------------------------------------------------------------


def _packet(kind: int, events: bytes, size: int, overflows: int = 0) -> bytes:
    number = len(events) // size
    return struct.pack("<hhiiiiii", kind, 1, size, 4, overflows, number, number, number) + events


def _polarity(rows: list[tuple[int, int, int, int]], valid: int = 1) -> bytes:
    return b"".join(struct.pack("<II", x << 17 | y << 2 | p << 1 | valid, t) for x, y, t, p in rows)


HEADER_3 = (
    b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: %s\r\n"
    b"#Start-Time: 2016-11-01 10:00:00 (TZ+0100)\r\n#!END-HEADER\r\n"
)
DVS_GESTURE = HEADER_3 % b"DVS128"


def test_aedat_3_1_of_dvs_gesture(tmp_path: Path) -> None:
    file = tmp_path / "a.aedat"
    file.write_bytes(
        DVS_GESTURE
        + _packet(0, bytes(16), 8)  # special events
        + _packet(1, _polarity(ROWS[:2]), 8)
        + _packet(1, _polarity([(1, 1, 100_000, 1)], valid=0), 8)
        + _packet(3, bytes(72), 36)  # inertia
        + _packet(1, _polarity(ROWS[2:]), 8)
        + _packet(1, _polarity([(7, 8, 5, 1)]), 8, overflows=1)
    )
    events = read_events(file)
    assert as_rows(events) == [*ROWS, (7, 8, (1 << 31) + 5, 1)]
    assert events.sensor == (128, 128)
    assert read_events(file, (640, 480)).sensor == (640, 480)


@pytest.mark.parametrize(
    ("source", "sensor"), [(b"DAVIS240C", (240, 180)), (b"DAVIS346", (346, 260))]
)
def test_aedat_3_1_of_a_davis(tmp_path: Path, source: bytes, sensor: tuple[int, int]) -> None:
    file = tmp_path / "a.aedat"
    file.write_bytes(HEADER_3 % source + _packet(1, _polarity(ROWS), 8))
    assert read_events(file).sensor == sensor


def test_aedat_3_1_of_an_unknown_camera_needs_the_sensor(tmp_path: Path) -> None:
    file = tmp_path / "a.aedat"
    file.write_bytes(HEADER_3 % b"eDVS4337" + _packet(1, _polarity(ROWS), 8))
    refused(lambda: read_events(file), file, "header does not tell", "data.sensor")
    assert as_rows(read_events(file, SENSOR)) == ROWS


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (DVS_GESTURE.replace(b"3.1", b"3.0") + bytes(28), ["only 3.1", "AEDAT3.0", "export"]),
        (DVS_GESTURE.replace(b"RAW", b"SerializedTS") + bytes(28), ["'SerializedTS'", "export"]),
        (DVS_GESTURE[:-5] + bytes(28), ["whole header", "export"]),
        (DVS_GESTURE + _packet(1, _polarity(ROWS), 8)[:-1], ["truncated", "59 bytes"]),
        (DVS_GESTURE + _packet(1, _polarity(ROWS), 8) + bytes(5), ["truncated", "5 bytes"]),
        (DVS_GESTURE + _packet(1, bytes(24), 12), ["12 bytes"]),
        (DVS_GESTURE + struct.pack("<hhiiiiii", 1, 1, -8, 4, 0, 9, 9, 9), ["damaged"]),
        (DVS_GESTURE + struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, 0, 9, 9), ["damaged"]),
        (DVS_GESTURE, ["no event"]),
    ],
)
def test_aedat_3_that_cannot_be_read(tmp_path: Path, data: bytes, words: list[str]) -> None:
    file = tmp_path / "a.aedat"
    file.write_bytes(data)
    refused(lambda: read_events(file), file, *(w.replace("AEDAT3", "AER-DAT3") for w in words))


# AEDAT 4 ----------------------------------------------------------------------------------------


@pytest.fixture
def aedat4(tmp_path: Path) -> Path:
    """Two packets and the table of them."""
    file = tmp_path / "a.aedat4"
    count = 150_000
    rows = np.stack(
        [np.arange(count) % 34, np.arange(count) % 30, np.arange(count), np.ones(count)]
    )
    _save(file, rows.T.astype(np.int64))
    return file


def _table(data: bytes) -> int:
    return int.from_bytes(data[50:58], "little")


def _second_packet(data: bytes) -> int:
    first = 18 + int.from_bytes(data[14:18], "little")
    return first + 8 + int.from_bytes(data[first + 4 : first + 8], "little")


def test_aedat4_without_all_of_its_table_reads_its_packets(aedat4: Path) -> None:
    data = aedat4.read_bytes()
    whole = as_rows(read_events(aedat4))
    table, second = _table(data), _second_packet(data)
    assert len(whole) == 150_000
    for cut in (table, table + 5, len(data) - 1):
        aedat4.write_bytes(data[:cut])
        assert as_rows(read_events(aedat4)) == whole
    for place in (-1, 0, 3, 1 << 40, -5):
        aedat4.write_bytes(data[:50] + struct.pack("<q", place) + data[58:])
        assert as_rows(read_events(aedat4)) == whole
    aedat4.write_bytes(data[:second])
    assert as_rows(read_events(aedat4)) == whole[: len(read_events(aedat4))]
    assert len(read_events(aedat4)) > 0


def test_aedat4_that_ends_inside_a_packet_is_refused_and_says_where_to_cut(aedat4: Path) -> None:
    data = aedat4.read_bytes()
    second = _second_packet(data)
    for cut in (second + 1, second + 900, _table(data) - 1):
        for place in (_table(data), -1):
            aedat4.write_bytes((data[:50] + struct.pack("<q", place) + data[58:])[:cut])
            refused(lambda: read_events(aedat4), "truncated", f"first {second} bytes")
    aedat4.write_bytes(data[: second - 1])
    refused(lambda: read_events(aedat4), "truncated")


def test_aedat4_without_a_size_asks_for_the_sensor(tmp_path: Path) -> None:
    file = tmp_path / "a.aedat4"
    _save(file, np.array(ROWS))
    file.write_bytes(file.read_bytes().replace(b'"sizeX"', b'"other"'))
    refused(lambda: read_events(file), file, "header does not tell", "data.sensor")
    assert as_rows(read_events(file, SENSOR)) == ROWS


# Raw, dat and bag -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [b"% geometry 60x50\n", b"% format EVT3;height=50;width=60\n", b"% Width 60\n% Height 50\n"],
)
@pytest.mark.parametrize("make", [evt2, evt3])
def test_raw_tells_its_size_in_any_of_three_ways(tmp_path: Path, make, line: bytes) -> None:
    file = tmp_path / "a.raw"
    version = b"EVT2" if make is evt2 else b"EVT3"
    file.write_bytes(make().replace(b"% geometry 34x34\n", line.replace(b"EVT3", version)))
    events = read_events(file)
    assert events.sensor == (60, 50)
    assert as_rows(events) == list(map(tuple, MANY.tolist()))


@pytest.mark.parametrize("make", [evt2, evt3])
def test_raw_without_a_size_asks_for_the_sensor(tmp_path: Path, make) -> None:
    file = tmp_path / "a.raw"
    file.write_bytes(make().replace(b"% geometry 34x34\n", b"% date 2024-01-01 10:00:00\n"))
    line = refused(lambda: read_events(file), file, "header does not tell", "data.sensor")
    assert "outside" not in line
    assert as_rows(read_events(file, SENSOR)) == list(map(tuple, MANY.tolist()))


def test_dat_without_a_size_asks_for_the_sensor(tmp_path: Path) -> None:
    file = tmp_path / "a.dat"
    data = b"% Data file containing CD events\n% Version 2\n% end\n\x0c\x08"
    for x, y, t, p in ROWS:
        data += struct.pack("<II", t, p << 28 | y << 14 | x)
    file.write_bytes(data)
    refused(lambda: read_events(file), file, "header does not tell", "data.sensor")
    assert as_rows(read_events(file, SENSOR)) == ROWS


def test_a_bag_of_any_topic(tmp_path: Path) -> None:
    file = tmp_path / "a.bag"
    _save(file, np.array(ROWS), topic="/dvs/events")
    assert as_rows(read_events(file)) == ROWS


@pytest.mark.parametrize("suffix", [".aedat", ".aedat4", ".bag", ".dat"])
def test_events_that_a_camera_writes_late_are_put_in_order(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    sensor = (346, 260)
    _save(file, np.array([(1, 2, 1_000, 1), (3, 4, 1_004, 0), (5, 6, 997, 1)]), sensor)
    events = read_events(file)
    assert as_rows(events) == [(5, 6, 997, 1), (1, 2, 1_000, 1), (3, 4, 1_004, 0)]
    assert events.late == 1
    _save(file, np.array([(1, 2, 3_000, 1), (3, 4, 1_999, 0)]), sensor)
    refused(lambda: read_events(file), file, "backwards at event 1", "sort")


def test_raw_whose_time_steps_back_is_put_in_order(tmp_path: Path) -> None:
    def event(x: int, y: int, t: int, p: int) -> bytes:
        return struct.pack("<II", 8 << 28 | t >> 6, p << 28 | (t & 63) << 22 | x << 11 | y)

    file = tmp_path / "a.raw"
    rows = [(1, 2, 1_000, 1), (3, 4, 1_004, 0), (5, 6, 997, 1)]
    data = b"".join(event(*row) for row in rows)
    file.write_bytes(b"% evt 2.0\n% geometry 34x34\n% end\n" + data)
    events = read_events(file)
    assert (as_rows(events), events.late) == ([rows[2], rows[0], rows[1]], 1)


# What is said -----------------------------------------------------------------------------------

OF_EVENTCV = ("pass ", "sensor_size", "time_unit", "keys", "topic=", "order=", "max_events")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.aedat", b"#!AER-DAT2.0\r\n" + struct.pack(">II", 1 << 20, 5) * 9),
        ("a.aedat", b"#!AER-DAT1.0\r\n" + bytes(80)),
        ("a.aedat4", b"#!AER-DAT4.0\r\n" + bytes(80)),
        ("a.aedat4", b"#!AER-DAT3.1\r\n" + bytes(80)),
        ("a.bag", b"#ROSBAG V2.0\n" + bytes(80)),
        ("a.bag", b"#ROSBAG V1.2\n" + bytes(80)),
        ("a.raw", b"% evt 4.0\n% end\n" + bytes(80)),
        ("a.raw", bytes(80)),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(80)),
        ("a.csv", b"a,b,c,d\n1,2,3,4\n"),
    ],
)
def test_no_message_names_an_option_of_another_program(
    tmp_path: Path, name: str, data: bytes
) -> None:
    file = tmp_path / name
    file.write_bytes(data)
    line = refused(lambda: read_events(file), file)
    assert not [word for word in OF_EVENTCV if word in line], line
    assert "data.sensor" not in line or name == "a.raw"
