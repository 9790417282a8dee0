"""Ordinary tests run on the CPU, also on a machine with a GPU."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import os
import pytest
import torch

def test_the_gpu_is_hidden_from_this_process_and_those_it_starts():
    assert os.environ["CUDA_VISIBLE_DEVICES"] == {visible!r}
    assert not torch.cuda.is_available()

@pytest.mark.gpu
def test_on_a_gpu():
    raise AssertionError("this ran")

def test_compilers_keep_nothing_in_the_users_cache(tmp_path):
    for name in ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"):
        assert os.environ[name].startswith(str(tmp_path.parent))
"""


@pytest.mark.parametrize(
    ("switch", "visible", "why"),
    [("0", "", "SPIKEBRIDGE_GPU=1 pytest tests/gpu -m gpu"), ("1", "-1", "no CUDA device here")],
)
def test_what_needs_a_gpu_is_skipped_and_says_how_to_run_it(tmp_path, switch, visible, why):
    for name in ("conftest.py", "skips.py"):
        shutil.copy(Path(__file__).with_name(name), tmp_path)
    (tmp_path / "test_it.py").write_text(TESTS.format(visible=visible))
    settings = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rs",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
    ]
    done = subprocess.run(
        [*command, f"--basetemp={tmp_path / 'made'}", "-o", "markers=gpu: needs a GPU", "."],
        cwd=tmp_path,
        env={
            **settings,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
            "CUDA_VISIBLE_DEVICES": "-1",
            "SPIKEBRIDGE_GPU": switch,
        },
        capture_output=True,
        text=True,
    )
    assert "2 passed, 1 skipped" in done.stdout, done.stdout + done.stderr
    assert why in done.stdout
