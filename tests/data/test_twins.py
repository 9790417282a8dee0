"""A folder of twins: N-Caltech101's layout, whole files only, the same bytes however it is made."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from factories import as_rows, photo_folder, picture, refused
from spikebridge.cli import main
from spikebridge.data.events import read_events
from spikebridge.data.simulation.simulate import Simulator
from spikebridge.data.simulation.twins import simulate_folder

SIMULATOR = Simulator(width=16, height=16, amplitude=3.0, frames=30)


def _files(root: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {str(f.relative_to(root)): f.read_bytes() for f in root.rglob("*") if f.is_file()}


def test_a_folder_becomes_n_caltech101s_layout(tmp_path: Path) -> None:
    photos = photo_folder(tmp_path / "photos", count=3)
    assert simulate_folder(photos, tmp_path / "out", SIMULATOR, seed=0) == 6
    assert sorted(_files(tmp_path / "out")) == [
        *(f"{c}/image_000{i}.bin" for c in ("cup", "saw") for i in (1, 2, 3)),
        "simulator.json",
    ]
    recording = read_events(tmp_path / "out/cup/image_0001.bin", (16, 16))
    assert len(recording) > 100


def test_recordings_depend_on_seed_class_and_name_alone(tmp_path: Path) -> None:
    photos = photo_folder(tmp_path / "photos", count=3)
    simulate_folder(photos, tmp_path / "a", SIMULATOR, seed=0)
    first = _files(tmp_path / "a")
    for jobs in (1, 8):
        simulate_folder(photos, tmp_path / f"{jobs}", SIMULATOR, seed=0, jobs=jobs)
        assert _files(tmp_path / f"{jobs}") == first
    for file in [*(photos / "cup").iterdir(), photos / "saw/image_0002.png"]:
        file.unlink()
    (photos / "cup").rmdir()
    simulate_folder(photos, tmp_path / "c", SIMULATOR, seed=0)
    kept = ("saw/image_0001.bin", "saw/image_0003.bin", "simulator.json")
    assert _files(tmp_path / "c") == {name: first[name] for name in kept}
    simulate_folder(photos, tmp_path / "d", SIMULATOR, seed=1)
    other = _files(tmp_path / "d")
    assert all(other[name] != first[name] for name in kept)


def test_the_same_photo_under_another_name_has_other_noise(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(0)).save(tmp_path / "photos" / name)
    simulate_folder(tmp_path / "photos", tmp_path / "out", SIMULATOR, seed=0)
    recordings = [data for name, data in _files(tmp_path / "out").items() if ".bin" in name]
    assert len(set(recordings)) == 3


def test_a_repeated_call_keeps_what_is_there_and_makes_the_rest_alike(tmp_path: Path) -> None:
    photos, out = photo_folder(tmp_path / "photos", count=3), tmp_path / "out"
    simulate_folder(photos, out, SIMULATOR, seed=0)
    first = _files(out)
    assert simulate_folder(photos, out, SIMULATOR, seed=0) == 0
    (out / "cup/image_0002.bin").unlink()
    (out / "saw/image_0001.bin").unlink()
    times = {f: f.stat().st_mtime_ns for f in out.rglob("*.bin")}
    assert simulate_folder(photos, out, SIMULATOR, seed=0) == 2
    assert _files(out) == first
    assert {f: f.stat().st_mtime_ns for f in times} == times


def test_a_twin_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    photos, out = photo_folder(tmp_path / "photos", count=1), tmp_path / "out"
    simulate_folder(photos, out, SIMULATOR, seed=0)
    note = out / "simulator.json"
    settings = json.loads(note.read_text())
    for name in ("crop", "saccade_times", "hot_pixels"):
        del settings[name]
    note.write_text(json.dumps(settings))
    assert simulate_folder(photos, out, SIMULATOR, seed=0) == 0
    times = (0.0, 0.3, 0.4, 0.6, 0.7, 1.0)
    for other in (replace(SIMULATOR, crop=1), replace(SIMULATOR, saccade_times=times)):
        refused(lambda one=other: simulate_folder(photos, out, one, seed=0), "other settings")
    simulate_folder(photos, tmp_path / "rests", replace(SIMULATOR, saccade_times=times), seed=0)
    again = replace(SIMULATOR, saccade_times=times)
    assert simulate_folder(photos, tmp_path / "rests", again, seed=0) == 0
    note.write_text("{")
    refused(lambda: simulate_folder(photos, out, SIMULATOR, seed=0), "other settings")


def test_a_bad_photo_leaves_whole_recordings_or_none(tmp_path: Path) -> None:
    photos, out = photo_folder(tmp_path / "photos", count=3), tmp_path / "out"
    simulate_folder(photos, tmp_path / "whole", SIMULATOR, seed=0)
    whole = _files(tmp_path / "whole")
    bad = photos / "cup/image_0002.png"
    good = bad.read_bytes()
    bad.write_bytes(good[: len(good) // 2])
    refused(lambda: simulate_folder(photos, out, SIMULATOR, seed=0), bad, "replace or remove it")
    made = _files(out)
    assert "cup/image_0002.bin" not in made
    assert made == {name: whole[name] for name in made}
    bad.write_bytes(good)
    simulate_folder(photos, out, SIMULATOR, seed=0)
    assert _files(out) == whole


def test_the_first_bad_photo_ends_the_call(tmp_path: Path) -> None:
    photos, out = photo_folder(tmp_path / "photos", count=20), tmp_path / "out"
    bad = photos / "cup/image_0003.png"
    bad.write_bytes(b"no photo")
    refused(lambda: simulate_folder(photos, out, SIMULATOR, seed=0, jobs=1), bad)
    made = sorted(_files(out))
    assert made[:2] == ["cup/image_0001.bin", "cup/image_0002.bin"]
    assert len(made) < 20


def test_a_failure_while_writing_leaves_no_partial_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, out = photo_folder(tmp_path / "photos", count=2), tmp_path / "out"
    write = Path.write_bytes

    def half(self: Path, data: bytes) -> int:
        write(self, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    refused(lambda: simulate_folder(photos, out, SIMULATOR, seed=0), out, "No space left", "free")
    assert list(_files(out)) == ["simulator.json"]


def test_a_uniform_photo_in_a_folder_is_named(tmp_path: Path) -> None:
    photos = photo_folder(tmp_path / "photos", count=1)
    Image.new("L", (16, 16), 99).save(photos / "cup/image_0002.png")
    silent = replace(SIMULATOR, leak_rate_hz=0.0, shot_noise_hz=0.0)
    refused(
        lambda: simulate_folder(photos, tmp_path / "out", silent, seed=0),
        photos / "cup/image_0002.png",
        "no change",
    )


def test_classes_can_be_left_out(tmp_path: Path) -> None:
    photos = photo_folder(tmp_path / "photos", ("cup", "saw", "owl"), count=1)
    assert simulate_folder(photos, tmp_path, SIMULATOR, seed=0, exclude=["saw", "none"]) == 2
    assert {file.parent.name for file in tmp_path.rglob("*.bin")} == {"cup", "owl"}


def test_npz_holds_the_same_events_in_plain_arrays(tmp_path: Path) -> None:
    photos, out = photo_folder(tmp_path / "photos", count=2), tmp_path / "out"
    simulate_folder(photos, tmp_path / "bin", SIMULATOR, seed=0)
    assert simulate_folder(photos, out, SIMULATOR, seed=0, format="npz") == 4
    first = _files(out)
    assert sorted(first) == [
        *(f"{c}/image_000{i}.npz" for c in ("cup", "saw") for i in (1, 2)),
        "simulator.json",
    ]
    for file in out.rglob("*.npz"):
        twin = tmp_path / "bin" / file.parent.name / f"{file.stem}.bin"
        assert as_rows(read_events(file, (16, 16))) == as_rows(read_events(twin, (16, 16)))
        with np.load(file) as arrays:
            types = {name: str(arrays[name].dtype) for name in arrays.files}
        assert types == {"x": "uint16", "y": "uint16", "t": "int64", "p": "uint8"}
    assert simulate_folder(photos, out, SIMULATOR, seed=0, format="npz") == 0
    next(out.rglob("*.npz")).unlink()
    assert simulate_folder(photos, out, SIMULATOR, seed=0, format="npz") == 1
    assert _files(out) == first


def test_formats_do_not_mix_in_a_folder(tmp_path: Path) -> None:
    photos = photo_folder(tmp_path / "photos", count=1)
    formats = ("bin", "npz")
    for format in formats:
        simulate_folder(photos, tmp_path / format, SIMULATOR, seed=0, format=format)
    first = _files(tmp_path)
    for held, other in (formats, formats[::-1]):
        refused(
            lambda out=tmp_path / held, other=other: simulate_folder(
                photos, out, SIMULATOR, seed=0, format=other
            ),
            tmp_path / held,
            f"holds .{held} recordings",
            f"--format {held}",
        )
    assert _files(tmp_path) == first


def test_npz_holds_any_sensor(tmp_path: Path) -> None:
    photos = photo_folder(tmp_path / "photos", ("cup",), count=1)
    wide = replace(SIMULATOR, width=300, height=8, aspect="stretch", frames=8)
    simulate_folder(photos, tmp_path, wide, seed=0, format="npz")
    assert read_events(tmp_path / "cup/image_0001.npz").x_N.max() > 255


# Killed calls ------------------------------------------------------------------------------------


STOPPED = """
import time
from spikebridge.cli import main
from spikebridge.data.simulation import twins

def read_photo(file, seen=[]):
    seen.append(file)
    if len(seen) == 6:
        print("amid the sixth", flush=True)
        time.sleep(1e6)
    return read(file)

read, twins.read_photo = twins.read_photo, read_photo
main()
"""


def test_a_killed_command_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    photos, out = photo_folder(tmp_path / "photos", count=14), tmp_path / "out"
    call = ["simulate", "--photos", str(photos), "--sensor", "120x90", "--seed", "3", "--out"]
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, *call, str(out), "--jobs", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == b"amid the sixth\n"
        process.kill()
    made = {file: file.stat().st_mtime_ns for file in out.rglob("*.bin")}
    assert len(made) == 5
    # As if it had been killed while it wrote these.
    for left in (out / "cup/.image_0014.bin.a_bcd123", out / ".simulator.json.zyxw9876"):
        left.write_bytes(b"half")
        os.utime(left, (0, 0))
    assert main([*call, str(out)]) == 0
    assert {file: file.stat().st_mtime_ns for file in made} == made
    assert main([*call, str(tmp_path / "whole")]) == 0
    assert _files(out) == _files(tmp_path / "whole")


def test_what_another_call_is_writing_is_left_alone(tmp_path: Path) -> None:
    photos, out = photo_folder(tmp_path / "photos", count=1), tmp_path / "out"
    simulate_folder(photos, out, SIMULATOR, seed=0)
    (out / "saw/image_0001.bin").unlink()
    half = out / "saw/.image_0001.bin.abcd1234"
    half.write_bytes(b"half")
    assert simulate_folder(photos, out, SIMULATOR, seed=0) == 1
    assert half.exists()
    os.utime(half, (0, 0))
    assert simulate_folder(photos, out, SIMULATOR, seed=0) == 0
    assert not half.exists()


# Refusals ----------------------------------------------------------------------------------------


def test_two_photos_of_one_name_are_refused(tmp_path: Path) -> None:
    photos = photo_folder(tmp_path / "photos", count=1)
    Image.fromarray(picture(7)).save(photos / "cup/image_0001.jpg")
    refused(
        lambda: simulate_folder(photos, tmp_path / "out", SIMULATOR, seed=0),
        "image_0001.png",
        "image_0001.jpg",
        "rename",
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [(257, 100), (100, 241)])
def test_a_sensor_that_bin_cannot_hold_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    photos = photo_folder(tmp_path / "photos", count=1)
    simulator = Simulator(width=size[0], height=size[1])
    refused(
        lambda: simulate_folder(photos, tmp_path / "out", simulator, seed=0),
        f"{size[0]}×{size[1]}",
        "simulator.width",
    )
    assert not (tmp_path / "out").exists()


# The command -------------------------------------------------------------------------------------

SMALL = ["--simulator.width", "16", "--simulator.height", "16", "--simulator.frames", "20"]


def test_the_command_simulates_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = photo_folder(tmp_path / "photos", count=2), tmp_path / "out"
    call = ["simulate", "--photos", str(photos), "--out", str(out), *SMALL]
    assert main(call) == 0
    assert f"{out}: 4 recordings made" in capsys.readouterr().out
    first = _files(out)
    simulate_folder(photos, tmp_path / "api", Simulator(width=16, height=16, frames=20), seed=0)
    assert _files(tmp_path / "api") == first
    (out / "cup/image_0001.bin").unlink()
    assert main(call) == 0
    assert f"{out}: 1 recordings made" in capsys.readouterr().out
    assert _files(out) == first


@pytest.mark.parametrize("change", [["--seed", "1"], ["--simulator.amplitude", "4"]], ids=str)
def test_the_command_refuses_other_settings_in_the_same_folder(
    tmp_path: Path, change: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = photo_folder(tmp_path / "photos", count=1), tmp_path / "out"
    call = ["simulate", "--photos", str(photos), "--out", str(out), *SMALL]
    assert main(call) == 0
    first = _files(out)
    capsys.readouterr()
    assert main([*call, *change]) == 2
    error = capsys.readouterr().err
    assert error.startswith("spikebridge: error: ")
    assert error.count("\n") == 1
    assert "other settings" in error
    assert "choose another --out" in error
    assert _files(out) == first


def test_sensor_and_motion_are_short_for_the_simulators_settings(tmp_path: Path) -> None:
    photos = photo_folder(tmp_path / "photos", count=1)
    call = ["simulate", "--photos", str(photos), "--simulator.frames", "20", "--out"]
    short = ["--sensor", "20x12", "--motion", "pan", "--format", "npz", "--jobs", "1"]
    left_out = ["--exclude", "cup", "--exclude", "x", "y"]
    assert main([*call, str(tmp_path / "a"), *short, *left_out]) == 0
    simulator = Simulator(width=20, height=12, motion="pan", frames=20)
    simulate_folder(
        photos, tmp_path / "b", simulator, seed=0, exclude=["cup", "x", "y"], format="npz"
    )
    assert _files(tmp_path / "a") == _files(tmp_path / "b")
    assert len(_files(tmp_path / "a")) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--sensor", "240"], "--sensor takes WIDTHxHEIGHT such as 240x180, got '240'"),
        (["--sensor", "240x-180"], "--sensor takes"),
        (["--sensor", "3x30"], "at least 4×4 pixels"),
        (["--sensor", "257x180"], "does not fit .bin"),
        (["--motion", "sweep"], "--motion must be one of saccade, pan, random, not sweep"),
        (["--format", "csv"], "--format must be one of bin, npz, not csv"),
        (["--jobs", "0"], "--jobs must be at least 1, got 0"),
    ],
    ids=lambda value: "".join(value) if isinstance(value, list) else "",
)
def test_bad_options_get_one_line(
    tmp_path: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = photo_folder(tmp_path / "photos", count=1)
    assert main(["simulate", "--photos", str(photos), "--out", str(tmp_path / "o"), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("spikebridge: error: ")
    assert error.count("\n") == 1
    assert words in error
    assert not (tmp_path / "o").exists()
