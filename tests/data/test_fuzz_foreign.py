"""The processes that libraries read recordings in: bounded, replaceable, alone with their file."""

import json
import multiprocessing
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fuzz_seeds import RECORDINGS, ROWS

from factories import as_rows, refused
from spikebridge.data.events import read_events
from spikebridge.data.formats import foreign

EXPECTED = list(map(tuple, ROWS.tolist()))


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    file = tmp_path / "a.h5"
    file.write_bytes(RECORDINGS["h5"][1])
    return file


@pytest.fixture
def own_processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(foreign, "_IDLE", {})
    yield
    foreign._stop_all()


@pytest.fixture
def odd_processes(own_processes: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that hang or crash when a file tells them to, not when libraries happen to."""
    monkeypatch.setattr(foreign, "_WORKER", "odd_worker")


def pids() -> list[int]:
    return [process.pid for process in foreign._IDLE[os.getpid()]]


def test_one_process_reads_file_after_file(own_processes: None, recording: Path) -> None:
    for _ in range(3):
        assert as_rows(read_events(recording)) == EXPECTED
    refused(lambda: read_events(recording, (3, 3)), "outside")
    assert len(pids()) == 1


def test_arrays_can_be_written(recording: Path) -> None:
    events = read_events(recording)
    for array in (events.x_N, events.y_N, events.t_N, events.polarity_N):
        array[0] = 0


def test_a_process_that_died_is_replaced(own_processes: None, recording: Path) -> None:
    read_events(recording)
    (pid,) = pids()
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert as_rows(read_events(recording)) == EXPECTED
    assert pids() != [pid]


def test_a_crash_harms_the_damaged_file_alone(odd_processes: None, recording: Path) -> None:
    read_events(recording)
    file = recording.parent / "a.txt"
    file.write_bytes(b"crash!")
    refused(lambda: read_events(file), file, "crashes the reader")
    assert pids() == []
    assert as_rows(read_events(recording)) == EXPECTED


def test_reading_that_takes_too_long_is_ended(
    odd_processes: None, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = recording.parent / "a.txt"
    file.write_bytes(b"hangs!")
    with monkeypatch.context() as patch:
        patch.setattr(foreign, "_SECONDS", 0)
        refused(lambda: read_events(file), file, "takes too long")
    assert as_rows(read_events(recording)) == EXPECTED


def test_reading_may_take_time_and_memory_for_each_byte(
    own_processes: None, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict] = []

    def ask(process: subprocess.Popen, request: dict) -> tuple[dict, bytearray]:
        asked.append(request)
        return answer(process, request)

    answer = foreign._ask
    monkeypatch.setattr(foreign, "_ask", ask)
    file = recording.parent / "a.txt"
    file.write_bytes(b"0 0 0 0\n" * (1 << 17))
    assert len(read_events(file)) == 1 << 17
    read_events(recording)
    large, small = asked
    assert (small["seconds"], large["seconds"]) == (5, 5 + 4)
    assert small["memory"] == (256 << 20) + 128 * recording.stat().st_size
    assert large["memory"] == (256 << 20) + (128 << 20)


def test_memory_is_bounded(odd_processes: None, recording: Path) -> None:
    read_events(recording)
    file = recording.parent / "a.txt"
    file.write_bytes(b"greedy")
    refused(lambda: read_events(file), file, "memory")
    assert as_rows(read_events(recording)) == EXPECTED


def test_threads_read_at_once(own_processes: None, tmp_path: Path) -> None:
    files = []
    for index in range(24):
        file = tmp_path / f"{index}.txt"
        file.write_text("".join(f"{t} {index} 2 1\n" for t in range(200)))
        files.append(file)
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(read_events, files))
    assert [set(events.x_N.tolist()) for events in read] == [{index} for index in range(24)]
    assert len(pids()) <= 4


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_has_processes_of_its_own(own_processes: None, recording: Path) -> None:
    read_events(recording)
    (pid,) = pids()
    with multiprocessing.get_context("fork").Pool(1) as pool:
        events = pool.apply(read_events, (recording,))
        assert as_rows(events) == EXPECTED
        assert as_rows(read_events(recording)) == EXPECTED
    assert pids() == [pid]


def test_relative_paths_follow_the_current_folder(
    own_processes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, x in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(f"1 {x} 2 1\n")
        monkeypatch.chdir(tmp_path / name)
        assert read_events("a.txt").x_N.tolist() == [x]


def test_modules_in_the_current_folder_are_not_imported(
    own_processes: None, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (recording.parent / "numpy.py").write_text("raise SystemExit")
    monkeypatch.chdir(recording.parent)
    assert as_rows(read_events(recording)) == EXPECTED


def test_ctrl_c_leaves_no_half_answer(
    own_processes: None, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(process: subprocess.Popen, request: dict) -> None:
        assert process.stdin
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(foreign, "_ask", interrupt)
        read_events(recording)
    assert as_rows(read_events(recording)) == EXPECTED


def test_ctrl_c_ends_the_reading_process_with_the_program(recording: Path) -> None:
    code = (
        "import os, sys, time\n"
        "from spikebridge.data import events; from spikebridge.data.formats import foreign\n"
        "events.read_events(sys.argv[1]); print(foreign._IDLE[os.getpid()][0].pid, flush=True)\n"
        "time.sleep(60)"
    )
    program = subprocess.Popen(
        [sys.executable, "-c", code, str(recording)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with program:
        assert program.stdout
        reader = os.pidfd_open(int(program.stdout.readline()))
        os.killpg(program.pid, signal.SIGINT)
    # Readable once it has ended; the limit is that of a test that hangs.
    ended, _, _ = select.select([reader], [], [], 600)
    os.close(reader)
    assert ended


def test_a_reader_that_does_not_start_says_so(
    own_processes: None, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="foreign_worker does not start"):
        read_events(recording)


def test_a_large_recording_passes_whole(tmp_path: Path) -> None:
    count = 300_000
    random = np.random.default_rng(3)
    rows = np.stack(
        [
            np.sort(random.integers(0, 10**6, count)),
            random.integers(0, 240, count),
            random.integers(0, 180, count),
            random.integers(0, 2, count),
        ],
        1,
    )
    file = tmp_path / "a.txt"
    np.savetxt(file, rows, "%d")
    events = read_events(file, (240, 180))
    read = np.stack([events.t_N, events.x_N, events.y_N, events.polarity_N], 1)
    np.testing.assert_array_equal(read, rows)
