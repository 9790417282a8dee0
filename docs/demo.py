"""Puts the demo's results into README.md and docs/demo.png: python docs/demo.py [demo].

The table between the README's markers and the picture are made from the same runs as the report.
"""

import re
import sys
from pathlib import Path

from matplotlib import rc_context

from spikebridge.base.files import atomic_path, write_text
from spikebridge.results.compare import compare
from spikebridge.results.report.figures import accuracy
from spikebridge.results.report.svg import PALE, drawing
from spikebridge.runs.demo import markdown_table

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
MARKED = re.compile(r"(<!-- demo: [^\n]*-->\n).*?(<!-- end demo -->)", re.DOTALL)


def main(demo: Path) -> None:
    """Table and picture of a finished demo."""
    rows = compare(sorted((demo / "runs").iterdir()))
    text, found = MARKED.subn(
        lambda marks: f"{marks[1]}\n{markdown_table(rows).strip()}\n\n{marks[2]}",
        README.read_text(encoding="utf-8"),
    )
    if not found:
        sys.exit(f"{README}: has no lines <!-- demo: … --> and <!-- end demo --> for the table")
    write_text(README, text)
    with drawing(), rc_context({"font.family": "sans-serif", "grid.color": PALE}):
        figure = accuracy(rows)
    with atomic_path(HERE / "demo.png") as temporary:
        figure.savefig(temporary, format="png", dpi=160, facecolor="white")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
