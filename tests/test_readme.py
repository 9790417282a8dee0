"""The README's commands are those that CI runs."""

import re
import runpy
from pathlib import Path

import pytest

from spikebridge.settings.presets import methods, recipe_names

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def first_commands():
    return re.findall(r"```bash\n([^\n]+)\n```", README)[:2]


def test_two_single_line_commands_stand_first():
    assert first_commands() == ["bash scripts/demo.sh", "bash scripts/test.sh"]


def test_ci_runs_the_test_command():
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == [first_commands()[1]]


def test_every_file_that_the_readme_names_exists():
    for name in re.findall(r"(?:scripts|experiments|docs)/[\w./-]*\w", README):
        assert (ROOT / name).exists(), name


def test_every_recipe_and_method_is_named():
    for name in (*recipe_names(), *methods()):
        assert f"`{name}`" in README, name


@pytest.mark.parametrize("name", ["reached", "added"])
def test_figures_are_what_the_study_says(name):
    made = runpy.run_path(str(ROOT / "docs" / "readme.py"))
    page = (ROOT / "docs" / "study.md").read_text(encoding="utf-8")
    begin, end = (
        f'<!-- study {name}: made by "python docs/readme.py" -->',
        f"<!-- end study {name} -->",
    )
    assert f"{begin}\n\n{made[name](page)}\n{end}" in README
