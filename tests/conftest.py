"""Shared fixtures; lying here it also puts tests/ on the import path, for `oracles.reference`.

Tests run on the CPU, also where there is a GPU; those marked gpu are run by
``SPIKEBRIDGE_GPU=1 pytest tests/gpu -m gpu -n 0``.
"""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import yaml
from PIL import Image

GPU = os.environ.get("SPIKEBRIDGE_GPU")
if GPU != "1":  # Before torch is imported, and for all processes that tests start.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

import torch  # noqa: E402

from skips import not_tested  # noqa: E402
from spikebridge.settings.config import Config  # noqa: E402
from spikebridge.settings.parsing import config_from  # noqa: E402
from spikebridge.settings.presets import merge, read_recipe  # noqa: E402

# What a shell starts in the background, or nohup, ignores these, and so would all that tests start.
for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
    if signal.getsignal(number) == signal.SIG_IGN:
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, usual)

torch.set_num_threads(1)  # The tensors are tiny; threads would only wait for each other.

# Machines under load are slow, and a test that failed once must fail again.
hypothesis.settings.register_profile("spikebridge", deadline=None, derandomize=True)
hypothesis.settings.load_profile("spikebridge")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked gpu are skipped where there is none to run on, or it is hidden."""
    if GPU == "pretend":  # tests/gpu rehearses.
        return
    if GPU != "1":
        why = "hidden from tests on the CPU: SPIKEBRIDGE_GPU=1 pytest tests/gpu -m gpu -n 0"
    elif not torch.cuda.is_available():
        why = "no CUDA device here"
    else:
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason=why))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line what was left out."""
    if line := not_tested(terminalreporter.stats.get("skipped", [])):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def kt() -> dict[str, Any]:
    """Numbers that KT's public code gives on fixed inputs (tests/oracles/kt.json)."""
    return json.loads((Path(__file__).parent / "oracles" / "kt.json").read_text())


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or writes the user's own cache."""
    home = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home))
        for compiler in ("TRITON", "TORCHINDUCTOR"):
            patch.setenv(f"{compiler}_CACHE_DIR", str(home / compiler.lower()))
        yield home


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a tiny file system needs root")
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no tiny file system can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


# A tiny data set of real files that a student learns in seconds -----------------------------------

BARS = ("across", "down", "slope")
_PHOTOS = 20


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory) -> Path:
    """Photos of bars that lie, stand or slope, at random places."""
    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for label, name in enumerate(BARS):
        (root / name).mkdir()
        for index in range(_PHOTOS):
            place, strength = random.integers(3, 12), random.integers(160, 256)
            row_HW, column_HW = np.mgrid[:16, :16]
            distance = (row_HW, column_HW, (row_HW + column_HW) // 2)[label] - place
            photo_HW = np.where(np.abs(distance) < 2, strength, random.integers(0, 40))
            photo = Image.fromarray(photo_HW.astype(np.uint8))
            photo.save(root / name / f"image_{index:04d}.png")
    return root


@pytest.fixture
def recipe(photo_folder, tmp_path_factory) -> dict:
    """Settings of a run that takes seconds."""
    return {
        "data": {
            "name": "folders",
            "photos": str(photo_folder),
            "size": [8, 8],
            "time_steps": 3,
            "simulator": {"width": 16, "height": 16, "amplitude": 3.0, "frames": 30},
            "split": {"labelled_per_class": 4, "validation_per_class": 4, "test_per_class": 4},
            "augment": {"crop": 1, "flip": True},
            "cache": str(tmp_path_factory.getbasetemp() / "cache"),
        },
        "student": {"width": 0.1},
        "teacher": {"width": 0.25, "epochs": 2, "batch_size": 8},
        "train": {
            "epochs": 2,
            "batches_per_epoch": 5,
            "batch_size": 6,
            "lr": 0.5,
            "warmup_epochs": 0.4,
            "precision": "float32",
        },
    }


@pytest.fixture
def make_config(recipe, tmp_path):
    """Makes the configuration of a method, with changes."""

    def make(method: str = "ckd", **changes: dict) -> Config:
        file = tmp_path / "recipe.yaml"
        file.write_text(yaml.safe_dump(merge(recipe, changes)))
        return config_from(read_recipe(str(file), method), str(file))

    return make
