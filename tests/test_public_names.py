"""What `import spikebridge` offers, and what it costs."""

import subprocess
import sys

import pytest

import spikebridge


def test_every_public_name_is_there_and_lies_where_it_is_said_to():
    for name in spikebridge.__all__:
        assert getattr(spikebridge, name).__name__ == name
    listed = [name for names in spikebridge._MODULES.values() for name in names]
    assert sorted(listed) == sorted(spikebridge.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'spikebridge' has no attribute 'kd_lost'"):
        _ = spikebridge.kd_lost


def test_importing_the_package_imports_nothing_else():
    code = (
        "import sys, spikebridge; print(sorted(m for m in sys.modules if m in "
        "('torch', 'numpy', 'scipy', 'eventcv') or m.startswith('spikebridge.')))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
