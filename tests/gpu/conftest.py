"""Tests that need a GPU: `SPIKEBRIDGE_GPU=1 pytest tests/gpu -m gpu -n 0`.

Otherwise they run on the CPU's imitation of one: a rehearsal of the tests, not of the program.
SPIKEBRIDGE_GPU=0 leaves them out.
"""

import os
from pathlib import Path

import pytest

from pretend_cuda import pretend

HERE = Path(__file__).parent
WANTED = os.environ.get("SPIKEBRIDGE_GPU")


def pytest_itemcollected(item):
    """Mark all tests of this folder."""
    if HERE in item.path.parents:
        item.add_marker(pytest.mark.gpu)


@pytest.fixture(autouse=WANTED == "pretend")
def pretended():
    """An imitation of a GPU, for a rehearsal."""
    with pretend():
        yield


@pytest.fixture
def gpu():
    """The GPU, set up as training sets it up."""
    from spikebridge.base.devices import pick_device

    return pick_device("cuda")
