"""Training on a GPU as far as a CPU can tell: every method, captured, bit for bit as on the CPU."""

import contextlib
import dataclasses
import json

import numpy as np
import pytest
import torch
from run_checks import same_run
from step_checks import CPU, IN_STEP, VIEWS, one_kernel_adam, steps_of, student_steps

import pretend_cuda
from pretend_cuda import CUDA, POOL, inner, pretend
from spikebridge.base.devices import map_tensors, to_device
from spikebridge.base.graphs import Graphs
from spikebridge.data.prepared import prepare
from spikebridge.models.build import build_student
from spikebridge.models.teacher import build_teacher
from spikebridge.runs.tasks import student_task, teacher_task
from spikebridge.runs.train import train_student
from spikebridge.settings.presets import methods
from spikebridge.training import loop
from spikebridge.training.packing import unpacked
from spikebridge.training.step import TrainingStep
from spikebridge.training.tasks import StudentTask


def same(here, there):
    """The same losses and weights to the bit."""
    assert here[0] == there[0]
    assert here[1].keys() == there[1].keys()
    for name, value in here[1].items():
        assert torch.equal(value, there[1][name]), name


def same_on_both(act):
    """What ``act`` finds on the CPU and on the pretended GPU is the same; returns the latter."""
    here = act(CPU)
    with pretend():
        there = act(CUDA)
    same(here, there)
    return there


@pytest.fixture
def captured_soon(monkeypatch):
    """A step's second call is captured: nothing is compiled here."""
    monkeypatch.setattr("spikebridge.base.graphs._WARM", 1)


@pytest.mark.parametrize("student", ["vgg-snn", "resnet18-snn"])
@pytest.mark.parametrize("method", methods())
def test_every_method_is_captured_and_computes_what_a_cpu_does(
    make_config, captured_soon, method, student
):
    def configured(memory):
        return make_config(
            method,
            student={"name": student, "width": 0.05},
            train={"memory": memory, "epochs": 1, "batches_per_epoch": 5},
        )

    config = configured("normal")
    data = prepare(config.data, config.seed, simulated_source=config.needs_simulated_source)
    here = student_steps(config, data, CPU)
    for memory in ("normal", "low"):
        with pretend():
            there = student_steps(configured(memory), data, CUDA)
        same(here, there)
        _, _, waits, graphs = there
        assert isinstance(graphs, Graphs)
        assert sum(graph.replays for graph, _ in graphs._captured.values()) >= 2
        # The teacher's logits of photos that never move, and notes of what a capture needs, once.
        assert [w for w in waits if "tasks.py" not in w and "evaluate.py" not in w] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bfloat16"},
        {"augment": {"crop": 0, "flip": False}},
        {"augment": {"crop": 2, "flip": True, "rotate": 20.0}},
        {"augment": {"event_drop": 0.3, "time_jitter": 0.4}},
        {
            "objective": {
                "kd_on": "rgb",
                "kd_loss": "spikebridge.ckd.losses:dkd_loss",
            }
        },
        {"objective": {"kd_loss": "dist", "cka": "debiased"}},
        {"objective": {"replace": "time-step", "classification": "ce", "coefficient": "fixed"}},
        {"objective": {"source": "staged", "replace": "time-step"}},
        IN_STEP,
        VIEWS,
        {"student": {"neuron": "relu"}},
        {"student": {"neuron_backend": "eager", "surrogate": "sigmoid"}},
        {"train": {"batches_per_epoch": None, "batch_size": 5, "epochs": 7}},
        {"data": {"events_alone": ["down"]}, "objective": {"source": "staged"}},
        {"train": {"cuda_graph": False}},
    ],
    ids=lambda changes: json.dumps(changes),
)
def test_every_switch_computes_what_a_cpu_does(make_config, changes):
    changes = {"train": {"epochs": 3, "batches_per_epoch": 5}} | changes
    if "precision" in changes:
        changes["train"] = changes["train"] | {"precision": changes.pop("precision")}
    if "augment" in changes:
        changes["data"] = {"augment": changes.pop("augment")}
    config = make_config("ckd", **changes)
    data = prepare(config.data, config.seed, simulated_source=config.needs_simulated_source)
    *_, graphs = same_on_both(lambda device: student_steps(config, data, device))
    assert isinstance(graphs, Graphs) == config.train.cuda_graph
    assert not isinstance(graphs, Graphs) or not graphs._failed


@pytest.mark.parametrize("learn", ["both", "class", "logits"])
def test_photos_without_labels_are_captured_and_compute_what_a_cpu_does(make_config, learn):
    changes = {**VIEWS["data"], "split": {"labelled_photos_per_class": 4}}
    own = {"learn": learn, "least_likeness": 0.3}
    config = make_config(
        "ckd",
        data=changes,
        objective={**VIEWS["objective"], "unlabelled": own},
        train={"epochs": 3, "batches_per_epoch": 5},
    )
    data = prepare(config.data, config.seed, simulated_source=config.needs_simulated_source)
    assert data.unlabelled is not None
    rows_K = np.arange(len(data.unlabelled.files))[::2]
    photos = data.photos["train"].with_answers(data.unlabelled, rows_K, rows_K % 3)
    data = dataclasses.replace(data, photos=data.photos | {"train": photos})
    *_, graphs = same_on_both(lambda device: student_steps(config, data, device))
    assert isinstance(graphs, Graphs)
    assert not graphs._failed


@pytest.mark.parametrize("memory", [2**34, 0])
def test_samples_are_kept_on_the_device_or_sent_to_the_same_effect(make_config, memory):
    config = make_config("ckd-plus", train={"epochs": 2, "batches_per_epoch": 4})
    data = prepare(config.data, config.seed, simulated_source=True)
    here = student_steps(config, data, CPU)
    with pretend(memory):
        there = student_steps(config, data, CUDA)
        kept = student_task(config, data, build_student(config.student, 3, (8, 8)), CUDA).batches
        assert kept._photos.kept == kept._recordings._rows.kept == (memory > 0)
    assert here[0] == there[0]


def test_a_teacher_computes_what_a_cpu_does(make_config):
    config = make_config(teacher={"epochs": 3})
    data = prepare(config.data, config.seed)

    def steps(device):
        torch.manual_seed(1)
        return steps_of(teacher_task(config, data, build_teacher(config.teacher, 3), device))

    *_, graphs = same_on_both(steps)
    assert graphs._captured


@contextlib.contextmanager
def same_optimiser():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_optimiser", one_kernel_adam)
        yield


@pytest.mark.parametrize("ema", [0.0, 0.8])
def test_a_whole_run_ends_as_on_a_cpu(make_config, tmp_path, ema):
    """With batches made ahead, evaluation, selection, checkpoint, test and energy's inputs."""
    config = make_config("ckd", train={"ema": ema, "epochs": 3})
    data = prepare(config.data, config.seed)
    with same_optimiser():
        train_student(config, data, tmp_path / "cpu", teacher_folder=tmp_path / "teacher")
        with pretend():
            train_student(config, data, tmp_path / "gpu", teacher_folder=tmp_path / "teacher")
    same_run(tmp_path / "cpu", tmp_path / "gpu")


@pytest.mark.parametrize(
    ("first", "then", "changes"),
    [("cpu", "gpu", {}), ("gpu", "cpu", {}), ("gpu", "gpu", {}), ("cpu", "gpu", VIEWS)],
)
def test_a_run_goes_on_on_another_device(make_config, tmp_path, first, then, changes):
    config = make_config("kt", train={"epochs": 4, "ema": 0.5}, **changes)
    data = prepare(config.data, config.seed, simulated_source=config.needs_simulated_source)
    devices = {"cpu": contextlib.nullcontext, "gpu": pretend}
    folders = {"teacher_folder": tmp_path / "teacher"}

    def stop(epoch, evaluation):
        if epoch == 1:
            raise loop.Interrupted("here")

    with same_optimiser():
        train_student(config, data, tmp_path / "whole", **folders)
        with devices[first](), pytest.MonkeyPatch.context() as patch:
            original = loop.StopOnInterrupt.__enter__
            take = TrainingStep.__call__

            def entered(self):
                patch.setattr(TrainingStep, "__call__", lambda *a: counted(self, *a))
                return original(self)

            def counted(stopping, *args):
                counted.steps += 1
                stopping.requested = counted.steps == 11
                return take(*args)

            counted.steps = 0
            patch.setattr(loop.StopOnInterrupt, "__enter__", entered)
            with pytest.raises(loop.Interrupted):
                train_student(config, data, tmp_path / "parts", **folders)
        with devices[then]():
            train_student(config, data, tmp_path / "parts", **folders, resume=True)
    same_run(tmp_path / "whole", tmp_path / "parts")


# What the pretended GPU is worth: it refuses what a GPU does --------------------------------------


@pytest.mark.parametrize(
    "x",
    [
        torch.arange(4.0).expand(3, 4),
        torch.arange(12).view(3, 4)[:, ::2],
        torch.arange(12).view(3, 4).T,
        torch.empty(0, 3),
        torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        torch.tensor(2.5),
        (torch.rand(5) < 0.5).expand(4, 5),
    ],
    ids=["expanded", "strided", "transposed", "empty", "channels last", "scalar", "mask"],
)
def test_any_host_tensor_reaches_the_device(x):
    with pretend():
        there = to_device(x, CUDA)
        assert there.device == CUDA
        assert torch.equal(inner(there), x)


def test_pinning_refuses_what_torch_refuses():
    with pytest.raises(RuntimeError, match="single memory location"):
        pretend_cuda.pin(torch.arange(4).expand(3, 4))


def _plus_host(x):
    return x + torch.ones(3)


def _read(x):
    return x * x.sum().item()


def _masked(x):
    return x[x > 0]


def _from_host(x):
    return x + torch.ones(3).to(CUDA)


@pytest.mark.parametrize("act", [_plus_host, _read, _masked, _from_host])
def test_a_capture_refuses_what_reads_or_needs_the_host(act):
    with pretend():
        x = torch.ones(3, device=CUDA)
        graph = torch.cuda.CUDAGraph()
        with pytest.raises(RuntimeError), torch.cuda.graph(graph):
            act(x)


def test_a_capture_leaves_no_trace_and_a_replay_computes_with_new_values():
    with pretend():
        x, state = torch.tensor([1.0, 2.0], device=CUDA), torch.zeros(2, device=CUDA)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            state.add_(x)
            y = (torch.ones(2, device=CUDA) + x).mul_(state)
        assert inner(state).tolist() == [0, 0]
        for _ in range(2):
            x.copy_(torch.tensor([3.0, 4.0]))
            graph.replay()
        assert inner(state).tolist() == [6, 8]
        assert inner(y).tolist() == [24, 40]


def test_graphs_that_cannot_be_captured_run_as_they_are(capsys):
    from spikebridge.training.packing import Packed

    with pretend():
        graphs = Graphs(lambda x: Packed.of({"y": x * x.sum().item()}), CUDA)
        found = [unpacked([graphs(torch.full((2,), float(i)))]) for i in range(6)]
    assert found == [[{"y": [2.0 * i * i] * 2}] for i in range(6)]
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("cannot be captured as a CUDA graph") == 1
    assert "not permitted when stream is capturing" in said  # The cause, not how it ended.


@pytest.mark.parametrize("free", [POOL // 2, 4 * POOL])
def test_graphs_make_room_for_calls_of_another_kind(captured_soon, free):
    with pretend(memory=free):
        total = torch.zeros(1, device=CUDA)
        graphs = Graphs(lambda x: map_tensors(torch.clone, total.add_(x.sum())), CUDA)
        kept, expected = [], 0.0
        for i, size in enumerate((2, 2, 2, 3, 2, 3, 3, 2)):
            found = graphs(torch.full((size,), float(i)))
            expected += size * i
            assert inner(found).tolist() == [expected]
            kept.append(len(graphs._captured))
    assert kept == ([0, 1, 1, 0, 1, 2, 2, 2] if free < POOL else [0, 1, 1, 1, 1, 2, 2, 2])


def test_a_full_gpu_is_told_from_a_step_that_cannot_be_captured(captured_soon):
    def act(x):
        calls.append(x)
        if len(calls) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return x + 1

    calls = []
    with pretend():
        graphs = Graphs(act, CUDA)
        graphs(torch.ones(2))
        with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate"):
            graphs(torch.ones(2))


def test_replaying_keeps_no_number_of_the_step_it_was_captured_at(make_config):
    """A guard of the guard: a step whose weight is a Python number is found out."""
    config = make_config("ckd", train={"epochs": 4, "batches_per_epoch": 5})
    data = prepare(config.data, config.seed)
    original = StudentTask.losses

    def numbered(self, tensors):
        drawn, draws = tensors
        if draws.guidance is not None:
            number = float(inner(draws.guidance))
            draws = dataclasses.replace(draws, guidance=torch.zeros_like(draws.guidance) + number)
        return original(self, (drawn, draws))

    with pytest.MonkeyPatch.context() as patch, pytest.raises(AssertionError):
        patch.setattr(StudentTask, "losses", numbered)
        same_on_both(lambda device: student_steps(config, data, device))
