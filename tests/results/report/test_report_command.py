"""The command `report`, and the audit's verdicts on its page."""

import json
import re
from pathlib import Path

import pytest
from report_fakes import MakeRun
from rich.progress import Progress

from spikebridge.cli import main
from spikebridge.results.report import write_report


@pytest.mark.usefixtures("no_figures")
def test_the_command_writes_the_page(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(make_run(method, 0, 70.0)) for method in ("scratch", "ckd")]
    page = tmp_path / "pages" / "a page.html"
    assert main(["report", *runs, "--out", str(page), "--title", "Mine"]) == 0
    assert capsys.readouterr().out == f"{page}: {page.stat().st_size / 1e6:.1f} MB\n"
    html = page.read_text(encoding="utf-8")
    assert "<h1>Mine</h1>" in html
    assert f"spikebridge report {' '.join(runs)} --out &#39;{page}&#39;" in html


@pytest.mark.usefixtures("no_figures")
def test_progress_is_told_while_spikes_are_counted_and_figures_drawn(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    original = Progress.add_task
    monkeypatch.setattr(
        Progress,
        "add_task",
        lambda bar, words, **k: told.append(words) or original(bar, words, **k),
    )
    write_report([make_run("scratch", 0, 70.0)], tmp_path / "report.html")
    assert {"counting operations", "drawing"} <= set(told)


@pytest.mark.parametrize("arguments", [["nowhere"], [], ["nowhere", "--colour", "red"]])
def test_bad_input_gets_one_line_and_exit_code_2(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("spikebridge: error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "report.html").exists()


@pytest.mark.usefixtures("no_figures")
def test_a_folder_as_page_is_refused(make_run: MakeRun, tmp_path: Path, capsys) -> None:
    run = make_run("scratch", 0, 70.0)
    assert main(["report", str(run), "--out", str(tmp_path)]) == 2
    assert f"{tmp_path}: cannot be written" in capsys.readouterr().err


def test_clean_runs_are_counted(html: str) -> None:
    assert "12 of 12 runs</strong> clean: nothing held out was seen in training" in html
    assert 'class="leak"' not in html


@pytest.mark.usefixtures("no_figures")
def test_leaks_are_shown_first_and_verdicts_per_run(make_run: MakeRun, tmp_path: Path) -> None:
    clean, leaking = make_run("scratch", 0, 70.0), make_run("ckd", 0, 80.0)
    page = tmp_path / "report.html"
    records = (leaking / "metrics.jsonl").read_text()
    (leaking / "metrics.jsonl").write_text(
        records.replace('"split": "validation"', '"split": "test"')
    )
    write_report([clean, leaking], page)
    html = page.read_text(encoding="utf-8")
    leak = html.index('class="leak"')
    assert leak < html.index("<h2")
    assert "ckd, seed 0: selection: test recordings" in html[leak : leak + 600]
    verdicts = html[html.index("Verdict of each run") : html.index('id="made"')]
    cells = re.findall(r'<th scope="row">(\S+)</th>\s*<td>(.*?)</td>', verdicts)
    assert [(method, re.sub("<.*?>", "", cell)) for method, cell in cells] == [
        ("scratch", "✓ clean"),
        ("ckd", "✗ leak"),
    ]
    assert "1 of 2 runs</strong> LEAK" in html
    assert "the audit found broken" in html
    assert "read once" not in html


@pytest.mark.usefixtures("no_figures")
def test_protocol_published_is_said_to_select_on_test(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("ckd", 0, 80.0)
    manifest = run / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(",clean,", ",published,"))
    result = json.loads((run / "result.json").read_text()) | {"protocol": "published"}
    (run / "result.json").write_text(json.dumps(result))
    write_report([run], tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<h1>Runs on photos</h1>" in html
    protocol = html[html.index('id="protocol"') :]
    assert "<strong>selected on test, sources show test recordings" in protocol
