"""Runs made with relative paths, looked at from another folder; and machines without a home."""

import pwd
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from factories import bar_photos, refused, tiny_recipe
from spikebridge.base import compiled
from spikebridge.cli import main
from spikebridge.data.datasets.catalog import cache_folder
from spikebridge.data.settings import DataConfig
from spikebridge.results.export.card import _accuracy
from spikebridge.results.retest import retest
from spikebridge.results.trained import load_run
from spikebridge.settings.config import Config


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a run was made: its recipe names all folders relative to it."""
    root = tmp_path_factory.mktemp("made")
    bar_photos(root / "photos")
    recipe = tiny_recipe(root, data={"photos": "photos", "cache": "cache"})
    (root / "mine.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert main(["train", "mine.yaml", "--method", "kt"]) == 0
    return root


@pytest.fixture
def elsewhere(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run, seen from another folder that has photos of its own."""
    (tmp_path / "photos/down").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return made / "runs/mine/kt-seed0"


@pytest.mark.parametrize("command", ["evaluate", "energy", "audit", "report"])
def test_a_run_finds_its_data_from_another_folder(
    elsewhere: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture
) -> None:
    out = ["--out", str(tmp_path / "report.html")] if command == "report" else []
    assert main([command, str(elsewhere), *out]) == 0
    assert not (tmp_path / "cache").exists()
    if command == "audit":
        assert "verdict: clean" in capsys.readouterr().out
    if command == "report":
        assert "can no longer be read" not in (tmp_path / "report.html").read_text()


def test_a_run_is_tested_again_from_another_folder(elsewhere: Path) -> None:
    data = load_run(elsewhere).config.data
    simulator = replace(data.simulator, pos_threshold=0.3)
    assert retest(elsewhere, "other", replace(data, simulator=simulator))["test_loss"] > 0


def test_simulated_recordings_are_told_wherever_the_card_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made/events").mkdir(parents=True)
    (tmp_path / "there").mkdir()
    config = Config(data=DataConfig(name="folders", events="events", photos="photos"))
    result = {"method": "ckd", "seed": 0, "best_epoch": 1, "protocol": "clean", "test_top1": 1.0}
    result |= {"val_top1": 1.0, "manifest_sha256": "x", "origin": str(tmp_path / "made")}
    for noted in (False, True):
        for folder in ("made", "there"):
            monkeypatch.chdir(tmp_path / folder)
            card = _accuracy("Own data", config, result, None)
            assert ("recordings are simulated from photos" in card) is noted
        (tmp_path / "made/events/simulator.json").write_text("{}")
    nowhere = replace(config, data=replace(config.data, events="$NO_SUCH_VARIABLE/events"))
    assert "simulated" not in _accuracy("Own data", nowhere, result, None)


def test_data_that_are_nowhere_are_said(
    made: Path, elsewhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "photos/down").rmdir()
    (tmp_path / "photos").rmdir()
    (made / "photos").rename(made / "gone")
    try:
        assert main(["evaluate", str(elsewhere)]) == 2
    finally:
        (made / "gone").rename(made / "photos")
    line = capsys.readouterr().err
    assert f"data.photos, photos, is not below {tmp_path} nor below {made}" in line
    assert "call the command in the folder that holds it" in line


def test_a_moved_project_is_used_in_its_new_place(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.rename(tmp_path / "moved")
    try:
        monkeypatch.chdir(tmp_path / "moved")
        assert main(["evaluate", "runs/mine/kt-seed0"]) == 0
        assert main(["audit", "runs/mine/kt-seed0"]) == 0
    finally:
        (tmp_path / "moved").rename(made)


def test_without_a_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object) -> None:
        raise KeyError("getpwuid(): uid not found")

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    refused(lambda: cache_folder(DataConfig()), "HOME is not set", "set data.cache")
    assert cache_folder(DataConfig(cache=str(tmp_path))) == tmp_path
    # What the C compiler builds is kept for as long as the process lives.
    folder = compiled._kernels()
    assert folder.is_dir()
    assert folder == compiled._kernels()
