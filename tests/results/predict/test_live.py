"""Streams: from a made source, over UDP on loopback, from a made camera; drops are counted."""

import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import eventcv
import numpy as np
import pytest
from predict_case import SENSOR, kept, lines_of, made_events, made_student

from factories import refused
from spikebridge.cli import main
from spikebridge.data.events import Events, write_bin
from spikebridge.data.formats.columns import Columns
from spikebridge.results.predict import (
    Classifier,
    LiveSource,
    Session,
    live,
    open_live,
    sources,
    time_line,
)


class Clock:
    """Goes on when a source says so, and by a microsecond at each look."""

    def __init__(self) -> None:
        self.now, self._lock = 0.0, threading.Lock()

    def monotonic(self, more_s: float = 1e-6) -> float:
        with self._lock:
            self.now += more_s
            return self.now


_SILENCE = 11
"""Readings of 0.1 s without events after which a window is taken as it is."""


class Made:
    """A source that gives prepared pieces once it may, and then silence as time passes.

    After the silence that ends a stream it waits with the time until nothing waits for an answer.
    """

    name, sensor, outside, lost = "made", SENSOR, 0, None

    def __init__(self, pieces: list[Columns], clock: Clock) -> None:
        self.pieces, self.clock, self.closed, self.idle = list(pieces), clock, False, 0
        self.may: Callable[[], bool] = lambda: True
        self.answered: Callable[[], bool] = lambda: True

    def read(self) -> Columns | None:
        while not self.may():
            time.sleep(0.001)
        if self.pieces:
            return self.pieces.pop(0)
        self.idle += 1
        if self.idle <= _SILENCE or self.answered():
            self.clock.monotonic(0.1)
        time.sleep(0.001)
        return None

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """The time of live sessions."""
    clock = Clock()
    monkeypatch.setattr(live, "time", clock)
    return clock


def session_of(
    classifier: Classifier, pieces: list[Columns], window_ms: float, clock: Clock
) -> tuple[Session, Made]:
    source = Made(pieces, clock)
    session = Session(classifier, source, window_ms)
    source.answered = lambda: session._waiting is None
    return session, source


def columns_of(events: Events, rows: slice = slice(None)) -> Columns:
    return events.x_N[rows], events.y_N[rows], events.t_N[rows], events.polarity_N[rows]


def pieces_of(events: Events, length_us: int) -> list[Columns]:
    edges = np.searchsorted(events.t_N, np.arange(0, events.t_N[-1] + length_us + 1, length_us))
    return [columns_of(events, slice(a, b)) for a, b in zip(edges, edges[1:], strict=False)]


def test_a_stream_has_the_time_line_of_the_same_file(trained, tmp_path, clock):
    events = made_events(2)
    write_bin(tmp_path / "a.bin", events)
    classifier = Classifier(trained)
    expected = list(time_line(classifier, tmp_path / "a.bin", 25))
    session, source = session_of(classifier, pieces_of(events, 10_000), 25, clock)
    source.may = lambda: session._waiting is None
    found = list(session.guesses(1.5))
    assert [(g.start_ms, g.end_ms, g.events, g.guess) for g in found] == [
        (g.start_ms, g.end_ms, g.events, g.guess) for g in expected
    ]
    assert source.closed
    assert all(guess.delay_ms > 0 for guess in found)
    summary = session.summary
    assert (summary.events, summary.classified, summary.dropped) == (4000, 4, 0)


def test_windows_that_cannot_be_processed_in_time_are_dropped_and_counted(
    trained, monkeypatch, clock
):
    events = made_events(0, 3000, 300_000)
    events = kept(events, (events.t_N < 100_000) | (events.t_N >= 150_000))
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
    session, source = session_of(Classifier(trained), pieces_of(events, 10_000), 10, clock)
    source.may = lambda: len(source.pieces) > 28 or bool(called)
    first, last = session.guesses(2.0)
    assert (first.start_ms, first.end_ms, first.dropped) == (0, 10, 23)
    assert (last.start_ms, last.end_ms, last.dropped) == (290, 300, 23)  # The newest of all.
    summary = session.summary
    assert (summary.classified, summary.dropped, summary.empty) == (2, 23, 5)
    assert (summary.events, summary.late_events) == (len(events), 0)


def test_sparse_windows_of_a_stream_are_marked(trained, clock):
    events = made_events(0, 40, 100_000)
    few = Classifier(trained, min_events=1000)
    session, _ = session_of(few, [columns_of(events)], 100, clock)
    [found] = list(session.guesses(1.5))
    assert (found.guess, found.events, session.summary.too_few) == (None, 40, 1)
    assert found.as_json()["too_few_events"] is True


def test_transposed_streams(tmp_path, clock):
    lying = made_student(name="cifar10-dvs", photos="p", events="e")
    events = made_events(2)
    write_bin(tmp_path / "a.bin", events)
    [expected] = time_line(Classifier(lying), tmp_path / "a.bin", 1000)
    session, _ = session_of(Classifier(lying), [columns_of(events)], 1000, clock)
    [found] = session.guesses(1.5)
    assert found.guess == expected.guess


def test_a_source_that_fails_is_named(trained, clock):
    session, source = session_of(Classifier(trained), [], 10, clock)
    source.may = lambda: bool(1 / 0)
    refused(lambda: list(session.guesses(5)), "made: stopped", "division")
    assert source.closed


# UDP ----------------------------------------------------------------------------------------------


def sender_of(address: str, timestamps: bool) -> Callable[[Columns], None]:
    sender = eventcv.UdpSender(address, timestamps=timestamps)

    def send(columns: Columns) -> None:
        rows_N4 = np.stack(columns, 1).astype(np.int64)
        sender.send(eventcv.from_numpy(rows_N4, sensor_size=(64, 64), time_unit="us"))

    return send


def send_at_their_pace(port: int, events: Events, step_us: int = 2000) -> float:
    """Events with time stamps, as fast as these say or as the receiver empties its buffer.

    Returns:
        The longest time in s between two pieces, in which the receiver may have heard nothing.
    """
    send, begin = sender_of(f"127.0.0.1:{port}", True), time.monotonic()
    sent_at = [begin]
    for number, piece in enumerate(pieces_of(events, step_us)):
        time.sleep(max(0.0, begin + number * step_us / 1e6 - time.monotonic()))
        while waiting_bytes(port):
            time.sleep(0.001)
        if len(piece[2]):
            send(piece)
        sent_at.append(time.monotonic())
    return max(np.diff(sent_at))


def waiting_bytes(port: int) -> int:
    """What lies in a UDP socket's buffer; 0 where the machine does not tell."""
    try:
        lines = Path("/proc/net/udp").read_text().splitlines()[1:]
    except OSError:
        return 0
    words = [line.split() for line in lines]
    return sum(int(w[4].split(":")[1], 16) for w in words if w[1].endswith(f":{port:04X}"))


@pytest.mark.parametrize("timestamps", [True, False])
def test_events_over_udp(timestamps, monkeypatch):
    events = made_events(1, 20_000)
    events.x_N[::100] = 40
    inside_N = events.x_N < 32
    looks = itertools.count(0, 1000)
    monkeypatch.setattr(sources, "_now_us", lambda: next(looks))
    source = open_live("udp:127.0.0.1:0", SENSOR)
    send, pieces, sent = sender_of(source.name.removeprefix("udp:"), timestamps), [], 0
    ends = []
    for piece in pieces_of(events, 2000):
        before, sent = sent, sent + len(piece[2])
        send(piece)
        # The first reading waits for the second; later all but the newest piece must be there.
        while sum(len(p[2]) for p in pieces) + source.outside < (before if pieces else 0):
            read_into(pieces, ends, source)
        read_into(pieces, ends, source)
    while sum(len(p[2]) for p in pieces) + source.outside < sent:
        read_into(pieces, ends, source)
    source.close()
    x_N, y_N, t_N, polarity_N = (np.concatenate(c) for c in zip(*pieces, strict=True))
    assert source.outside == 200
    for found_N, sent_N in ((x_N, events.x_N), (y_N, events.y_N), (polarity_N, events.polarity_N)):
        assert (found_N == sent_N[inside_N]).all()
    if timestamps:
        assert (t_N == events.t_N[inside_N]).all()
        return
    assert (np.diff(t_N) >= 0).all()
    for piece, begin, end in zip(pieces, [0, *ends], ends, strict=False):
        assert begin <= piece[2][0] < end - 500
        assert end - 500 < piece[2][-1] < end


def read_into(pieces: list[Columns], ends: list[int], source: LiveSource) -> None:
    """Keep what a reading gives, and the time at its end."""
    if (piece := source.read()) is not None:
        pieces.append(piece)
        ends.append(source._until_us)  # pyright: ignore[reportAttributeAccessIssue]


def test_a_million_events_per_second_over_udp_and_ctrl_c(run):
    events = made_events(1, 1_500_000, 1_500_000)
    command = [
        sys.executable, "-m", "spikebridge", "predict", run, "--json", "--top", "1",
        "--window-ms", "100", "--live", "udp:127.0.0.1:0",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert "reading; Ctrl-C ends" in said
        assert process.stdout is not None
        longest_pause_s = send_at_their_pace(int(said.split(":")[2]), events)
        lines = [json.loads(process.stdout.readline())]
        while lines[-1]["end_ms"] <= 1400:
            lines.append(json.loads(process.stdout.readline()))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    finally:
        process.kill()
    assert (process.returncode, err) == (0, "")
    [summary] = [json.loads(line)["summary"] for line in out.splitlines()]
    assert summary["classified"] == len(lines)
    # The kernel's buffer is small, and a window ends in a silence: this machine may be busy.
    undisturbed = longest_pause_s < live._SILENCE_S / 2
    if undisturbed and not summary["lost"]:
        assert summary["events"] == len(events)
        assert summary["classified"] + summary["dropped"] == 15
    for line in lines[:-1] if undisturbed else ():
        assert line["end_ms"] - line["start_ms"] == pytest.approx(100)
        assert line["start_ms"] % 100 == 0
        assert line["top"][0]["confidence"] > 1 / 3


# A camera -----------------------------------------------------------------------------------------


class MadeCamera:
    name, serial, sensor_size, n_overflows = "DVXplorer", "7", SENSOR, 3

    def __init__(self, events: Events, clock: Clock) -> None:
        self.made = Made(pieces_of(events, 5000), clock)

    def read(self, *, timeout_ms: int) -> SimpleNamespace | None:
        assert timeout_ms == 100
        if (piece := self.made.read()) is None:
            return None
        return SimpleNamespace(numpy=lambda: np.stack(piece, 1).astype(np.uint64))

    def close(self) -> None:
        self.made.close()


def test_camera(trained, run, capsys, monkeypatch, tmp_path, clock):
    events = made_events(2)
    camera = MadeCamera(events, clock)
    asked, answers, answer = [], [], Session._answer
    monkeypatch.setattr(Session, "_answer", lambda *a: answers.append(a) or answer(*a))
    camera.made.answered = lambda: bool(answers)
    monkeypatch.setattr(eventcv, "list_cameras", lambda: [{"serial": "7"}])
    monkeypatch.setattr(eventcv, "stream", lambda *a, **k: asked.append((a, k)) or camera)
    command = ["predict", run, "--live", "camera:7", "--window-ms", "200", "--seconds", "1.5"]
    assert main([*command, "--json"]) == 0
    line, last = lines_of(capsys)
    write_bin(tmp_path / "a.bin", events)
    [expected] = time_line(Classifier(trained), tmp_path / "a.bin", 200)
    assert line["top"] == expected.as_json()["top"]
    assert (last["summary"]["lost"], last["summary"]["classified"]) == (3, 1)
    assert camera.made.closed
    assert asked == [(("7",), {"dt_ms": 5.0})]
    refused(lambda: open_live("camera", (9, 9)), "DVXplorer 7", "32×24", "9×9")
    monkeypatch.setattr(eventcv, "list_cameras", list)
    refused(lambda: open_live("camera", None), "no event camera found", "udev")
    refused(lambda: open_live("udp:127.0.0.1:0", None), "/WIDTHxHEIGHT")
