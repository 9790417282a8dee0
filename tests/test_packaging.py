"""The wheel and the sdist hold what they must, and declare what the code imports."""

import ast
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "spikebridge"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def build(source, out):
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl")), next(out.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build(ROOT, tmp_path_factory.mktemp("dist"))


def wheel_names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(built):
    files = {
        str(path.relative_to(SOURCE.parent))
        for path in SOURCE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wheel_names(built[0]) == files
    kinds = ("py.typed", "lif.c", "sparse.c", "template.html", "digits.yaml", "methods/ckd.yaml")
    for kind in kinds:
        assert any(name.endswith(f"/{kind}") for name in files), kind


def test_the_wheel_works_without_the_repository(built, tmp_path):
    with zipfile.ZipFile(built[0]) as archive:
        archive.extractall(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import spikebridge\n"
        "from spikebridge.settings.presets import methods, read_recipe, recipe_names\n"
        "print(spikebridge.__file__)\n"
        "print([read_recipe(r, m)['method'] for r in recipe_names() for m in methods()][0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        str(tmp_path / "spikebridge" / "__init__.py"),
        "scratch",
    ]


def test_the_sdist_builds_the_same_wheel(built, tmp_path):
    with tarfile.open(built[1]) as archive:
        # Python 3.11.3 and older know no filter, newer ones warn where none is given.
        known = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(tmp_path, **known)
    (source,) = tmp_path.iterdir()
    for name in ("LICENSE", "CITATION.cff", "scripts/test.sh", "tests/conftest.py", "docs/conf.py"):
        assert (source / name).is_file(), name
    assert not [p for p in source.rglob("*") if p.name in (".venv", "__pycache__")]
    assert not (source / "runs").exists()
    wheel, _ = build(source, tmp_path / "again")
    assert wheel_names(wheel) == wheel_names(built[0])


def test_the_wheel_says_what_it_is(built):
    with zipfile.ZipFile(built[0]) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        metadata = archive.read(name).decode()
        licences = [n for n in archive.namelist() if n.endswith("licenses/LICENSE")]
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.11" in metadata
    for version in ("3.11", "3.12", "3.13"):
        assert f"Classifier: Programming Language :: Python :: {version}" in metadata
    assert licences


# What is declared, and what is imported -----------------------------------------------------------


def plain(requirement):
    return re.split(r"[\[<>=;! ]", requirement)[0].lower().replace("_", "-")


_FRONTS = {"torch.utils.tensorboard": "tensorboard"}
"""Modules that need a package of another name."""


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield _FRONTS.get(node.module, node.module.split(".")[0])


def distributions():
    """Distributions that the package's source imports."""
    of = packages_distributions()
    names = {
        name
        for path in SOURCE.rglob("*.py")
        for name in imported(ast.parse(path.read_text(encoding="utf-8")))
        if name not in sys.stdlib_module_names and name != "spikebridge"
    }
    return {plain(of.get(name, [name])[0]) for name in names}


def test_no_dependency_is_missing_or_idle():
    base = {plain(requirement) for requirement in PROJECT["dependencies"]}
    extras = PROJECT["optional-dependencies"]
    optional = {plain(r) for name in extras if name != "docs" for r in extras[name]}
    assert base - distributions() == set()
    assert distributions() - base - optional == set()


def test_the_citation_names_the_paper_and_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    (paper,) = citation["references"]
    assert "arXiv:2507.09269" in [i["value"] for i in paper["identifiers"]]
