"""Rooms stand one above the other: arrows between them run down, and no files import in circles."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
ROOMS = ["base", "data", "models", "ckd", "run_folder", "training", "settings", "results", "runs",
         "commands", "cli", "__main__"]  # fmt: skip
"""From the ground up; docs/architecture.md draws them."""


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name without the package's."""
    found = {}
    for path in (SOURCE / "spikebridge").rglob("*.py"):
        parts = path.relative_to(SOURCE / "spikebridge").with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    del found[""]  # Its imports are those of whoever imports the package.
    return found


@cache
def arrows() -> dict[str, set[str]]:
    """What each module imports, also within functions and for types alone."""
    found: dict[str, set[str]] = {name: set() for name in modules()}
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = []
            if isinstance(node, ast.ImportFrom):
                assert not node.level, f"{path}:{node.lineno}: relative import"
                named = [f"{node.module}.{one.name}" for one in node.names]
            elif isinstance(node, ast.Import):
                named = [one.name for one in node.names]
            inside = [one.removeprefix("spikebridge.") for one in named if "spikebridge." in one]
            found[name] |= {module_of(one) for one in inside} - {name, ""}
    return found


def module_of(name: str) -> str:
    """The module in which a dotted name lies."""
    while name and name not in modules():
        name = name.rpartition(".")[0]
    return name


def test_every_module_is_in_a_room():
    assert {name.split(".")[0] for name in modules()} == set(ROOMS)


@pytest.mark.parametrize("name", sorted(modules()))
def test_arrows_between_rooms_run_down(name):
    room = name.split(".")[0]
    for other in arrows()[name]:
        theirs = other.split(".")[0]
        assert ROOMS.index(theirs) <= ROOMS.index(room), f"{name} imports {other}"


def test_no_modules_import_each_other_in_circles():
    try:
        TopologicalSorter(arrows()).prepare()
    except CycleError as circle:
        pytest.fail(" → ".join(circle.args[1]))


def test_no_rooms_import_each_other_in_circles():
    """Nor the rooms within rooms."""
    rooms: dict[str, set[str]] = {}
    for name, others in arrows().items():
        for other in others:
            mine, theirs = name.split("."), other.split(".")
            same = 0
            while same < min(len(mine), len(theirs)) and mine[same] == theirs[same]:
                same += 1
            if same < len(mine) and same < len(theirs):
                here, there = ".".join(mine[: same + 1]), ".".join(theirs[: same + 1])
                rooms.setdefault(here, set()).add(there)
    try:
        TopologicalSorter(rooms).prepare()
    except CycleError as circle:
        pytest.fail(" → ".join(circle.args[1]))
