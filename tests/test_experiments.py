"""The twins that experiments/twins.py makes are what the data sets' readers expect."""

import importlib.util
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spikebridge.data.datasets.catalog import open_collection
from spikebridge.data.datasets.cepdvs import CLASSES
from spikebridge.data.settings import DataConfig

ROOT = Path(__file__).parents[1]


@pytest.fixture
def twins(monkeypatch: pytest.MonkeyPatch):
    spec = importlib.util.spec_from_file_location("twins", ROOT / "experiments/twins.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RECORDED", 2)
    monkeypatch.setattr(module, "SHOWN", 1)
    small = replace(module.CEP_CAMERA, width=20, height=20, frames=10)
    monkeypatch.setattr(module, "CEP_CAMERA", small)
    return module


def _photos(root: Path, classes: list[str], count: int) -> None:
    """Noise, and before it in each class the same photo twice."""
    random = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        first = random.integers(256, size=(48, 40, 3), dtype=np.uint8)
        for number in range(count):
            pixels = first if number < 2 else random.integers(256, size=(48, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"image_{number + 1:04d}.png")


def test_the_twin_of_cep_dvs_is_read_and_shows_no_photo_of_a_recording(tmp_path, twins):
    names = [f"c{place:02d}" for place in range(21)]
    photos = tmp_path / "data/caltech101-full"
    _photos(photos, [*names, "Faces"], 4)
    _photos(photos, ["a-few", "alike"], 3)  # Of three photos two are alike, so two are left.
    out = tmp_path / "out"
    assert twins.cep_dvs(tmp_path / "data", out) == 0
    collection = open_collection(
        DataConfig(name="cep-dvs", events=str(out), photos=str(out), extent="recording")
    )
    assert collection.classes == tuple(sorted(CLASSES))
    assert (len(collection.recordings), len(collection.photos)) == (40, 20)
    assert not {i.pair for i in collection.recordings} & {i.pair for i in collection.photos}
    rows = (out / "pathFile.csv").read_text().splitlines()[1:]
    assert rows[0] == f"0 img/00000.jpg MAT/img/00000.mat c00 {CLASSES[0]} image_0001"
    assert rows[20].split()[3:] == ["c00", CLASSES[0], "image_0003"]
    times = {file: file.stat().st_mtime_ns for file in out.rglob("*.mat")}
    made = next(iter(times))
    whole = made.read_bytes()
    made.unlink()
    time.sleep(1.1)  # The time in a file's header has seconds.
    assert twins.cep_dvs(tmp_path / "data", out) == 0
    again = {file: file.stat().st_mtime_ns for file in out.rglob("*.mat")}
    assert {f: t for f, t in again.items() if f != made} == {
        f: t for f, t in times.items() if f != made
    }
    assert made.read_bytes() == whole


def test_the_twin_of_n_caltech101_is_recorded_of_chosen_photos(tmp_path, twins, monkeypatch):
    monkeypatch.setattr(twins, "FEWEST", 3)
    monkeypatch.setattr(twins, "MOST", 3)
    called = []
    monkeypatch.setattr(twins, "spikebridge", lambda words: called.append(words) or 0)
    _photos(tmp_path / "data/caltech101-full", ["cup", "Faces", "BACKGROUND_Google"], 4)
    _photos(tmp_path / "data/caltech101-full", ["a-few"], 2)
    for _ in range(2):
        assert twins.ncaltech101(tmp_path / "data", tmp_path / "out") == 0
    made = sorted(str(f.relative_to(tmp_path / "out")) for f in tmp_path.glob("out/**/*.png"))
    assert made == [
        f"photos/{name}/image_000{number}.png"
        for name in ("BACKGROUND_Google", "cup")
        for number in (1, 2, 3)
    ]
    out, like = str(tmp_path / "out"), "ncaltech101/Faces_easy/image_0001.bin"
    words = called[0]
    assert words[0] == "simulate"
    assert words[words.index("--photos") + 1] == f"{out}/photos"
    assert words[words.index("--out") + 1] == f"{out}/recordings"
    assert words[words.index("--like") + 1] == str(tmp_path / "data" / like)
