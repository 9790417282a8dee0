"""The log of a run: JSON lines, TensorBoard, resuming, a full disk."""

import json
import math

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import spikebridge.training.record
from factories import refused
from spikebridge.base.errors import UserError
from spikebridge.training.packing import Packed, unpacked
from spikebridge.training.record import Recorder


def record(step):
    return {"kind": "step", "step": step, "losses": {"dvs": step / 4}, "cka": [0.5, step / 8]}


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_records_are_json_lines_and_tensorboard_scalars(tmp_path):
    recorder = Recorder(tmp_path)
    for step in range(3):
        recorder.write(record(step))
    recorder.close()
    assert lines(tmp_path) == [record(0), record(1), record(2)]
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(board.Tags()["scalars"]) == {"train/losses/dvs", "train/cka/0", "train/cka/1"}
    scalars = [(e.step, e.value) for e in board.Scalars("train/losses/dvs")]
    assert scalars == [(0, 0.0), (1, 0.25), (2, 0.5)]


def test_a_resumed_log_forgets_what_came_after_the_checkpoint(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.write(record(0))
    position = recorder.position()
    recorder.write(record(1))
    recorder.close()
    resumed = Recorder(tmp_path, position, 1)
    resumed.write(record(1) | {"again": 1})
    resumed.close()
    assert lines(tmp_path) == [record(0), record(1) | {"again": 1}]


def test_a_log_that_lost_its_end_is_refused(tmp_path):
    """As after a power cut: the checkpoint is there, the last lines are not."""
    recorder = Recorder(tmp_path)
    for step in range(3):
        recorder.write(record(step))
    position = recorder.position()
    recorder.close()
    with open(tmp_path / "metrics.jsonl", "r+b") as file:
        file.truncate(position - 30)
    refused(lambda: Recorder(tmp_path, position, 3), "metrics.jsonl", "30 bytes are missing")
    assert len((tmp_path / "metrics.jsonl").read_bytes()) == position - 30


def computed(step, **losses):
    losses = {"dvs": step / 4} | losses
    tensors = {name: torch.tensor(value) for name, value in losses.items()}
    return Packed.of({"losses": tensors, "cka": torch.tensor([0.5, step / 8])})


def test_tensors_are_read_in_one_go_when_many_have_come_or_someone_looks(tmp_path, monkeypatch):
    reads = []

    def reading(packed):
        if packed:
            reads.append(len(packed))
        return unpacked(packed)

    monkeypatch.setattr(spikebridge.training.record, "unpacked", reading)
    recorder = Recorder(tmp_path)
    seen = []
    for step in range(25):
        recorder.write({"kind": "step", "step": step}, computed(step))
        seen.append(sum(reads))
    assert seen == [0] * 19 + [20] * 6
    assert recorder.position() == (tmp_path / "metrics.jsonl").stat().st_size
    assert reads == [20, 5]
    recorder.close()
    assert lines(tmp_path) == [record(step) for step in range(25)]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_training_with_its_name_and_step(tmp_path, value):
    recorder = Recorder(tmp_path)
    for step in range(3):
        recorder.write({"kind": "step", "step": step}, computed(step))
    recorder.write({"kind": "step", "step": 3}, computed(3, total=value, kd=value))
    with pytest.raises(UserError, match=rf"diverged: the loss 'kd' is {value} at step 3; .*lr"):
        recorder.flush()
    recorder.close()
    assert lines(tmp_path) == [record(step) for step in range(3)]


def test_the_log_is_json_where_a_value_is_not_a_number(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.write(record(0) | {"cka": [math.nan, 0.5]})
    recorder.close()
    assert lines(tmp_path) == [record(0) | {"cka": [None, 0.5]}]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_full_disk_is_one_clear_line(tiny_disk):
    recorder = Recorder(tiny_disk)

    def fill():
        for step in range(5000):
            recorder.write(record(step))
            recorder.position()

    with pytest.raises(UserError, match=r"metrics\.jsonl: cannot be written .*free some space"):
        fill()
    with pytest.raises(UserError, match=r"metrics\.jsonl"):
        recorder.close()
