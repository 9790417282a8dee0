"""BatchNorm's statistics in evaluation: those of the weights that are evaluated."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from spikebridge.data.prepared import prepare
from spikebridge.models.neurons.norm import StreamBatchNorm2d
from spikebridge.results.trained import load_run
from spikebridge.runs.tasks import student_task, teacher_task
from spikebridge.runs.train import train_student, train_teacher
from spikebridge.training.statistics import measured_statistics

CPU = torch.device("cpu")


def test_batches_count_alike_within_the_block_and_the_moving_average_comes_back():
    norm, frozen = nn.BatchNorm1d(3), nn.BatchNorm1d(3).eval()
    model = nn.Sequential(norm, frozen)
    model(torch.randn(4, 3))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    batches = [torch.randn(5, 3) + i for i in range(3)]
    with measured_statistics(model, lambda: [model(x) for x in batches]):
        mean = torch.stack([x.mean(0) for x in batches]).mean(0)
        var = torch.stack([x.var(0) for x in batches]).mean(0)
        torch.testing.assert_close(norm.running_mean, mean)
        torch.testing.assert_close(norm.running_var, var)
        assert torch.equal(frozen.running_mean, before["1.running_mean"])
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert norm.momentum == 0.1


def test_statistics_come_back_after_an_error():
    model = nn.Sequential(nn.BatchNorm1d(3))
    before = model[0].running_mean.clone()
    with pytest.raises(RuntimeError), measured_statistics(model, lambda: model(torch.ones(3, 3))):
        raise RuntimeError
    assert torch.equal(model[0].running_mean, before)
    assert model[0].momentum == 0.1


def test_without_a_momentum_a_stream_norm_counts_its_batches_alike_however_it_is_computed():
    batches = [torch.randn(6, 3, 2, 2, generator=torch.Generator().manual_seed(s)) for s in (0, 1)]
    expected = nn.BatchNorm2d(3, momentum=None)
    for x_NCHW in batches:
        expected(x_NCHW)
    for total in (None, lambda x: x):
        norm = StreamBatchNorm2d(3, momentum=None)
        norm.total = total
        for x_NCHW in batches:
            norm(x_NCHW)
        for name, buffer in expected.named_buffers():
            torch.testing.assert_close(norm.get_buffer(name), buffer)


@pytest.mark.parametrize("backend", ["eager", "auto"])
@pytest.mark.parametrize("method", ["ckd", "sim-only"])
def test_a_short_run_keeps_the_statistics_of_its_latest_batches(
    make_config, tmp_path, method, backend
):
    config = make_config(
        method,
        train={"epochs": 1, "batches_per_epoch": 6},
        student={"neuron_backend": backend},
        objective={"kd_weight": 0.0},
    )
    data = prepare(config.data, config.seed, simulated_source=config.needs_simulated_source)
    train_student(config, data, tmp_path / "run", teacher_folder=tmp_path / "teacher")
    student = load_run(tmp_path / "run").model
    task = student_task(config, data, student.train(), CPU)
    found = statistics_of_batches(task, range(2, 6))
    kept = load_file(tmp_path / "run" / "model.safetensors")
    torch.testing.assert_close({name: kept[name] for name in found}, found)


def test_a_short_teacher_keeps_the_statistics_of_its_latest_batches(make_config, tmp_path):
    config = make_config(teacher={"epochs": 1})
    data = prepare(config.data, config.seed)
    train_teacher(config, data, tmp_path / "teacher")
    task = teacher_task(config, data, load_run(tmp_path / "teacher").model.train(), CPU)
    steps = task.settings.steps
    found = statistics_of_batches(task, range(steps - 4, steps))
    kept = load_file(tmp_path / "teacher" / "model.safetensors")
    torch.testing.assert_close({name: kept[name] for name in found}, found)


def statistics_of_batches(task, steps):
    """Means over batches of the first BatchNorm's statistics, by the names of its buffers."""
    modules = dict(task.model.named_modules())
    convolution, norm = (
        next(name for name, module in modules.items() if isinstance(module, kind))
        for kind in (nn.Conv2d, nn.BatchNorm2d)
    )
    seen, means, variances = [], [], []
    modules[convolution].register_forward_hook(lambda _, args, x_NCHW: seen.append(x_NCHW.detach()))
    for step in steps:
        seen.clear()
        task.losses_of(task.batch(step))
        x_CN = seen[0].transpose(0, 1).flatten(1)  # Of both streams the DVS stream runs first.
        means.append(x_CN.mean(1))
        variances.append(x_CN.var(1))
    running = (torch.stack(means).mean(0), torch.stack(variances).mean(0))
    return dict(zip((f"{norm}.running_mean", f"{norm}.running_var"), running, strict=True))
