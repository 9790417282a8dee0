"""`spikebridge data list` and `data check`: what they say, and the exit code."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from factories import files_in, forbid, packed, png_bytes, refused
from spikebridge.cli import main
from spikebridge.data.check import ClassReport, Report, Tally, check
from spikebridge.data.check_page import check_page
from spikebridge.data.datasets import DATASETS
from spikebridge.data.datasets.catalog import open_collection
from spikebridge.data.settings import DataConfig


def _bin(number: int) -> bytes:
    return packed([(1, 2, 3, 1), (4, 5, 6 + number, 0)])


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Recordings and photos 1 to 4 of cup and saw, all well."""
    numbers = [(c, n) for c in ("cup", "saw") for n in range(1, 5)]
    files_in(tmp_path / "events", {f"{c}/{n}.bin": _bin(ord(c[0]) + n) for c, n in numbers})
    files_in(tmp_path / "photos", {f"{c}/{n}.png": png_bytes(ord(c[0]) + n) for c, n in numbers})
    return tmp_path


def _check(root: Path, name: str = "folders", **changes: object) -> Report:
    folders = {"events": str(root / "events"), "photos": str(root / "photos")}
    return check(DataConfig(name=name, **{**folders, **changes}))  # pyright: ignore[reportArgumentType]


def _said(report: Report) -> list[tuple[str, str, str | None, str]]:
    return [(f.severity, f.trouble, f.kind, f.class_name) for f in report.findings]


def test_folders_that_are_all_well(folders: Path) -> None:
    report = _check(folders)
    whole = Tally(found=4, missing=0, empty=0, unreadable=0, duplicated=0, unpaired=0)
    assert report.classes == [ClassReport("cup", whole, whole), ClassReport("saw", whole, whole)]
    assert report.findings == []
    assert report.paired
    assert report.verdict == (
        "folders can be used: 2 classes, 8 recordings, 8 photos; 8 pairs; 0 warnings"
    )


def test_every_bad_file_is_found(folders: Path) -> None:
    events, photos = folders / "events", folders / "photos"
    (events / "cup/1.bin").write_bytes(b"")
    (events / "cup/2.bin").write_bytes(packed([(0, 240, 0, 0)]))  # an overflow mark, no event
    (events / "cup/3.bin").write_bytes(_bin(1)[:-2])
    (events / "saw/1.bin").write_bytes(packed([(250, 2, 3, 1)]))  # outside 240×180
    (events / "saw/2.bin").write_bytes((events / "saw/3.bin").read_bytes())
    (events / "saw/4.bin").rename(events / "saw/5.bin")
    (photos / "cup/1.png").write_bytes(b"")
    (photos / "cup/2.png").write_bytes(b"\x89PNG nonsense")
    (photos / "saw/3.png").write_bytes((photos / "cup/3.png").read_bytes())
    (photos / "saw/notes.txt").write_text("taken in May")
    report = _check(folders)
    cup, saw = report.classes
    assert cup.recordings == Tally(4, 0, empty=2, unreadable=1, duplicated=0, unpaired=0)
    assert cup.photos == Tally(4, 0, empty=1, unreadable=1, duplicated=0, unpaired=0)
    assert saw.recordings == Tally(4, 0, empty=0, unreadable=1, duplicated=1, unpaired=1)
    assert saw.photos == Tally(4, 0, empty=0, unreadable=0, duplicated=1, unpaired=1)
    by_file = {f.message.split(":")[0].removeprefix(f"{folders}/"): f for f in report.findings}
    errors = {name for name, f in by_file.items() if f.severity == "error"}
    assert errors == {
        "events/cup/1.bin", "events/cup/2.bin", "events/cup/3.bin", "events/saw/1.bin",
        "photos/cup/1.png", "photos/cup/2.png",
    }  # fmt: skip
    assert "truncated" in by_file["events/cup/3.bin"].message
    assert "outside the 240×180" in by_file["events/saw/1.bin"].message
    assert f"same content as {events}/saw/2.bin" in by_file["events/saw/3.bin"].message
    copy = by_file["photos/saw/3.png"]
    assert f"{photos}/cup/3.png of class 'cup'" in copy.message
    assert copy.severity == "warning"
    assert "which photo it shows is unknown" in by_file["events/saw/5.bin"].message
    assert by_file["photos/saw/4.png"].severity == "note"
    assert "notes.txt" in by_file["photos/saw"].message
    assert [f.severity for f in report.findings] == sorted(
        (f.severity for f in report.findings), key=["error", "warning", "note"].index
    )
    assert "cannot be used" in report.verdict
    assert "6 errors" in report.verdict


def test_a_class_of_which_nothing_can_be_read(folders: Path) -> None:
    for file in (folders / "photos/saw").iterdir():
        file.write_bytes(b"nonsense")
    report = _check(folders)
    assert ("error", "missing", "photo", "saw") in _said(report)
    assert any(
        "none of the 4 photos of class 'saw' can be read" in f.message for f in report.errors
    )
    # Left out, it is no obstacle.
    assert _check(folders, exclude=["saw"]).errors == []


def test_classes_that_differ(folders: Path) -> None:
    (folders / "events/saw").rename(folders / "events/saws")
    (folders / "photos/dog").mkdir()
    report = _check(folders)
    messages = [f.message for f in report.errors]
    assert len(messages) == 3
    assert any("'saws' has recordings but no photo (is it 'saw' there?)" in m for m in messages)
    assert any("'saw' has photos but no recording (is it 'saws' there?)" in m for m in messages)
    assert any("'dog'" in m for m in messages)
    assert [c.name for c in report.classes] == ["cup", "dog", "saw", "saws"]


def test_a_class_that_trains_on_events_alone(folders: Path) -> None:
    for file in (folders / "photos/saw").iterdir():
        file.unlink()
    (refusal,) = _check(folders).errors
    assert refusal.message.endswith("or in data.events_alone to train it without photos")
    report = _check(folders, events_alone=["saw"])
    assert report.findings == []
    assert [(c.recordings.found, c.photos.found) for c in report.classes] == [(4, 4), (4, 0)]
    assert report.verdict == (
        "folders can be used: 2 classes, 8 recordings, 4 photos; 1 class on events alone; 4 pairs; "
        "0 warnings"
    )
    (folders / "photos/saw").rmdir()
    assert _check(folders, events_alone=["saw"]) == report
    # Photos that are there are not used, which is said.
    other = _check(folders, events_alone=["cup", "saw"])
    said = {f.severity: f.message.split(": ", 1)[-1] for f in other.findings}
    assert said["error"] == "data.events_alone names every class; leave out one that has photos"
    assert said["note"] == "class 'cup' trains on events alone; 4 photos not used"
    (misspelt,) = _check(folders, events_alone=["saw", "cop"]).errors
    assert "no class 'cop', which data.events_alone names (is it 'cup' there?)" in misspelt.message


def test_the_command_names_its_own_option_for_classes_without_photos(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders.joinpath("photos/saw").rename(folders / "elsewhere")
    given = ["data", "check", "folders", "--events", str(folders / "events")]
    given += ["--photos", str(folders / "photos")]
    assert main(given) == 2
    assert "or in --events-alone to train it without photos" in capsys.readouterr().err
    assert main([*given, "--events-alone", "saw"]) == 0
    assert "1 class on events alone" in capsys.readouterr().out


def test_names_that_match_nowhere_are_said(folders: Path) -> None:
    for file in list((folders / "events").glob("*/*.bin")):
        file.rename(file.with_name(f"take{file.name}"))
    report = _check(folders)
    assert not report.paired
    assert _said(report) == [("warning", "unpaired", None, "")]
    assert "joined by class only" in report.verdict
    assert report.classes[0].recordings.unpaired == 0


def test_photos_alone(folders: Path) -> None:
    report = _check(folders, events=None)
    assert report.errors == []
    assert _said(report) == [("note", "left out", "recording", "")]
    assert "simulate" in report.findings[0].message


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    report = _check(tmp_path)
    assert [f.message for f in report.errors] == [
        f"{tmp_path}/events: no such folder of recordings; set data.events",
        f"{tmp_path}/photos: no such folder of photos; set data.photos",
    ]
    assert "all" in check_page(report)


@pytest.mark.parametrize("name", [n for n in DATASETS if n != "digits"])
def test_folders_that_may_not_be_read(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("events", "photos"):
        (tmp_path / kind / "data/img").mkdir(parents=True)
        (tmp_path / kind / "data/img/00000.jpg").touch()
    forbid(monkeypatch, tmp_path)
    report = _check(tmp_path, name, unlabelled=str(tmp_path / "photos"))
    assert {(f.severity, f.kind) for f in report.errors} == {
        ("error", "recording"), ("error", "photo"),
    }  # fmt: skip
    assert all("Permission denied" in finding.message for finding in report.errors)


def test_events_that_were_put_in_order_are_counted(folders: Path) -> None:
    rows = [(1, 2, 5_000, 1), (1, 2, 4_997, 0), (1, 2, 4_998, 0), (1, 2, 5_001, 0)]
    (folders / "events/cup/2.bin").write_bytes(packed(rows))
    report = _check(folders)
    assert report.errors == []
    assert _said(report) == [("note", "out of order", "recording", "cup")]
    message = report.findings[0].message
    assert message == f"{folders}/events/cup/2.bin: 2 events came late and were put in order"
    assert "note: recordings with events out of order" in check_page(report)


def test_published_classes_and_recordings_that_are_missing(tmp_path: Path) -> None:
    numbers = range(1, 61)
    files_in(tmp_path / "events", {f"yin_yang/image_{n:04d}.bin": _bin(n) for n in numbers})
    files_in(tmp_path / "events", {f"wrench/image_{n:04d}.bin": _bin(n + 90) for n in (1, 2)})
    for name in ("yin_yang", "wrench", "Faces", "ant"):
        files_in(
            tmp_path / "photos",
            {f"{name}/image_{n:04d}.jpg": png_bytes(n + len(name), "jpeg") for n in (1, 2)},
        )
    report = _check(tmp_path, "ncaltech101")
    assert report.errors == []
    assert len(report.classes) == 101
    found = {c.name: c for c in report.classes if c.recordings.found}
    assert set(found) == {"yin_yang", "wrench"}
    assert found["yin_yang"].recordings == Tally(60, 0, 0, 0, 0, 58)
    assert found["wrench"].recordings.missing == 37
    absent = next(c for c in report.classes if c.name == "accordion")
    assert absent.recordings == Tally(0, 55, 0, 0, 0, 0)
    messages = [f.message for f in report.findings]
    assert any("99 of 101 published classes" in m and "BACKGROUND_Google" in m for m in messages)
    assert any("class 'wrench' has 2 of 39 published recordings" in m for m in messages)
    assert any("Faces" in m and "Faces_easy" in m for m in messages)
    assert any("'ant' has photos but no recording; its photos are not used" in m for m in messages)
    assert "2 classes, 62 recordings, 4 photos; 4 pairs" in report.verdict


# The command --------------------------------------------------------------------------------------


def _run(*arguments: object) -> int:
    return main(["data", *map(str, arguments)])


def _words(folders: Path) -> list[object]:
    return ["check", "folders", "--events", folders / "events", "--photos", folders / "photos"]


def test_the_command_on_good_folders(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(*_words(folders)) == 0
    page = capsys.readouterr().out
    assert page.splitlines()[-1].startswith("folders can be used: 2 classes, 8 recordings")
    assert max(map(len, page.splitlines()[1:])) <= 100
    [cup] = [line for line in page.splitlines() if line.startswith("cup")]
    assert cup.split() == ["cup", "4", *"-----", "4", *"----"]


def test_the_command_on_bad_folders(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folders / "events/cup/1.bin").write_bytes(b"1234")
    out = folders / "report.json"
    assert _run(*_words(folders), "--json", out) == 2
    said = capsys.readouterr()
    assert f"{folders}/events/cup/1.bin: truncated" in said.out
    lines = [line for line in said.err.splitlines() if line.startswith("spikebridge: error: ")]
    assert len(lines) == 1
    assert "folders cannot be used for training: 1 error" in lines[0]
    assert "fetch the file again" in lines[0]
    report = json.loads(out.read_text())
    assert report["usable"] is False
    assert report["classes"][0]["recordings"]["unreadable"] == 1
    assert report["findings"][0]["severity"] == "error"
    assert _run(*_words(folders), "--exclude", "cup") == 0


def test_json_on_stdout(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(*_words(folders), "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["usable"] is True


def test_a_sensor_that_is_told(folders: Path) -> None:
    (folders / "events/cup/1.bin").write_bytes(packed([(250, 2, 3, 1)]))
    assert _run(*_words(folders)) == 2
    assert _run(*_words(folders), "--sensor", 256, 256) == 0


def test_a_sensor_that_training_would_ask_for(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "t,x,y,p\n1,4,5,1\n9,7,2,0\n"
    (folders / "events/cup/1.bin").unlink()
    (folders / "events/cup/1.csv").write_text(text)
    report = _check(folders)
    assert _said(report) == [("warning", "sensor", "recording", "")]
    assert "sensor that nothing tells" in check_page(report)
    config = DataConfig("folders", str(folders / "events"), str(folders / "photos"))
    refused(lambda: open_collection(config), "data.sensor is not set", ".csv")
    for told in (replace(config, sensor=(240, 180)), replace(config, extent="recording")):
        assert check(told).findings == []
        open_collection(told)
    assert _run(*_words(folders)) == 0
    said = capsys.readouterr().out
    assert "training refuses them unless --sensor is set, or data.extent is recording" in said
    assert "8 pairs; 1 warning" in said


def test_its_words_name_its_own_options(
    folders: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (folders / "events/cup/1.bin").write_bytes(packed([(250, 2, 3, 1)]))
    (folders / "events/hat").mkdir()
    odd = tmp_path / "data.photos"
    (folders / "photos").rename(odd)
    words = ["check", "folders", "--events", folders / "events", "--photos", odd, "--json"]
    assert _run(*words, folders / "report.json") == 2
    said = capsys.readouterr()
    messages = [f["message"] for f in json.loads((folders / "report.json").read_text())["findings"]]
    for text in (said.out + said.err, "\n".join(messages)):
        assert "set --sensor to the camera's size" in text
        assert "list 'hat' in --exclude" in text
        assert not re.search(r"data\.(events|exclude|sensor)", text)
    assert str(odd) in said.out  # A folder's name is left as it is.
    assert _run("check", "folders") == 2
    said = capsys.readouterr()
    assert "--photos is not set" in said.out + said.err
    assert "data.photos" not in said.out + said.err


def test_what_the_command_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["check"], "name the data set"),
        (["check", "ncaltech"], "ncaltech"),
        (["look"], "look"),
        (["check", "ncaltech101"], "--photos is not set"),
        (["list", "--jsn", "x"], "--json"),
    ):
        assert _run(*arguments) == 2
        said = capsys.readouterr()
        assert words in said.err + said.out
        assert "Traceback" not in said.err


def test_many_findings_are_cut_on_the_page_only(folders: Path) -> None:
    for number in range(25):
        (folders / f"events/cup/x{number}.bin").write_bytes(b"123")
    report = _check(folders)
    assert len(report.errors) == 25
    page = check_page(report)
    assert "error: recordings that cannot be read (25)" in page
    assert page.count("x2") < 12
    assert "… and 15 more (--json FILE has all)" in page


def test_the_list_names_what_a_person_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("list") == 0
    page = capsys.readouterr().out
    assert max(map(len, page.splitlines())) <= 100
    blocks = {block.split(":")[0]: block for block in page.strip().split("\n\n")}
    assert list(blocks) == ["ncaltech101", "cep-dvs", "cifar10-dvs", "nmnist", "folders", "digits"]
    for name, words in {
        "ncaltech101": ("101;", "8,709", "240x180", "CC BY 4.0", "garrickorchard.com", "published"),
        "cep-dvs": ("20;", "10,000", "pathFile.csv", "data/MAT/img/00000.mat", "published"),
        "cifar10-dvs": ("128x128", "figshare", "cifar-10-batches-py", "by class only"),
        "nmnist": ("70,000", "34x34", "CC BY-SA 4.0", "train-images-idx3-ubyte", "few-shot"),
        "folders": ("EVENTS/CLASS/", ".aedat4", "PHOTOS/CLASS/", "docs/data/folders.md"),
    }.items():
        for word in words:
            assert word in blocks[name], (name, word)


def test_the_list_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("list", "--json", "-") == 0
    sets = {d["name"]: d for d in json.loads(capsys.readouterr().out)}
    assert sets["nmnist"]["recordings"] == 70_000
    assert sets["ncaltech101"]["published"]["accordion"] == 55
    assert sets["cep-dvs"]["classes"][1] == "fish"
    assert sets["cifar10-dvs"]["paired"] is False
    assert set(sets) == set(DATASETS)


def test_pages_and_recipes_that_the_list_names_are_there() -> None:
    root = Path(__file__).parents[2]
    for dataset in DATASETS.values():
        assert (root / dataset.page).is_file(), dataset.page
        for recipe in dataset.recipes:
            assert (root / f"src/spikebridge/settings/recipes/{recipe}.yaml").is_file()
