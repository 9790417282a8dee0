"""The demo, made small: runs, results, page; it goes on where it was stopped."""

import json
import os
import runpy
import shutil
import signal
from pathlib import Path

import pytest
import yaml

import spikebridge.runs.demo
from factories import refused
from spikebridge.cli import main
from spikebridge.results.trained import load_run
from spikebridge.runs.demo import METHODS, _Announced, _jobs, run_demo


@pytest.fixture
def small_demo(recipe, tmp_path, monkeypatch):
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(recipe))
    monkeypatch.setattr(spikebridge.runs.demo, "_RECIPE", str(file))
    return tmp_path / "demo"


@pytest.fixture
def no_page(monkeypatch):
    """Drawing the report takes longer than a small demo's runs."""
    monkeypatch.setattr(spikebridge.runs.demo, "write_report", lambda *_, **__: None)


def test_demo_writes_results_page_and_usable_runs(small_demo, capsys):
    assert main(["demo", "--out", str(small_demo), "--seeds", "2", "--jobs", "1"]) == 0
    results = json.loads((small_demo / "results.json").read_text())
    assert results["labelled_per_class"] == 4
    assert results["seeds"] == [0, 1]
    assert list(results["methods"]) == ["teacher", *METHODS]
    for method, figures in results["methods"].items():
        runs = [small_demo / "runs" / f"{method}-seed{seed}" for seed in (0, 1)]
        stored = [json.loads((run / "result.json").read_text())["test_top1"] for run in runs]
        assert figures == {"test_top1": stored}
        assert load_run(runs[0]).kind == ("teacher" if method == "teacher" else "student")
    manifests = {
        (small_demo / "runs" / f"{method}-seed0" / "manifest.csv").read_text()
        for method in (*METHODS, "teacher")
    }
    assert len(manifests) == 1
    said = capsys.readouterr()
    table = said.out
    assert all(method in table for method in results["methods"])
    assert "<html" in (small_demo / "report.html").read_text()
    rows = [line.split() for line in said.err.splitlines() if " seed " in line]
    assert sorted(row[0] for row in rows) == sorted(2 * ["teacher", *METHODS])
    assert {row[3] for row in rows if row[0] == "kt"} == {
        f"{top1:.1f}" for top1 in results["methods"]["kt"]["test_top1"]
    }
    assert "10 of 10 runs done, finished" in said.err
    the_documentation_takes_it(small_demo, results)

    runs = [str(run) for run in sorted((small_demo / "runs").iterdir())]
    assert main(["compare", *runs]) == 0
    assert "ckd-plus" in capsys.readouterr().out
    recording = next(
        line.split(",")[1]
        for line in (small_demo / "runs/ckd-seed0/manifest.csv").read_text().splitlines()
        if line.startswith("recording") and ",test," in line
    )
    assert main(["predict", str(small_demo / "runs/ckd-seed0"), recording, "--top", "2"]) == 0
    file, *classes = capsys.readouterr().out.strip().split("\t")
    assert file == recording
    assert len(classes) == 2
    assert all(line.endswith("%") for line in classes)


def the_documentation_takes_it(demo, results):
    main_of = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "demo.py"))["main"]
    readme = demo.parent / "README.md"
    before, after = "before\n<!-- demo: made by docs/demo.py -->\n", "<!-- end demo -->\nafter\n"
    main_of.__globals__.update(README=readme, HERE=demo.parent)
    texts = []
    for old in ("", "\nold\n\n"):
        readme.write_text(before + old + after)
        main_of(demo)
        texts.append(readme.read_text())
    text = texts[0]
    assert texts[1] == text
    assert text.startswith(before)
    assert text.endswith(after)
    for method, figures in results["methods"].items():
        [line] = [x for x in text.splitlines() if x.startswith(f"| `{method}` |")]
        assert line.endswith(", ".join(f"{x:.1f}" for x in figures["test_top1"]) + " |")
    assert (demo.parent / "demo.png").read_bytes().startswith(b"\x89PNG")
    readme.write_text("no place for it")
    with pytest.raises(SystemExit, match="end demo"):
        main_of(demo)


def test_the_time_left_is_told_from_the_start_and_follows_what_runs_take(tmp_path, monkeypatch):
    now = 0.0
    monkeypatch.setattr("spikebridge.runs.queue.time.monotonic", lambda: now)
    jobs = [job for seed in range(5) for job in _jobs(tmp_path, seed)]
    schedule, expected = _Announced(jobs, 2), sum(job.cost for job in jobs)
    assert schedule.left() == f"about {expected / 2 / 60:.0f} min left"
    while (job := schedule.take()).kind == "teacher":
        now += job.cost
        schedule.end(job, None)
        expected -= job.cost
    now += 100 * job.cost
    schedule.end(job, None)
    longest = max(METHODS.values())
    pace = (100 * job.cost + longest) / (job.cost + longest)
    assert pace > 2
    assert schedule.left() == f"about {(expected - job.cost) * pace / 2 / 60:.0f} min left"


def test_interrupted_demo_says_to_repeat_the_command(small_demo, no_page, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr("spikebridge.training.tasks.TeacherTask.validate", interrupting)
        assert main(["demo", "--out", str(small_demo), "--seeds", "1", "--jobs", "1"]) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith("repeat the command to go on")
    assert main(["demo", "--out", str(small_demo), "--seeds", "1", "--jobs", "1"]) == 0


def interrupting(task):
    os.kill(os.getpid(), signal.SIGINT)
    return task.evaluate("validation")


def test_train_interrupted_in_its_teacher_goes_on_when_repeated(
    recipe, tmp_path, monkeypatch, capsys
):
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe))
    command = ["train", str(file), "--out", str(tmp_path / "runs" / "ckd")]
    with monkeypatch.context() as patch:
        patch.setattr("spikebridge.training.tasks.TeacherTask.validate", interrupting)
        assert main(command) == 130
    assert "--resume" not in capsys.readouterr().err.splitlines()[-1]
    assert main(command) == 0


def test_repeated_demo_only_does_what_is_missing_to_the_same_bits_in_any_number_of_processes(
    small_demo, no_page
):
    first = run_demo(small_demo, 1)
    kept = (small_demo / "runs/kt-seed0/model.safetensors").stat().st_mtime_ns
    again = ("scratch-seed0", "ckd-seed0")
    weights = [(small_demo / "runs" / run / "model.safetensors").read_bytes() for run in again]
    for run in again:
        shutil.rmtree(small_demo / "runs" / run)
    assert run_demo(small_demo, 1, workers=2) == first
    assert (small_demo / "runs/kt-seed0/model.safetensors").stat().st_mtime_ns == kept
    for run, before in zip(again, weights, strict=True):
        assert (small_demo / "runs" / run / "model.safetensors").read_bytes() == before


def test_run_that_fails_ends_the_demo_with_its_reason(small_demo):
    (small_demo / "runs/kt-seed0").mkdir(parents=True)
    (small_demo / "runs/kt-seed0/config.yaml").write_text("method: other")
    refused(lambda: run_demo(small_demo, 1), "kt-seed0", "other settings")
