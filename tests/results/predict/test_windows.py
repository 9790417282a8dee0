"""Windows of streams that come in pieces."""

from factories import as_events
from spikebridge.results.predict import WindowCutter


def cut(cutter: WindowCutter, *pieces: list[int]) -> list[tuple[int, int, list[int], int]]:
    """Windows of pieces of time stamps, the flush behind the last one included."""
    found = []
    for piece in pieces:
        events = as_events([(1, 1, t, 1) for t in piece])
        found += cutter.push((events.x_N, events.y_N, events.t_N, events.polarity_N))
    found += cutter.flush()
    return [(w.start_us, w.end_us, w.events.t_N.tolist(), w.count) for w in found]


def test_windows_of_known_events():
    def cutter(window_us: float, stride_us: float | None = None) -> WindowCutter:
        return WindowCutter(window_us / 1e3, stride_us and stride_us / 1e3, (34, 34))

    stamps = [100, 101, 109, 110, 125, 160, 163]  # From 0 on: 0 1 9 10 25 60 63.
    expected = [
        (0, 10, [0, 1, 9], 1), (10, 20, [10], 1), (20, 30, [25], 1), (30, 60, [], 3),
        (60, 64, [60, 63], 1),
    ]  # fmt: skip
    assert cut(cutter(10), stamps) == expected
    assert cut(cutter(10), *([t] for t in stamps)) == expected
    overlapping = [
        (0, 20, [0, 1, 9, 10], 1), (10, 30, [10, 25], 1), (20, 40, [25], 1), (30, 60, [], 2),
        (50, 64, [60, 63], 1),
    ]  # fmt: skip
    assert cut(cutter(20, 10), stamps) == overlapping
    assert cut(cutter(20, 10), stamps[:4], stamps[4:]) == overlapping
    assert cut(cutter(2, 30), stamps) == [(0, 2, [0, 1], 1), (30, 32, [], 1), (60, 62, [60], 1)]
    assert cut(cutter(1000), stamps) == [(0, 64, [0, 1, 9, 10, 25, 60, 63], 1)]
    gap = cutter(2, 30)
    cut(gap, [100, 131], [107, 160])
    assert gap.late == 0


def test_unordered_late_and_restarted_streams():
    cutter = WindowCutter(0.01, None, (34, 34))
    assert cut(cutter, [100, 105, 103, 112], [108, 119, 111], [130]) == [
        (0, 10, [0, 3, 5], 1), (10, 20, [11, 12, 19], 1), (20, 30, [], 1), (30, 31, [30], 1),
    ]  # fmt: skip
    assert (cutter.late, cutter.set_back) == (1, 0)
    again = [(0, 10, [0, 9], 1), (10, 16, [15], 1)]
    assert cut(cutter, [3_000_000], [500, 509], [515]) == again
    assert cutter.set_back == 1


def test_a_clock_that_stands_still_fills_no_memory(monkeypatch):
    monkeypatch.setattr("spikebridge.results.predict.windows._MOST_EVENTS", 10)
    cutter = WindowCutter(1, None, (34, 34))
    assert cut(cutter, *[[7] * 4] * 5) == [(0, 1, [0] * 8, 1)]
    assert cutter.thrown_away == 12
