import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from spikebridge.ckd.schedules import DistillationSchedule, ReplacementSchedule

STRETCHED = (1 / (1 + math.exp(-1)) - 1 / (1 + math.exp(2))) / (
    1 / (1 + math.exp(-2)) - 1 / (1 + math.exp(2))
)
"""A sigmoid of slope 4 around one half at 0.75, stretched to run from 0 to 1."""
UNIT = st.floats(0, 1)
RISING = ("power", "linear")
SHAPES = (*RISING, "step", "never", "always")
replacements = st.builds(
    ReplacementSchedule,
    shape=st.sampled_from(SHAPES),
    power=st.floats(0.05, 20),
    step_at=UNIT,
)


@st.composite
def phased(draw):
    first, second = sorted((draw(UNIT), draw(UNIT)))
    assume(first < second)
    return DistillationSchedule("phased", first, second, draw(st.floats(1e-3, 1e3)))


@given(schedule=replacements, u=UNIT, later=UNIT)
def test_replacement_is_a_probability_that_never_falls(schedule, u, later):
    u, later = sorted((u, later))
    assert 0 <= schedule(u) <= schedule(later) <= 1


@pytest.mark.parametrize("shape", RISING)
def test_rising_replacement_goes_from_nothing_to_everything(shape):
    schedule = ReplacementSchedule(shape)
    assert schedule(0.0) == 0
    assert schedule(1.0) == 1
    assert schedule(0.3) < schedule(0.6) < schedule(0.9)


@given(u=UNIT)
def test_the_default_is_kts_cube(u):
    assert ReplacementSchedule()(u) == pytest.approx(u**3)


@pytest.mark.parametrize(
    ("schedule", "u", "expected"),
    [
        (ReplacementSchedule("power", power=2), 0.3, 0.09),
        (ReplacementSchedule("linear"), 0.3, 0.3),
        (ReplacementSchedule("never"), 1.0, 0.0),
        (ReplacementSchedule("always"), 0.0, 1.0),
    ],
)
def test_replacement_values(schedule, u, expected):
    assert schedule(u) == pytest.approx(expected, abs=1e-6)


@given(at=UNIT, u=UNIT)
def test_step_replaces_from_its_point_on(at, u):
    assert ReplacementSchedule("step", step_at=at)(u) == (1 if u >= at else 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_progress_beyond_the_ends_is_the_ends(shape):
    schedule = ReplacementSchedule(shape)
    assert schedule(-0.5) == schedule(0.0)
    assert schedule(1.5) == schedule(1.0)


@given(schedule=phased(), u=UNIT)
def test_phase_one_is_exactly_one_and_phase_two_exactly_zero(schedule, u):
    weight = schedule(u, 0.5)
    if u < schedule.phase_one_end:
        assert weight == 1
    elif u >= schedule.phase_two_start:
        assert weight == 0
    else:
        assert 0 <= weight <= 1


@given(schedule=phased())
def test_the_switching_phase_starts_at_one_and_ends_at_zero(schedule):
    assert schedule(schedule.phase_one_end, 0) == 1
    assert schedule(schedule.phase_two_start, 0) == 0
    assert schedule(math.nextafter(schedule.phase_one_end, -1), 0) == 1
    assert schedule(math.nextafter(schedule.phase_two_start, 2), 0) == 0


@given(schedule=phased(), u=UNIT, later=UNIT)
def test_distillation_never_rises(schedule, u, later):
    u, later = sorted((u, later))
    assert schedule(u, 0) >= schedule(later, 0)


@given(schedule=phased(), u=UNIT, share=st.floats(0, 1e-3))
def test_small_steps_change_distillation_little(schedule, u, share):
    span = schedule.phase_two_start - schedule.phase_one_end
    assume(span > 1e-6)
    change = abs(schedule(u + share * span, 0) - schedule(u, 0))
    # The stretched sigmoid is steepest in the middle: slope / (4 tanh(slope / 4)).
    steepest = schedule.slope / 4 / math.tanh(schedule.slope / 4)
    assert change <= steepest * share * (1 + 1e-6) + 1e-9


def test_the_switching_phase_is_a_sigmoid():
    schedule = DistillationSchedule("phased", 0.4, 0.8, slope=4)
    assert schedule(0.6, 0) == pytest.approx(0.5)
    assert schedule(0.7, 0) == pytest.approx(1 - STRETCHED)


def test_the_defaults_are_the_methods():
    schedule = DistillationSchedule()
    assert [schedule(u, 0) for u in (0.0, 0.399, 0.4)] == [1, 1, 1]
    assert 0.9 < schedule(0.45, 0) < 1
    assert [schedule(u, 0) for u in (0.8, 0.9, 1.0)] == [0, 0, 0]


@given(u=UNIT, replacement=replacements)
def test_tied_falls_as_the_photos_are_replaced(u, replacement):
    schedule = DistillationSchedule("tied")
    assert schedule(u, replacement(u)) == 1 - replacement(u)


@given(u=UNIT, replacement=UNIT)
def test_constant_none_and_cosine(u, replacement):
    assert DistillationSchedule("constant")(u, replacement) == 1
    assert DistillationSchedule("none")(u, replacement) == 0
    expected = (1 + math.cos(math.pi * u)) / 2
    assert DistillationSchedule("cosine")(u, replacement) == pytest.approx(expected)


@pytest.mark.parametrize(
    "bad",
    [
        {"power": 0.0},
        {"power": -1.0},
        {"power": math.nan},
        {"power": math.inf},
        {"step_at": -0.1},
        {"step_at": 1.1},
        {"step_at": math.nan},
        {"shape": "stairs"},
    ],
)
def test_bad_replacement_settings_are_refused(bad):
    with pytest.raises(ValueError, match="replacement"):
        ReplacementSchedule(**bad)


@pytest.mark.parametrize(
    "bad",
    [
        {"phase_one_end": 0.8},
        {"phase_one_end": 0.5, "phase_two_start": 0.4},
        {"phase_one_end": -0.1},
        {"phase_two_start": 1.1},
        {"phase_one_end": math.nan},
        {"phase_two_start": math.nan},
        {"slope": 0.0},
        {"slope": math.nan},
        {"slope": math.inf},
        {"shape": "stairs"},
    ],
)
def test_bad_distillation_settings_are_refused(bad):
    with pytest.raises(ValueError, match="distillation"):
        DistillationSchedule(**bad)
