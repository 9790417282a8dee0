"""The one console: progress and notes go to stderr, results to stdout."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Thread
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

console = Console(stderr=True, highlight=False)

_LINE_EVERY_S = 60.0
_SPEED_OVER_S = 600.0

_T = TypeVar("_T")
_R = TypeVar("_R")


def progress(*columns: ProgressColumn, transient: bool = True) -> Progress:
    """A bar on a terminal; elsewhere, in a log say, a line a minute that says the same.

    Args:
        columns: What is shown; by default description, bar, done of total, and time left.
        transient: The bar goes when it ends; otherwise it stays, and a log gets a last line.
    """
    columns = columns or (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    if console.is_interactive or console.is_jupyter:
        return Progress(*columns, console=console, transient=transient)
    return _Lines(*columns, transient=transient)


class _Lines(Progress):
    """Progress where nothing can be drawn over."""

    def __init__(self, *columns: ProgressColumn, transient: bool) -> None:
        super().__init__(
            *columns, console=console, auto_refresh=False, speed_estimate_period=_SPEED_OVER_S
        )
        self._last = not transient
        self._ended = Event()
        self._thread = Thread(target=self._print_now_and_then, daemon=True)

    def start(self) -> None:
        """Begin to print."""
        self._thread.start()

    def stop(self) -> None:
        """Print no more."""
        self._ended.set()
        self._thread.join()
        if self._last:
            self._print()

    def _print_now_and_then(self) -> None:
        while not self._ended.wait(_LINE_EVERY_S):
            self._print()

    def _print(self) -> None:
        for task in self.tasks:
            shown = [text for column in self.columns if (text := _in_words(column, task))]
            console.print(", ".join(shown), soft_wrap=True, markup=False)


def _in_words(column: str | ProgressColumn, task: Task) -> str:
    """What a column says; a bar, a spinner and a time that nobody knows say nothing."""
    if isinstance(column, str | SpinnerColumn) or not isinstance(shown := column(task), Text):
        return ""
    text = shown.plain.strip()
    if isinstance(column, TimeRemainingColumn):
        return "" if task.finished or "-" in text or not text else f"{text} left"
    return f"{text} so far" if isinstance(column, TimeElapsedColumn) else text


@contextmanager
def working(description: str) -> Iterator[None]:
    """Progress of what nobody knows the length of."""
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    with progress(*columns) as bar:
        bar.add_task(description, total=None)
        yield


def each(function: Callable[[_T], _R], items: Collection[_T], description: str) -> list[_R]:
    """Function of each item, with progress that also ends when one fails."""
    results = []
    with progress() as bar:
        shown = bar.add_task(description, total=len(items))
        for item in items:
            results.append(function(item))
            bar.advance(shown)
    return results


def each_in_threads(
    function: Callable[[_T], _R],
    items: Iterable[_T],
    description: str,
    threads: int | None = None,
) -> list[_R]:
    """`each` in some threads, all cores' by default; a failure cancels what has not begun."""
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        results = [pool.submit(function, item) for item in items]
        try:
            return each(Future.result, results, description)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
