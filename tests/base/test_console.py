"""Progress: a bar on a terminal, a line a minute in a log."""

import ast
import io
from pathlib import Path
from queue import Queue

import pytest
from rich.console import Console

from spikebridge.base import console as ours
from spikebridge.base.console import each, each_in_threads, working
from spikebridge.training.loop import _progress_bar


class Minutes:
    """The passing of time, in the place of an event that is waited for."""

    def __init__(self):
        self.asked, self.answers, self.waits = Queue(), Queue(), []
        self.ended = False

    def wait(self, seconds):
        self.waits.append(seconds)
        self.asked.put(None)
        return self.answers.get()

    def pass_one(self):
        """Returns when what is due after this minute is printed."""
        self.asked.get()
        self.answers.put(False)
        self.asked.get()
        self.asked.put(None)

    def set(self):
        self.ended = True
        self.answers.put(True)


@pytest.fixture
def minutes(monkeypatch):
    minutes = Minutes()
    monkeypatch.setattr(ours, "Event", lambda: minutes)
    return minutes


@pytest.fixture
def log(monkeypatch):
    """What a console that is no terminal gets, at a time that the test sets."""
    log = io.StringIO()
    now = [0.0]
    log.now = now
    console = Console(file=log, highlight=False, width=40, get_time=lambda: now[0])
    monkeypatch.setattr(ours, "console", console)
    return log


def lines(log):
    said = log.getvalue().splitlines()
    log.seek(0)
    log.truncate()
    return said


def test_a_log_gets_a_line_a_minute_and_the_last_state(log, minutes):
    with _progress_bar() as bar:
        shown = bar.add_task("ckd-seed0", total=300, note="")
        minutes.pass_one()
        assert lines(log) == ["ckd-seed0, 0/300"]
        for step in range(1, 101):
            log.now[0] = 0.5 * step
            bar.update(shown, advance=1, note="best validation 81.0 %")
        minutes.pass_one()
        assert lines(log) == ["ckd-seed0, 100/300, 0:01:40 left, best validation 81.0 %"]
        bar.update(shown, completed=300)
    assert lines(log) == ["ckd-seed0, 300/300, best validation 81.0 %"]
    assert set(minutes.waits) == {60.0}


def test_what_is_done_within_a_minute_says_nothing(log):
    assert each(abs, [-1, 2], "measuring") == [1, 2]
    assert each_in_threads(abs, [-1, 2], "measuring") == [1, 2]
    with working("calibrating"):
        pass
    assert lines(log) == []


def test_each_tells_how_far_it_is_also_while_nothing_ends(log, minutes):
    def slow(item):
        minutes.pass_one()
        return item

    assert each(slow, ["a", "b"], "running [row]") == ["a", "b"]
    assert [line.split(", ")[:2] for line in lines(log)] == [
        ["running [row]", "0/2"],
        ["running [row]", "1/2"],
    ]


def test_work_of_unknown_length_tells_how_long_it_takes(log, minutes):
    with working("calibrating"):
        log.now[0] = 60.0
        minutes.pass_one()
    assert lines(log) == ["calibrating, 0:01:00 so far"]


def test_a_quiet_console_prints_no_line(log, minutes):
    ours.console.quiet = True
    with working("calibrating"):
        minutes.pass_one()
    assert lines(log) == []


def test_progress_ends_when_the_work_fails(log, minutes):
    with pytest.raises(ZeroDivisionError):
        each(lambda x: 1 // x, [1, 0], "dividing")
    assert minutes.ended


def test_a_terminal_gets_a_bar(monkeypatch):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=60)
    monkeypatch.setattr(ours, "console", console)
    with _progress_bar() as bar:
        bar.update(bar.add_task("ckd-seed0", total=4, note="best"), completed=4)
    assert "━━━" in screen.getvalue()
    assert "4/4" in screen.getvalue()


def test_all_progress_is_made_in_one_place():
    source = Path(ours.__file__).parent
    own = {source / "console.py"}
    for file in set(source.rglob("*.py")) - own:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            made = isinstance(node, ast.Call) and ast.unparse(node.func)
            assert made not in ("Progress", "track", "console.status"), (file, node.lineno)
