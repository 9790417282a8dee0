"""Classes of stored recordings and of their windows, and what is refused."""

import io
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from predict_case import (
    CLASSES,
    SENSOR,
    STEPS,
    kept,
    lines_of,
    logits_of,
    made_events,
    made_student,
)

from factories import refused
from spikebridge.cli import main
from spikebridge.data.events import read_events, write_bin
from spikebridge.data.prepared import frame_file
from spikebridge.results.predict import Classifier, curve_of_folder, predict
from spikebridge.results.predict.recordings import time_line


def test_json_lines_of_a_folder_are_the_students_softmax(trained, run, folder, capsys):
    assert main(["predict", run, str(folder), "--top", "2", "--json"]) == 0
    lines = lines_of(capsys)
    assert [line["file"] for line in lines] == [str(f) for f in sorted(folder.rglob("*.bin"))]
    for line in lines:
        assert list(line) == ["file", "events", "steps", "top"]
        assert (line["events"], line["steps"]) == (4000, STEPS)
        expected_C = logits_of(trained, Path(line["file"])).mean(0).softmax(0)
        order = expected_C.argsort(descending=True)[:2]
        assert [guess["class"] for guess in line["top"]] == [CLASSES[i] for i in order]
        shares = [guess["confidence"] for guess in line["top"]]
        assert shares == pytest.approx(expected_C[order].tolist(), abs=1e-4)
    assert len({line["top"][0]["confidence"] for line in lines}) == len(lines)


def test_linked_folders_are_entered_once(run, folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "real")
    (tmp_path / "seen").mkdir()
    for child in (tmp_path / "real").iterdir():
        (tmp_path / "seen" / child.name).symlink_to(child)
    (tmp_path / "real/loop").symlink_to(tmp_path / "real")
    count = len(list(folder.rglob("*.bin")))
    for name in ("seen", "real"):
        assert main(["predict", run, str(tmp_path / name), "--json"]) == 0
        assert len(lines_of(capsys)) == count


def test_a_name_of_another_encoding_is_printed_all_the_same(run, folder, tmp_path, capsys):
    file = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.bin")
    shutil.copy(sorted(folder.rglob("*.bin"))[0], file)
    assert main(["predict", run, file]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}/caf\\xe9.bin\t")


def test_paths_from_standard_input_and_a_bad_one_among_them(run, folder, capsys, monkeypatch):
    files = sorted(map(str, folder.rglob("*.bin")))[:2]
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{files[1]}\n\nnosuch.bin\n{files[0]}\n"))
    assert main(["predict", run, "-", "--json"]) == 2
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["file"] for line in lines] == [files[1], "nosuch.bin", files[0]]
    assert lines[1] == {
        "file": "nosuch.bin",
        "error": "nosuch.bin: no such recording; check the path",
    }
    assert "1 of 3 recordings" in err.splitlines()[-1]


def test_transposition_and_extent_come_from_the_run(folder):
    upright, lying = made_student(), made_student(name="cifar10-dvs", photos="p", events="e")
    events = read_events(sorted(folder.rglob("*.bin"))[0], SENSOR)
    file = folder.parent / f"turned-{folder.name}.bin"
    write_bin(file, events.transposed())
    lying = replace(lying, sensor=SENSOR[::-1])
    [expected] = predict(upright, sorted(folder.rglob("*.bin"))[:1])
    assert predict(lying, [file])[0].guess == expected.guess
    whole, tight = made_student(), made_student(extent="recording")
    small = replace(events, x_N=events.x_N // 2)
    write_bin(file, small)
    [found] = predict(tight, [file])
    width, height = int(small.x_N.max()) + 1, int(small.y_N.max()) + 1
    assert found.guess == Classifier(whole)(replace(small, sensor=(width, height)))
    assert found.guess != Classifier(whole)(small)


@pytest.fixture
def untold(folder, tmp_path) -> list[Path]:
    """One recording as CLASS/NAME: .npz that tells the sensor, then .npz and .csv that do not."""
    events = read_events(sorted(folder.glob("across/*.bin"))[0], SENSOR)
    x, y, t, p = events.x_N, events.y_N, events.t_N, events.polarity_N
    files = [tmp_path / "across" / name for name in ("told.npz", "untold.npz", "untold.csv")]
    files[0].parent.mkdir()
    np.savez(files[0], x=x, y=y, t=t, p=p, width=SENSOR[0], height=SENSOR[1])
    np.savez(files[1], x=x, y=y, t=t, p=p)
    np.savetxt(files[2], np.stack([t, x, y, p], 1), "%d", ",", header="t,x,y,p", comments="")
    return files


def test_a_file_that_tells_no_sensor_is_refused_as_in_training(untold):
    trained = replace(made_student(name="folders"), sensor=None)
    told, *others = untold
    classifier = Classifier(trained)
    assert predict(trained, [told])[0].events == 4000
    assert list(time_line(classifier, told, 50.0))
    curve_of_folder(trained, [str(told)])
    for file in others:
        for read in (
            lambda f: predict(trained, [f]),
            lambda f: list(time_line(classifier, f, 50.0)),
            lambda f: curve_of_folder(trained, [str(f)]),
            lambda f: frame_file(f, trained.config.data, None),
        ):
            refused(lambda f=file, r=read: r(f), f"{file}: does not tell the camera's width",
                    "data.sensor [346, 260]")  # fmt: skip
    # Where nothing but the events is framed, or the run knows the sensor, none is asked for.
    by_events = replace(made_student(name="folders", extent="recording"), sensor=None)
    for student in (by_events, made_student(name="folders"),
                    replace(made_student(name="cep-dvs"), sensor=None)):  # fmt: skip
        assert len(predict(student, untold)) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--live", "udp:127.0.0.1:1"], ("--live needs --window-ms",)),
        (["a.bin", "--live", "camera"], ("neither files",)),
        (["a.bin", "--stride-ms", "3"], ("--stride-ms needs --window-ms",)),
        (["a.bin", "--seconds", "3"], ("--seconds", "--live")),
        (["--curve", "--confidence", "0.5"], ("--curve",)),
        (["FILE", "--confidence", "1.5"], ("confidence", "1.5")),
        (["FILE", "--top", "0"], ("top must be at least 1",)),
        (["FILE", "--window-ms", "0"], ("window-ms", "0.001")),
        (["FILE", "--min-events", "4001"], ("4000 events", "min-events")),
        (["EMPTY"], ("no recording found", ".aedat4")),
        (["--live", "usb", "--window-ms", "9"], ("'usb'", "udp:HOST:PORT")),
        (["--live", "udp:127.0.0.1:0/9x9", "--window-ms", "9"], ("9×9", "32×24")),
        (
            ["--live", "udp:127.0.0.1:99999", "--window-ms", "9"],
            (":99999", "HOST:PORT"),
        ),
    ],
)
def test_what_is_refused(run, folder, tmp_path, arguments: list[str], words, capsys):
    places: dict[str, str] = {"FILE": str(next(folder.rglob("*.bin"))), "EMPTY": str(tmp_path)}
    assert main(["predict", run, *(places.get(a, a) for a in arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert all(word in err for word in words), err


def test_time_line_marks_windows_with_too_few_events(trained, run, tmp_path, capsys):
    events = made_events(1)
    keep_N = (events.t_N < 40_000) | (events.t_N >= 90_000)
    keep_N[np.flatnonzero((events.t_N >= 40_000) & (events.t_N < 50_000))[:2]] = True
    events = kept(events, keep_N)
    write_bin(tmp_path / "a.bin", events)
    command = ["predict", run, str(tmp_path / "a.bin"), "--window-ms", "20", "--stride-ms", "10"]
    assert main([*command, "--json", "--top", "1"]) == 0
    lines = lines_of(capsys)
    spans = [(line["start_ms"], line["end_ms"]) for line in lines]
    whole = [(float(10 * k), 10.0 * k + 20) for k in range(9)]
    assert spans == [*whole[:5], (50.0, 90.0), whole[8]]  # 50–70, 60–80, 70–90 are empty.
    marked = [line["start_ms"] for line in lines if line["too_few_events"]]
    assert marked == [40.0, 50.0]
    assert [line["events"] for line in lines if line["too_few_events"]] == [2, 0]
    for line in lines:
        inside_N = (events.t_N >= 1000 * line["start_ms"]) & (events.t_N < 1000 * line["end_ms"])
        assert line["events"] == inside_N.sum()
        if line["too_few_events"]:
            assert (line["top"], line["steps"]) == ([], None)
            continue
        guess = Classifier(trained, top=1)(kept(events, inside_N))
        assert line["top"] == guess.as_json()["top"]
    assert main([*command, "--min-events", "434"]) == 0
    assert capsys.readouterr().out.count("too few events") == 3  # 30–50 ms hold 402 events.
    assert lines[3]["events"] < 434 == lines[-1]["events"]
