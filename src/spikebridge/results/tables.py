"""Tables as Markdown, LaTeX and CSV, from the same cells."""

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikebridge.data.manifest import MARKS, TEST_READ

MARK = "†"
"""Beside every figure of a run whose protocol is not proved."""
MARK_MEANS = (
    f"{MARK} Unproved: that training saw nothing held out cannot be excluded; "
    "`spikebridge audit RUN` says why."
)
_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$",
    "#": r"\#", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": "$<$", ">": "$>$", "±": r"$\pm$", "−": "$-$", "×": r"$\times$", "–": "--",
    "…": r"\dots{}", MARK: r"$^\dagger$", "τ": r"$\tau$",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Cells as text, and what stands below them."""

    head: Sequence[str]
    numbers: Sequence[bool]
    """Whether a column is set flush right."""
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """As Markdown."""
        rules = ["---:" if number else "---" for number in self.numbers]
        cells = [[cell.replace("|", "\\|") for cell in row] for row in self.rows]
        lines = ["| " + " | ".join(row) + " |" for row in (self.head, rules, *cells)]
        return "\n".join(lines) + "\n" + (f"\n{' '.join(self.notes)}\n" if self.notes else "")

    def latex(self, caption: str, command: str, told: str = "") -> str:
        """As LaTeX for the package booktabs, inside an environment `table`.

        Args:
            caption: What it shows; the notes and the command follow it.
            command: What made the table; stands in a comment, too.
            told: What the caption has in the command's place, where that is long.
        """
        words = " ".join([caption, *self.notes])
        head, *rows = (" & ".join(map(tex, row)) + r" \\" for row in (self.head, *self.rows))
        lines = [
            f"% {command}",
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{tex(words)} Made by \texttt{{{tex(told or command)}}}.}}",
            rf"  \begin{{tabular}}{{{''.join('lr'[number] for number in self.numbers)}}}",
            r"    \toprule",
            f"    {head}",
            r"    \midrule",
            *(f"    {row}" for row in rows),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"


def tex(text: str) -> str:
    """Plain text, with Markdown's code and escapes, as LaTeX."""
    pieces = re.split(r"`([^`]*)`", text)
    set_ = ["".join(_TEX.get(sign, sign) for sign in piece) for piece in pieces]
    return "".join(
        rf"\texttt{{{piece}}}" if place % 2 else piece for place, piece in enumerate(set_)
    )


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows of cells as CSV; None is empty."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def signed(value: float) -> str:
    """One decimal with a sign, and a true minus."""
    return f"{round(value, 1) + 0.0:+.1f}".replace("-", "−")


def with_interval(mean: str, interval: float, proved: bool = True) -> str:
    """A mean ± its interval, if it has one, marked where the protocol is not proved."""
    return mean + ("" if math.isnan(interval) else f" ± {interval:.1f}") + ("" if proved else MARK)


def unlabelled_in_words(results: Sequence[Mapping[str, Any]]) -> str | None:
    """What became of the photos without labels of some runs of one row; None where none had any.

    Args:
        results: What each run's ``result.json`` holds.
    """
    told = [found for result in results if (found := result.get("unlabelled")) is not None]
    if not told:
        return None

    def total(name: str) -> str:
        return f"{sum(found.get(name, 0) for found in told):,}"

    photos = f"{total('photos')} photos without labels"
    over = f", all seeds together ({len(told)})" if len(told) > 1 else ""
    if (labeller := told[0]["labeller"]) is None:
        return f"{photos} left out{over}"
    words = f"{total('accepted')} of {photos} taken, by the {labeller}'s answers"
    if any(found["known"] for found in told):
        words += (
            f"; of {total('known')} whose label was hidden {total('known_accepted')} taken, "
            f"{total('known_right')} of them rightly"
        )
    return words + over


def marks_of(result: Mapping[str, Any]) -> tuple[str, ...]:
    """What every figure of a run must say: that training was let see what tests, or test was read.

    Args:
        result: What its ``result.json`` holds.
    """
    allowed = MARKS.get(result.get("protocol", ""))
    return (*([allowed] if allowed else []), *([TEST_READ] if result.get("test_read") else []))


RUN_COLUMNS = (
    "seed", "test_top1", "test_loss", "val_top1", "best_epoch", "seconds", "parameters",
    "selected_on", "proved", "settings_key", "folder",
)  # fmt: skip
"""What `run_cells` gives of each run."""


def run_cells(folder: Path, result: dict[str, Any]) -> list[Any]:
    """One run's cells of a table with a row per run; empty where its result does not say."""
    return [result.get(name) for name in RUN_COLUMNS[:-1]] + [str(folder)]
