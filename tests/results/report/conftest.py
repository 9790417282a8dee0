"""Fixtures of the report's tests."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from report_fakes import TOP1, MakeRun, fake_files, fake_run

from spikebridge.results.report import write_report


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings and photos."""
    root = tmp_path_factory.mktemp("files")
    fake_files(root)
    return root


@pytest.fixture
def make_run(files: Path, tmp_path: Path) -> MakeRun:
    """Writes a finished run's folder: make_run(method, seed, top1)."""

    def make(
        method: str,
        seed: int,
        top1: float,
        labelled: int | None = 2,
        changes: dict[str, Any] | None = None,
    ) -> Path:
        return fake_run(tmp_path, files, method, seed, top1, labelled, changes)

    return make


@pytest.fixture(scope="session")
def runs(files: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three seeds of a teacher, scratch, KT and CKD."""
    root = tmp_path_factory.mktemp("runs")
    return [
        fake_run(root, files, method, seed, top1, 2)
        for method, by_seed in TOP1.items()
        for seed, top1 in enumerate(by_seed)
    ]


@pytest.fixture(scope="session")
def page(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page about all these runs."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(runs, path, title="Fake & true", note="spikebridge demo --seeds <3>")
    return path


@pytest.fixture(scope="session")
def html(page: Path) -> str:
    """Its text."""
    return page.read_text(encoding="utf-8")


@pytest.fixture
def report(tmp_path: Path) -> Callable[[Sequence[Path]], str]:
    """The page about some runs, as text."""

    def make(runs: Sequence[Path]) -> str:
        path = tmp_path / "report.html"
        write_report(runs, path, title="Fake")
        return path.read_text(encoding="utf-8")

    return make


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made, but their words alone are on the page: to draw takes most of the time."""

    def words(figure: Figure, name: str, label: str) -> Markup:
        return Markup(f'<svg id="{name}" aria-label="{escape(label)}"></svg>')

    monkeypatch.setattr("spikebridge.results.report.drawings.inline", words)
