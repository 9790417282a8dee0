"""Framing loses no event: checked event by event against a plain loop."""

from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories import as_events, as_rows, event_lists, packed, refused
from spikebridge.data.events import Events
from spikebridge.data.frames import frame_events, network_input
from spikebridge.data.prepared import frame_file
from spikebridge.data.settings import DataConfig

BINS = st.sampled_from(["time", "count"])
SIZES = st.tuples(st.integers(1, 50), st.integers(1, 50))


def _loop(
    events: Events, time_steps: int, size: tuple[int, int], bins: Literal["time", "count"]
) -> Counter:
    """Counts by (step, polarity, row, column), one event after the other, in whole numbers."""
    rows, (height, width) = as_rows(events), size
    first, last = rows[0][2], rows[-1][2]
    counts = Counter()
    for index, (x, y, t, polarity) in enumerate(rows):
        if bins == "time":
            # The interval that holds t: [k·span/T, (k + 1)·span/T), the last one closed.
            span = last - first + 1
            step = next(k for k in range(time_steps) if (t - first) * time_steps < (k + 1) * span)
        else:
            step = index * time_steps // len(rows)
        column = x * width // events.sensor[0]
        row = y * height // events.sensor[1]
        counts[step, polarity, row, column] += 1
    return counts


@given(events=event_lists(), size=SIZES, bins=BINS, data=st.data())
def test_every_event_is_counted_once_where_it_belongs(
    events: Events, size: tuple[int, int], bins: Literal["time", "count"], data: st.DataObject
) -> None:
    time_steps = data.draw(st.integers(1, min(12, len(events))))
    frames_TCHW = frame_events(events, time_steps, size, bins)
    assert frames_TCHW.shape == (time_steps, 2, *size)
    assert np.issubdtype(frames_TCHW.dtype, np.integer)
    assert frames_TCHW.sum() == len(events)
    assert frames_TCHW[:, 1].sum() == events.polarity_N.sum()
    assert frames_TCHW[:, 0].sum() == (~events.polarity_N).sum()
    found = {
        (int(t), int(p), int(h), int(w)): int(frames_TCHW[t, p, h, w])
        for t, p, h, w in np.argwhere(frames_TCHW)
    }
    assert found == _loop(events, time_steps, size, bins)


@given(events=event_lists(), size=SIZES, data=st.data())
def test_count_bins_differ_by_one_at_most_and_keep_the_order(
    events: Events, size: tuple[int, int], data: st.DataObject
) -> None:
    time_steps = data.draw(st.integers(1, min(12, len(events))))
    frames_TCHW = frame_events(events, time_steps, size, "count")
    counts_T = frames_TCHW.sum((1, 2, 3))
    assert counts_T.max() - counts_T.min() <= 1
    on_T = [int(part.sum()) for part in np.split(events.polarity_N, np.cumsum(counts_T)[:-1])]
    assert frames_TCHW[:, 1].sum((1, 2)).tolist() == on_T


def test_time_bins_are_half_open_and_the_last_one_closed() -> None:
    # 0 … 99 µs in 4 steps of 25 µs.
    events = as_events([(0, 0, t, 1) for t in (0, 24, 25, 49, 50, 74, 75, 99)])
    assert frame_events(events, 4, (4, 4), "time").sum((1, 2, 3)).tolist() == [2, 2, 2, 2]
    events = as_events([(0, 0, t, 1) for t in (1000, 1001, 1002, 1099)])
    assert frame_events(events, 4, (4, 4), "time").sum((1, 2, 3)).tolist() == [3, 0, 0, 1]


def test_time_bins_of_a_moment_and_of_a_long_recording() -> None:
    moment = as_events([(0, 0, 7, 1)] * 3)
    assert frame_events(moment, 3, (4, 4), "time").sum((1, 2, 3)).tolist() == [3, 0, 0]
    # Epoch µs: the products with T stay exact.
    start = 1_587_540_271_650_000
    long = as_events([(0, 0, start + t, 1) for t in (0, 3_599_999_999, 3_600_000_000)])
    assert frame_events(long, 2, (4, 4), "time").sum((1, 2, 3)).tolist() == [1, 2]


@pytest.mark.parametrize("width", [10, 34, 68])
def test_columns_go_to_the_floor_of_the_stretched_place(width: int) -> None:
    events = as_events([(x, 0, x, 1) for x in range(34)])
    row_W = frame_events(events, 1, (4, width), "time")[0, 1, 0]
    expected_W = np.zeros(width, int)
    for x in range(34):
        expected_W[int(np.floor(x * width / 34))] += 1
    np.testing.assert_array_equal(row_W, expected_W)


def test_height_and_width_and_polarity_are_not_mixed_up() -> None:
    events = as_events([(30, 3, 0, 0), (2, 19, 1, 1)], (40, 20))
    frames_TCHW = frame_events(events, 1, (10, 20), "time")
    assert np.argwhere(frames_TCHW).tolist() == [[0, 0, 1, 15], [0, 1, 9, 1]]


@given(events=event_lists(max_size=8), bins=BINS, more=st.integers(1, 5))
def test_more_steps_than_events_are_refused(
    events: Events, bins: Literal["time", "count"], more: int
) -> None:
    time_steps = len(events) + more
    refused(
        lambda: frame_events(events, time_steps, (4, 4), bins),
        f"{len(events)} events",
        f"{time_steps} time steps",
        "data.time_steps",
    )


def test_frame_file_frames_and_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    rows = [(33, 33, 5, 1), (0, 0, 6, 0), (17, 1, 9, 1)]
    file.write_bytes(packed(rows))
    config = DataConfig(time_steps=3, size=(8, 8), bins="count")
    np.testing.assert_array_equal(
        frame_file(file, config, (34, 34)), frame_events(as_events(rows), 3, (8, 8), "count")
    )
    many = DataConfig(time_steps=4, size=(8, 8))
    refused(lambda: frame_file(file, many, (34, 34)), file, "3 events", "data.time_steps")


def test_network_input_brings_each_recording_into_the_range_of_photos() -> None:
    counts = np.random.default_rng(0).poisson(3.0, (3, 4, 2, 8, 8)).astype(np.uint8)
    counts[1] *= 20
    counts[2] = 0
    x = network_input(counts, "recording")
    assert x.dtype == np.float32
    for recording, scaled in zip(counts[:2], x[:2], strict=True):
        divisor = np.percentile(recording[recording > 0], 95)
        assert np.allclose(scaled, np.minimum(recording / divisor, 1))
    assert x.max() == 1
    assert x[:2].mean() > 0.2
    assert not x[2].any()
    assert np.allclose(x[1], network_input(counts[1:2] // 20, "recording")[0])


def test_network_input_without_scale_is_the_counts() -> None:
    counts = np.arange(2 * 3 * 2 * 4 * 4, dtype=np.uint8).reshape(2, 3, 2, 4, 4)
    assert (network_input(counts, "none") == counts).all()
