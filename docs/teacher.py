"""Puts what the teacher adds, by the tables of docs/study.md, into README.md: docs/teacher.py."""

import re
import sys
from pathlib import Path

from spikebridge.base.files import write_text

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
MARKED = re.compile(r"(<!-- teacher: [^\n]*-->\n).*?(<!-- end teacher -->)", re.DOTALL)
COMPARED = (
    ("nmnist-1", 1, "N-MNIST, real recordings, 1 a class", "all", "no-teacher", "ckd"),
    ("nmnist-2", 2, "the same, 2 a class, two heads", "all", "kt", "ckd"),
    ("caltech", 10, "Caltech101, 25 classes, 10 a class", "all", "kt", "ckd"),
    ("photo-labels", 10, "the same, from a backbone of other classes", "five a class",
     "labelled-only-5", "ckd-plus-5"),
    ("photo-labels", 10, "the same", "one a class", "labelled-only-1", "ckd-plus-1"),
)  # fmt: skip
"""Study, its labelled recordings per class, the same in words, photos with a label, arm without the
teacher, arm with it."""


def main() -> None:
    """Rewrite the table between the README's marks."""
    page = (HERE / "study.md").read_text(encoding="utf-8")
    text, found = MARKED.subn(
        lambda marks: f"{marks[1]}\n{table(page)}\n{marks[2]}", README.read_text(encoding="utf-8")
    )
    if not found:
        sys.exit(f"{README}: has no lines <!-- teacher: … --> and <!-- end teacher --> for it")
    write_text(README, text)


def table(page: str) -> str:
    """What the teacher adds, as Markdown."""
    lines = [
        "| labelled recordings | labelled photos | without the teacher | with it | it adds (p) |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for study, labelled, recordings, photos, without, arm in COMPARED:
        rows = rows_of(page, study, labelled)
        told = [f"`{name}` {rows[name]['test top-1, %']}" for name in (without, arm)]
        cells = [recordings, photos, *told, rows[arm][f"− {without} (p)"]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def rows_of(page: str, study: str, labelled: int) -> dict[str, dict[str, str]]:
    """Rows of a study's first table with so many labelled recordings: cells by arm and column."""
    block = page.split(f"<!-- study {study}: ")[1].split(f"<!-- end study {study} -->")[0]
    first = [line for line in block.split("\n\n")[1].splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in first]
    told = [dict(zip(head, cells, strict=True)) for cells in rows]
    return {row["arm"]: row for row in told if row["labelled per class"] == str(labelled)}


if __name__ == "__main__":
    main()
