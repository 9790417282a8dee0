"""The one console: progress and notes go to stderr, results to stdout."""

from collections.abc import Callable, Generator, Iterable
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
