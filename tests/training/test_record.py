"""The log of a run: JSON lines, TensorBoard, resuming, a full disk."""

import json

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from spikebridge.errors import UserError
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


def test_what_is_not_finite_is_null_in_the_log(tmp_path):
    recorder = Recorder(tmp_path)
    odd = torch.tensor([float("nan"), 0.5])
    recorder.write({"step": 0, "losses": {"dvs": float("inf")}, "cka": odd})
    recorder.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    found = json.loads(text, parse_constant=pytest.fail)
    assert found == {"step": 0, "losses": {"dvs": None}, "cka": [None, 0.5]}


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


class Watched(torch.Tensor):
    """Counts how often it is read."""

    read = 0

    def tolist(self):
        Watched.read += 1
        return super().tolist()


def test_tensors_are_read_when_many_have_come_or_someone_looks(tmp_path, monkeypatch):
    monkeypatch.setattr(Watched, "read", 0)
    recorder = Recorder(tmp_path)
    seen = []
    for step in range(25):
        value = torch.tensor([0.5, step / 8]).as_subclass(Watched)
        recorder.write(record(step) | {"cka": value, "losses": {"dvs": torch.tensor(step / 4)}})
        seen.append(Watched.read)
    assert seen == [0] * 19 + [20] * 6
    assert recorder.position() == (tmp_path / "metrics.jsonl").stat().st_size
    assert Watched.read == 25
    recorder.close()
    assert lines(tmp_path) == [record(step) for step in range(25)]


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
