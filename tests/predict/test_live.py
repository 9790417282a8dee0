"""Streams: from a made source, over UDP on loopback, from a made camera; drops are counted."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import eventcv
import numpy as np
import pytest
from predict_case import SENSOR, kept, lines_of, made_events, made_student

from factories import refused
from spikebridge.cli import main
from spikebridge.data.columns import Columns
from spikebridge.data.events import Events, write_bin
from spikebridge.predict import Classifier, Session, Source, live, open_source, time_line


class Made:
    """A source that gives prepared pieces once it may, and then nothing."""

    name, sensor, outside, lost = "made", SENSOR, 0, None

    def __init__(self, pieces: list[Columns]) -> None:
        self.pieces, self.closed = list(pieces), False
        self.may: Callable[[], bool] = lambda: True

    def read(self) -> Columns | None:
        while not self.may():
            time.sleep(0.001)
        if self.pieces:
            return self.pieces.pop(0)
        time.sleep(0.01)
        return None

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def short_silence(monkeypatch) -> None:
    """Streams that pause for 0.3 s are over."""
    monkeypatch.setattr(live, "_SILENCE_S", 0.3)


def columns_of(events: Events, rows: slice = slice(None)) -> Columns:
    return events.x_N[rows], events.y_N[rows], events.t_N[rows], events.polarity_N[rows]


def pieces_of(events: Events, length_us: int) -> list[Columns]:
    edges = np.searchsorted(events.t_N, np.arange(0, events.t_N[-1] + length_us + 1, length_us))
    return [columns_of(events, slice(a, b)) for a, b in zip(edges, edges[1:], strict=False)]


def test_a_stream_has_the_time_line_of_the_same_file(trained, tmp_path):
    events = made_events(2)
    write_bin(tmp_path / "a.bin", events)
    classifier = Classifier(trained)
    expected = list(time_line(classifier, tmp_path / "a.bin", 25))
    source = Made(pieces_of(events, 10_000))
    session = Session(classifier, source, 25)
    source.may = lambda: session._waiting is None
    found = list(session.guesses(1.5))
    assert [(g.start_ms, g.end_ms, g.events, g.guess) for g in found] == [
        (g.start_ms, g.end_ms, g.events, g.guess) for g in expected
    ]
    assert source.closed
    assert all(guess.delay_ms > 0 for guess in found)
    summary = session.summary
    assert (summary.events, summary.classified, summary.dropped) == (4000, 4, 0)


def test_windows_that_cannot_be_processed_in_time_are_dropped_and_counted(trained, monkeypatch):
    events = made_events(0, 3000, 300_000)
    events = kept(events, (events.t_N < 100_000) | (events.t_N >= 150_000))
    source = Made(pieces_of(events, 10_000))
    called = []

    def slow(self, *given):
        """The first window takes until the stream is over."""
        called.append(given)
        while session._waiting is None or session._waiting[0].end_us < 300_000:
            if len(called) > 1:
                break
            time.sleep(0.001)
        return original(self, *given)

    original = Classifier.__call__
    monkeypatch.setattr(Classifier, "__call__", slow)
    session = Session(Classifier(trained), source, 10)
    source.may = lambda: len(source.pieces) > 28 or bool(called)
    first, last = session.guesses(2.0)
    assert (first.start_ms, first.end_ms, first.dropped) == (0, 10, 23)
    assert (last.start_ms, last.end_ms, last.dropped) == (290, 300, 23)  # The newest of all.
    summary = session.summary
    assert (summary.classified, summary.dropped, summary.empty) == (2, 23, 5)
    assert (summary.events, summary.late_events) == (len(events), 0)


def test_sparse_windows_of_a_stream_are_marked(trained):
    events = made_events(0, 40, 100_000)
    session = Session(Classifier(trained, min_events=1000), Made([columns_of(events)]), 100)
    [found] = list(session.guesses(1.0))
    assert (found.guess, found.events, session.summary.too_few) == (None, 40, 1)
    assert found.as_json()["too_few_events"] is True


def test_transposed_streams(tmp_path):
    lying = made_student(name="cifar10-dvs", photos="p", events="e")
    events = made_events(2)
    write_bin(tmp_path / "a.bin", events)
    [expected] = time_line(Classifier(lying), tmp_path / "a.bin", 1000)
    [found] = Session(Classifier(lying), Made([columns_of(events)]), 1000).guesses(1.0)
    assert found.guess == expected.guess


def test_a_source_that_fails_is_named(trained):
    source = Made([])
    source.may = lambda: bool(1 / 0)
    session = Session(Classifier(trained), source, 10)
    refused(lambda: list(session.guesses(5)), "made: stopped", "division")
    assert source.closed


# UDP ----------------------------------------------------------------------------------------------


@pytest.fixture
def port() -> int:
    """A free UDP port of loopback."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
            found.bind(("127.0.0.1", 0))
            return found.getsockname()[1]
    except OSError as error:
        pytest.skip(f"no UDP socket on loopback: {error}")


def send(address: str, events: Events, *, timestamps: bool, step_us: int = 2000) -> None:
    """Events at the pace of their time stamps."""
    sender = eventcv.UdpSender(address, timestamps=timestamps)
    begin = time.monotonic()
    for number, (x_N, y_N, t_N, polarity_N) in enumerate(pieces_of(events, step_us)):
        time.sleep(max(0.0, begin + number * step_us / 1e6 - time.monotonic()))
        if len(t_N):
            rows_N4 = np.stack([x_N, y_N, t_N, polarity_N], 1).astype(np.int64)
            sender.send(eventcv.from_numpy(rows_N4, sensor_size=(64, 64), time_unit="us"))


def received(address: str, events: Events, timestamps: bool) -> tuple[Columns, Source]:
    """What `open_source` reads of what is sent."""
    source = open_source(address, SENSOR)
    where = source.name.removeprefix("udp:")
    thread = threading.Thread(target=send, args=(where, events), kwargs={"timestamps": timestamps})
    thread.start()
    pieces, quiet = [], 0
    while thread.is_alive() or quiet < 5:
        piece = source.read()
        quiet = quiet + 1 if piece is None else 0
        pieces += [] if piece is None else [piece]
    thread.join()
    source.close()
    columns = tuple(np.concatenate(column) for column in zip(*pieces, strict=True))
    return columns, source  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize("timestamps", [True, False])
def test_events_over_udp(port, timestamps):
    events = made_events(1, 20_000)
    events.x_N[::100] = 40
    inside_N = events.x_N < 32
    (x_N, y_N, t_N, polarity_N), source = received(f"udp:127.0.0.1:{port}", events, timestamps)
    assert source.outside == 200
    for found_N, sent_N in ((x_N, events.x_N), (y_N, events.y_N), (polarity_N, events.polarity_N)):
        assert (found_N == sent_N[inside_N]).all()
    if timestamps:
        assert (t_N == events.t_N[inside_N]).all()
        return
    assert (np.diff(t_N) >= 0).all()
    assert 0.09e6 < t_N[-1] - t_N[0] < 5e6  # Sending took 0.1 s.


def test_a_million_events_per_second_over_udp_and_ctrl_c(run, port):
    events = made_events(1, 1_500_000, 1_500_000)
    command = [
        sys.executable, "-m", "spikebridge", "predict", run, "--json", "--top", "1",
        "--window-ms", "100", "--live", f"udp:127.0.0.1:{port}",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert "reading; Ctrl-C ends" in process.stderr.readline()
        assert process.stdout is not None
        watch = threading.Timer(60, process.kill)
        watch.start()
        send(f"127.0.0.1:{port}", events, timestamps=True)
        lines = [json.loads(process.stdout.readline())]
        while lines[-1]["end_ms"] <= 1400:
            lines.append(json.loads(process.stdout.readline()))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        watch.cancel()
        process.kill()
    assert (process.returncode, err) == (0, "")
    [summary] = [json.loads(line)["summary"] for line in out.splitlines()]
    assert summary["classified"] == len(lines)
    if not summary["lost"]:  # The kernel's buffer is small, and this machine may be busy.
        assert summary["events"] == len(events)
        assert summary["classified"] + summary["dropped"] == 15
    for line in lines[:-1]:
        assert line["end_ms"] - line["start_ms"] == pytest.approx(100)
        assert line["start_ms"] % 100 == 0
        assert line["top"][0]["confidence"] > 1 / 3


# A camera -----------------------------------------------------------------------------------------


class MadeCamera:
    name, serial, sensor_size, n_overflows = "DVXplorer", "7", SENSOR, 3

    def __init__(self, events: Events) -> None:
        self.pieces = pieces_of(events, 5000)
        self.closed = False

    def read(self, *, timeout_ms: int) -> SimpleNamespace | None:
        if not self.pieces:
            time.sleep(timeout_ms / 1e3)
            return None
        time.sleep(0.005)
        rows_N4 = np.stack(self.pieces.pop(0), 1).astype(np.uint64)
        return SimpleNamespace(numpy=lambda: rows_N4)

    def close(self) -> None:
        self.closed = True


def test_camera(trained, run, capsys, monkeypatch, tmp_path):
    events = made_events(2)
    camera = MadeCamera(events)
    asked = []
    monkeypatch.setattr(eventcv, "list_cameras", lambda: [{"serial": "7"}])
    monkeypatch.setattr(eventcv, "stream", lambda *a, **k: asked.append((a, k)) or camera)
    command = ["predict", run, "--live", "camera:7", "--window-ms", "200", "--seconds", "1.5"]
    assert main([*command, "--json"]) == 0
    line, last = lines_of(capsys)
    write_bin(tmp_path / "a.bin", events)
    [expected] = time_line(Classifier(trained), tmp_path / "a.bin", 200)
    assert line["top"] == expected.as_json()["top"]
    assert (last["summary"]["lost"], last["summary"]["classified"]) == (3, 1)
    assert camera.closed
    assert asked == [(("7",), {"dt_ms": 5.0})]
    refused(lambda: open_source("camera", (9, 9)), "DVXplorer 7", "32×24", "9×9")
    monkeypatch.setattr(eventcv, "list_cameras", list)
    refused(lambda: open_source("camera", None), "no event camera found", "udev")
    refused(lambda: open_source("udp:127.0.0.1:0", None), "/WIDTHxHEIGHT")
