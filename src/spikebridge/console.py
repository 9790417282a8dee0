"""The one console: progress and notes go to stderr, results to stdout."""

from rich.console import Console

console = Console(stderr=True, highlight=False)
