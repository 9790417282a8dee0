"""Freed memory stays: large tensors come from the same pages again."""

import resource
import subprocess
import sys

import pytest

CODE = """
import ctypes, resource, sys, torch
from spikebridge.training.allocator import keep_freed_memory
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # No huge pages, where they are the rule: count small ones.
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(15):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.empty(10 * 2**20).fill_(1.0) for _ in range(2)]
    del tensors
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_large_tensors_fault_in_the_first_steps_alone():
    keep, give_back = (
        int(subprocess.check_output([sys.executable, "-c", CODE, how])) for how in ("keep", "no")
    )
    pages = 2 * 40 * 2**20 / resource.getpagesize()
    assert give_back > 0.9 * pages
    assert keep < 0.05 * pages
