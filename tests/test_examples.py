"""Every example runs as a reader runs it, with few steps."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from spikebridge import ckd

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name, *arguments):
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("library", ["spikingjelly", "snntorch"])
def test_ckd_around_another_librarys_network(library):
    said = run(f"ckd_{library}.py", "--steps", "6", "--test_per_class", "2")
    figures = re.findall(r"^(alone|CKD): (\d+\.\d) % of the test recordings$", said, re.M)
    assert [name for name, _ in figures] == ["alone", "CKD"]
    assert all(0 <= float(figure) <= 100 for _, figure in figures)


def test_a_data_set_of_ones_own(tmp_path):
    said = run("own_dataset.py", str(tmp_path))
    assert float(re.findall(r"test accuracy (\d+\.\d) %", said)[0]) > 50  # Chance is 33.
    assert "0059.npz" in said


def test_the_notebook_explains_the_method(monkeypatch):
    notebook = nbformat.read(EXAMPLES / "ckd_on_digits.ipynb", 4)
    pictures = _pictures(notebook)
    (parameters,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    parameters.source = "STEPS, TEST_PER_CLASS = 4, 2"
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    for cell in notebook.cells:
        cell.pop("outputs", None)
        if cell.cell_type == "code":
            cell.outputs = []
    NotebookClient(notebook, timeout=None, resources={"metadata": {"path": EXAMPLES}}).execute()
    said = "".join(o.get("text", "") for c in notebook.cells for o in c.get("outputs", []))
    assert "6 of 6 replaced" in said
    assert re.search(r"CKD: \d+\.\d % of the test recordings", said)
    for shown in (pictures, _pictures(notebook)):
        assert len(shown) == 5
        for output in shown:
            assert len(output["metadata"]["image/png"]["alt"]) > 50


def _pictures(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output for output in outputs if "image/png" in output.get("data", {})]


def test_the_methods_first_page_holds_the_example():
    """The step that the package shows is the one that the examples train by."""
    shown = [line.strip() for line in (ckd.__doc__ or "").partition("::\n")[2].splitlines()]
    step = (EXAMPLES / "ckd_loop.py").read_text().replace("digits.TIME_STEPS", "time_steps")
    lines = iter([line.strip() for line in step.splitlines()])
    found = [line for line in shown if line and line in lines]  # `in` goes on where it ended.
    assert found == [line for line in shown if line]
    assert len(found) > 15
