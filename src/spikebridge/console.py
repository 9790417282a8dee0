"""The one console: progress and notes go to stderr, results to stdout."""

import os
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar, cast

from rich.console import Console
from rich.progress import track

console = Console(stderr=True, highlight=False)

_T = TypeVar("_T")
_R = TypeVar("_R")


def each(function: Callable[[_T], _R], items: Iterable[_T], description: str) -> list[_R]:
    """Function of each item, with a progress bar that also ends when one fails.

    A bar left to the garbage collector can wait forever for the lock of the next one.
    """
    bar = track(items, description, console=console, transient=True)
    with closing(cast(Generator[_T, None, None], bar)) as tracked:
        return [function(item) for item in tracked]


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
