"""Triton's kernels on a real GPU: the checks that its interpreter passes on the CPU."""

import os

import pytest

from models.neurons.test_triton import checks, needs_triton


@needs_triton
@pytest.mark.skipif(
    os.environ.get("SPIKEBRIDGE_GPU") == "pretend", reason="Triton compiles for a GPU alone"
)
def test_triton_on_cuda(tmp_path):
    checks(tmp_path / "checks")
