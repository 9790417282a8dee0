"""Triton's neurons: the checks of `triton_checks.py`, compiling without a GPU, and the choice."""

import importlib
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from factories import refused
from spikebridge.models.build import build_student
from spikebridge.models.neurons import LIF, kernels, surrogate
from spikebridge.models.settings import StudentConfig

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")


def python(*arguments, **environment):
    """Output of another Python, which must succeed."""
    settings = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "TRITON_"))}
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**settings, **environment},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.fail(f"{done.stdout}\n{done.stderr}", pytrace=False)
    return done.stdout


def checks(folder, **environment):
    file = str(Path(__file__).with_name("triton_checks.py"))
    options = ["-p", "no:cacheprovider", f"--basetemp={folder}"]
    out = python("-m", "pytest", file, *options, OMP_NUM_THREADS="1", **environment)
    assert out.count(".") >= 25
    assert "skipped" not in out


@needs_triton
def test_by_the_cpu_interpreter(tmp_path):
    checks(tmp_path / "checks", TRITON_INTERPRET="1", CUDA_VISIBLE_DEVICES="")


COMPILE = """
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction
from spikebridge.models.neurons import triton_lif

class Driver:
    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)
    def get_current_device(self):
        return 0
    def get_current_stream(self, device):
        return 0

compiled = []
run = JITFunction.run
def compile_only(self, *arguments, grid, warmup, **options):
    kernel = run(self, *arguments, grid=grid, warmup=True, **options)
    compiled.append((self.__name__, len(kernel.asm["cubin"]), kernel.asm["ptx"]))

triton.runtime.driver.set_active(Driver())
JITFunction.run = compile_only
for steps, kind, surrogate in ((2, torch.bfloat16, "qgate"), (1, torch.float32, "sigmoid")):
    x, one = torch.zeros(steps, 5, 32, dtype=kind), torch.ones(32)
    triton_lif.forward(x, one, one, 2.0, 0.5, membrane=steps == 1)
    triton_lif.backward(x, one, one, one, x, None, 2.0, 0.5, surrogate, 2.0)
triton_lif.moments(x[0])
triton_lif.affine_(x[0], x[0], one, one, one)
x = torch.zeros(2, 160, 1, dtype=torch.float16)
triton_lif.forward(x, None, None, 2.0, 0.5, membrane=False)
triton_lif.backward(x, None, None, None, x, x.float(), 2.0, 0.5, "atan", 2.0)
for name, size, ptx in compiled:
    assert size > 0
    assert "fma.rn.f32" not in ptx, name
    print(name, "vector" if "ld.global.v" in ptx else "scalar")
"""


@needs_triton
@pytest.mark.skipif(sys.platform != "linux", reason="Triton brings an assembler on Linux alone")
def test_they_compile_for_a_gpu_that_is_not_here(tmp_path):
    out = python("-c", COMPILE, TRITON_CACHE_DIR=str(tmp_path))
    names = [line.split()[0] for line in out.splitlines()]
    assert sorted(set(names)) == ["_affine", "_backward", "_forward", "_moments"]
    assert len(names) == 8
    assert "scalar" not in out


def test_nothing_loads_triton_before_it_is_needed():
    script = (
        "import sys, torch\n"
        "from spikebridge.models.neurons import LIF, surrogate\n"
        "LIF(2.0, 0.5, surrogate('qgate'))(torch.ones(2, 1))\n"
        "import spikebridge.cli\n"
        "assert 'spikebridge.models.neurons.triton_lif' not in sys.modules\n"
        "print('triton' in sys.modules)\n"
    )
    assert python("-c", script) == "False\n"


def test_without_cuda_it_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    refused(lambda: LIF(2.0, 0.5, surrogate("qgate"), "triton"), "neuron_backend", "CUDA", "auto")
    config = StudentConfig(width=0.1, neuron_backend="triton")
    refused(lambda: build_student(config, 3, (8, 8)), "neuron_backend", "CUDA")


class OnCUDA:
    """Says that it is on a GPU."""

    is_cuda, device, dtype = True, torch.device("cpu"), torch.float32


class FakeKernels:
    """`triton_lif` on a machine where a launch fails, or does not."""

    def __init__(self, failure=None):
        self.failure, self.launches = failure, 0

    def takes(self, x, surrogate):
        return True

    def forward(self, x_TPC, scale_C, shift_C, tau, threshold, *, membrane):
        self.launches += 1
        assert x_TPC.numel() == 1
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def use(monkeypatch):
    """Puts something in the place of the module `triton_lif`, or lets its import fail."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "zeros", lambda *shape, device: torch.ones(shape))

    def put(module):
        name = "spikebridge.models.neurons.triton_lif"
        monkeypatch.setitem(sys.modules, name, module)
        return module

    for function in (kernels._triton, kernels._note):
        function.cache_clear()
    yield put
    for function in (kernels._triton, kernels._note):
        function.cache_clear()


def test_without_triton_it_is_refused_in_one_line(use):
    use(None)
    refused(lambda: LIF(2.0, 0.5, surrogate("qgate"), "triton"), "package triton", "auto")
    assert kernels.kernels_for(torch.ones(1), "triton", "qgate") is None


def test_auto_does_without_triton_and_says_so(use, capsys):
    use(None)
    for _ in range(2):
        assert kernels.kernels_for(OnCUDA(), "auto", "qgate") is None
    note = capsys.readouterr().err
    assert note.count("\n") == 1
    assert "install the Python package triton" in note


@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError("Failed to find C compiler. Please\nset CC"),
        subprocess.CalledProcessError(1, ["/usr/bin/gcc", "Python.h"]),
        FileNotFoundError("ptxas"),
    ],
)
def test_a_triton_that_cannot_launch_is_told_and_done_without(use, failure, capsys):
    module = use(FakeKernels(failure))
    for _ in range(3):
        assert kernels.kernels_for(OnCUDA(), "auto", "qgate") is None
    assert module.launches == 1
    note, what = capsys.readouterr().err, str(failure).split()[-1]
    assert note.count("\n") == 1
    assert all(word in note for word in ("plain PyTorch", what, "C compiler"))
    line = refused(lambda: LIF(2.0, 0.5, surrogate("qgate"), "triton"), what, "choose auto")
    assert "student.neuron_backend triton" in line
    assert capsys.readouterr().err == ""


def test_a_triton_that_launches_is_tried_once(use, capsys):
    module = use(FakeKernels())
    for backend in ("auto", "triton", "auto"):
        assert kernels.kernels_for(OnCUDA(), backend, "qgate") is module
    assert module.launches == 1
    assert capsys.readouterr().err == ""


@needs_triton
@pytest.mark.parametrize(("capability", "taken"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_gpus_that_emulate_bfloat16_do_not_get_it(monkeypatch, capability, taken):
    triton_lif = importlib.import_module("spikebridge.models.neurons.triton_lif")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    triton_lif._converts_bfloat16.cache_clear()
    x = OnCUDA()
    assert triton_lif.takes(x, "qgate")
    x.dtype = torch.bfloat16
    assert triton_lif.takes(x, "qgate") == taken
    triton_lif._converts_bfloat16.cache_clear()


@needs_triton
def test_what_it_does_not_take_is_left_to_plain_pytorch(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    triton_lif = importlib.import_module("spikebridge.models.neurons.triton_lif")
    monkeypatch.setattr(kernels, "_triton", lambda device: kernels._Triton(triton_lif))
    lif = LIF(2.0, 0.5, surrogate("qgate"), "triton")
    assert lif(torch.ones(3, 1)).tolist() == [[1.0], [1.0], [1.0]]


def test_auto_does_not_take_it_on_the_cpu(monkeypatch):
    def fail(device):
        raise AssertionError("Triton was loaded")

    monkeypatch.setattr(kernels, "_triton", fail)
    assert LIF(2.0, 0.5, surrogate("qgate"))(torch.ones(1, 1)).item() == 1.0
