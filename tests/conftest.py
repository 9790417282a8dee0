"""Shared fixtures; lying here it also puts tests/ on the import path, for `oracles.reference`.

Tests run on the CPU, also where there is a GPU; those in tests/gpu rehearse there on an imitation
of one. ``SPIKEBRIDGE_GPU=1 pytest tests/gpu -m gpu -n 0`` runs them on a GPU.
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
import pytest
import yaml

GPU = os.environ.setdefault("SPIKEBRIDGE_GPU", "pretend")
if GPU != "1":  # Before torch is imported, and for all processes that tests start.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

import torch  # noqa: E402

from factories import tiny_recipe  # noqa: E402
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
    if GPU == "pretend":
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


# Runs of seconds ----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def runs_root(tmp_path_factory) -> Path:
    """Where the photos and the cache of `recipe` are."""
    return tmp_path_factory.mktemp("recipe")


def _augmented(root: Path) -> dict[str, Any]:
    return tiny_recipe(root, data={"augment": {"crop": 1, "flip": True}})


@pytest.fixture
def recipe(runs_root) -> dict[str, Any]:
    """The tiny recipe, with augmentation."""
    return _augmented(runs_root)


@pytest.fixture(scope="session")
def make_config(runs_root):
    """Makes the configuration of a method, with changes to `recipe`."""

    def make(method: str = "ckd", **changes: dict) -> Config:
        file = runs_root / "recipe.yaml"
        file.write_text(yaml.safe_dump(merge(_augmented(runs_root), changes)))
        return config_from(read_recipe(str(file), method), str(file))

    return make
