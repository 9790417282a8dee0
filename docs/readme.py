"""Puts figures of docs/study.md into README.md: python docs/readme.py."""

import sys
from pathlib import Path

from spikebridge.base.errors import UserError
from spikebridge.runs.study.page import update_page

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
REACHED = (
    ("nmnist-1", 1, "N-MNIST, 500 real ones"),
    ("caltech", 10, "simulated, of Caltech101's photos, 25 classes"),
    ("photo-labels", 10, "half as long, from a [backbone](docs/backbone.md) of other classes"),
    ("one-recording", 1, "the same"),
)
"""Study, its labelled recordings per class, the recordings in words."""
ARMS = ("scratch", "ckd", "ckd-plus", "teacher")
ADDED = (
    ("nmnist-1", 1, "N-MNIST, real recordings, 1 a class", "all", "no-teacher", "ckd"),
    ("nmnist-2", 2, "the same, 2 a class", "all", "no-teacher", "ckd"),
    ("caltech-teacher", 10, "Caltech101, 25 classes, 10 a class, 3,000 steps", "all", "kt", "ckd"),
    ("photo-labels", 10, "the same, 1,500 steps, from a backbone of other classes", "five a class",
     "labelled-only-5", "ckd-plus-5"),
    ("photo-labels", 10, "the same", "one a class", "labelled-only-1", "ckd-plus-1"),
)  # fmt: skip
"""Study, its labelled recordings per class, the same in words, photos with a label, arm without the
teacher, arm with it."""
TOP1 = "test top-1, %"


def main() -> None:
    """Rewrite the tables between the README's marks."""
    page = (HERE / "study.md").read_text(encoding="utf-8")
    try:
        for name, table in (("reached", reached(page)), ("added", added(page))):
            update_page(README, name, table, [], "python docs/readme.py")
    except UserError as error:
        sys.exit(str(error))


def reached(page: str) -> str:
    """What students and teachers reach, as Markdown."""
    head = " | ".join(f"`{arm}`" if arm != "teacher" else "teacher, on photos" for arm in ARMS)
    lines = [
        f"| recordings | labelled a class | {head} |",
        f"| --- | ---: |{' ---: |' * len(ARMS)}",
    ]
    for study, labelled, recordings in REACHED:
        rows = rows_of(page, study, labelled)
        cells = [rows[arm][TOP1] if arm in rows else "–" for arm in ARMS]
        lines.append(f"| {recordings} | {labelled} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def added(page: str) -> str:
    """What the teacher adds, as Markdown."""
    lines = [
        "| labelled recordings | labelled photos | seeds "
        "| without the teacher | with it | it adds (p) |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for study, labelled, recordings, photos, without, arm in ADDED:
        rows = rows_of(page, study, labelled)
        told = [f"`{name}` {rows[name][TOP1]}" for name in (without, arm)]
        cells = [recordings, photos, rows[arm]["seeds"], *told, rows[arm][f"− {without} (p)"]]
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
