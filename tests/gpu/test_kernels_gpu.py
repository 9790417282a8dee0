"""Triton's kernels on a real GPU: the checks that its interpreter passes on the CPU."""

from models.neurons.test_triton import checks, needs_triton


@needs_triton
def test_triton_on_cuda(tmp_path):
    checks(tmp_path / "checks")
