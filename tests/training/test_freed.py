"""A finished run frees its memory by itself: on a GPU the next one needs it."""

import gc
import weakref

import pytest
import torch

from pretend_cuda import pretend
from spikebridge.data.prepared import prepare
from spikebridge.runs import train
from spikebridge.runs.train import train_student


@pytest.mark.parametrize("cuda_graph", [True, False])
def test_a_finished_run_keeps_nothing_alive(make_config, tmp_path, monkeypatch, cuda_graph):
    config = make_config(
        "ckd-plus", train={"epochs": 2, "batches_per_epoch": 5, "cuda_graph": cuda_graph}
    )
    data = prepare(config.data, config.seed, simulated_source=True)
    made, kinds = [], ("student_task", "teacher_task", "build_student", "build_teacher")
    for name in kinds:
        original = getattr(train, name)

        def noted(*args, original=original, **kwargs):
            found = original(*args, **kwargs)
            made.append(weakref.ref(found))
            return found

        monkeypatch.setattr(train, name, noted)
    # The first optimiser of a process imports what keeps its callers' frames; `fit` collects them.
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
    gc.collect()
    gc.disable()
    try:
        with pretend():
            train_student(config, data, tmp_path / "run", teacher_folder=tmp_path / "teacher")
            alive = [one() for one in made if one() is not None]
    finally:
        gc.enable()
    assert len(made) >= len(kinds)
    assert alive == []
