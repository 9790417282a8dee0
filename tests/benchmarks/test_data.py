"""The benchmark: its baselines compute what ours does, and its figures are consistent."""

import json

import numpy as np
import pytest
import yaml
from hypothesis import given

from benchmarks import data as bench
from benchmarks.__main__ import main
from benchmarks.baselines import frame_by_add_at, frame_by_loop, read_bin_by_loop
from factories import as_events, as_rows, event_lists, packed, tiny_recipe
from spikebridge.data.events import Events, read_events
from spikebridge.data.frames import frame_events


@given(events=event_lists(min_size=3))
def test_the_baselines_frame_as_we_do(events: Events) -> None:
    ours = frame_events(events, 3, (5, 7))
    for baseline in (frame_by_loop, frame_by_add_at):
        np.testing.assert_array_equal(baseline(events, 3, (5, 7)), ours)


def test_the_baseline_reads_as_we_do(tmp_path) -> None:
    rows = [(1, 2, 70_000, 1), (33, 30, 70_001, 0), (0, 33, 8_000_000, 1)]
    file = tmp_path / "a.bin"
    file.write_bytes(packed(rows))
    assert read_bin_by_loop(file) == as_rows(read_events(file, (34, 34))) == rows
    assert as_rows(as_events(rows)) == rows


def test_the_command_prints_and_writes_the_same_figures(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(bench, "_SECONDS", 0.03)
    recipe = tiny_recipe(tmp_path, data={"time_steps": 3})
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))
    written = tmp_path / "figures.json"
    assert main(["data", str(tmp_path / "mine.yaml"), "--json", str(written)]) == 0
    page = capsys.readouterr().out
    found = json.loads(written.read_text())
    rates = {name: row["samples_per_s"] for name, row in found["rows"].items()}
    assert {"read raw", "frame", "cache", "loader", "student"} <= rates.keys()
    for name, ratio in found["ratios"].items():
        ours, theirs = name.split(" / ")
        assert ratio == pytest.approx(rates[ours] / rates[theirs])
        assert f"| {name} | {ratio:.2f} |" in page
    assert found["dense_float32_bytes"] == 4 * 3 * 2 * 8 * 8
    assert 0 < found["bytes_per_recording"] < found["dense_float32_bytes"] / 2
