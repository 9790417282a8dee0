"""Studies that really train: failures, death in the midst, changed data, submitit, the command."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import rich.progress
import yaml

import held
from factories import refused
from spikebridge.cli import main
from spikebridge.results.comparable import key_of, settings_that_matter
from spikebridge.run_folder import RunFolder
from spikebridge.runs.study import cluster
from spikebridge.runs.study.cluster import run_on_cluster
from spikebridge.runs.study.plan import plan
from spikebridge.runs.study.run import run_study

HELD = Path(held.__file__)


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """Settings with a loss of one's own, which lies beside the study file and nowhere else."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"beside_{tmp_path.name}"
    source = "def loss(x_TBN, y_TBN, label_B):\n    return (x_TBN - y_TBN).abs().mean((1, 2))\n"
    (tmp_path / f"{name}.py").write_text(source)
    yield {"objective": {"alignment": f"{name}:loss"}}
    sys.modules.pop(name, None)


def figures_of(out):
    """What must not depend on how a study was run."""
    results = json.loads((out / "results.json").read_text())
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in results["rows"]]
    losses = [run["result"].get("test_loss") for run in results["runs"]]
    return rows, losses


def test_command_runs_the_grid_and_shows_failures_as_rows(write_study, tmp_path, capsys):
    file = write_study(
        seeds=[0],
        arms={
            "scratch": {"method": "scratch"},
            "ckd": {"method": "ckd"},
            "broken": {"method": "ckd", "data": {"photos": str(tmp_path / "nowhere")}},
        },
        evaluate_at={"noisy": {"data": {"simulator": {"shot_noise_hz": 300.0}}}},
    )
    page, out = tmp_path / "my page.md", tmp_path / "out"
    page.write_text("<!-- study small: x -->\n<!-- end study small -->\n")
    command = ["study", str(file), "--out", str(out), "--jobs", "1"]
    assert main([*command, "--only", "scratch", "broken", "--page", str(page)]) == 1
    table = capsys.readouterr().out
    assert table == (out / "table.md").read_text()
    assert table.strip() in page.read_text()
    words = f"spikebridge study {file} --out {out} --page '{page}'"
    assert f'made by "{words}"' in page.read_text()
    assert "![tiny: validation accuracy over training" in page.read_text()
    assert ">scratch</text>" in (out / "validation-tiny.svg").read_text()
    assert "| tiny | 4 | own test | ckd, seed 0 |  | not run yet |" in table
    (failed,) = [line for line in table.splitlines() if "| broken, seed 0 |" in line]
    assert "failed: its teacher failed: " in failed
    assert "nowhere" in failed
    assert "| tiny | 4 | noisy | scratch | 1 |" in table
    energy = [float(line.split("|")[-2].replace(",", "")) for line in table.splitlines()
              if "own test | scratch | 1 |" in line]  # fmt: skip
    assert energy[0] > 0

    scratch = out / "tiny/k4/scratch-seed0/result.json"
    kept = scratch.stat().st_mtime_ns
    assert main([*command, "--only", "ckd"]) == 0
    assert scratch.stat().st_mtime_ns == kept
    for name in ("config.yaml", "manifest.csv", "metrics.jsonl", "checkpoint.pt"):
        assert (out / "tiny/k4/ckd-seed0" / name).exists()
    for run in ("scratch-seed0", "teacher-seed0", "ckd-seed0"):
        result = json.loads((out / "tiny/k4" / run / "result.json").read_text())
        config = yaml.safe_load((out / "tiny/k4" / run / "config.yaml").read_text())
        assert result["settings_key"] == key_of(settings_that_matter(config, result))
    assert r"\toprule" in (out / "table.tex").read_text()
    assert "ckd-seed0" in (out / "per-run.csv").read_text()
    assert main([*command, "--only", "cdk"]) == 2
    assert "--only cdk" in capsys.readouterr().err


def session_of(mark):
    """Processes whose environment holds a mark."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def holds_files(pid):
    """Whether a process may hold a lock: one that ends loses its environment before its files."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc")
def test_study_killed_in_the_midst_goes_on_to_the_same_table(
    write_study, make_study, tmp_path, beside
):
    changes = {"arms": {"scratch": {"method": "scratch"}, "kt": {"method": "kt", **beside}}}
    file, killed, whole = write_study(**changes), tmp_path / "killed", tmp_path / "whole"
    (holding := tmp_path / "holding").mkdir()
    mark = f"STUDY_TEST_MARK={tmp_path}"
    process = subprocess.Popen(
        [sys.executable, HELD, holding, "study", file, "--out", killed, "--jobs", "2"],
        env={**os.environ, "STUDY_TEST_MARK": str(tmp_path)},
        stderr=subprocess.DEVNULL,
    )
    while len(list(holding.iterdir())) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    workers = {int(path.name) for path in holding.iterdir()}
    assert set(session_of(mark.encode())) == {process.pid, *workers}
    process.send_signal(signal.SIGKILL)
    process.wait()
    while any(map(holds_files, workers)):  # The workers end by themselves.
        time.sleep(0.05)
    assert not (killed / "table.md").exists()
    assert not list(killed.rglob("result.json"))

    study = make_study(**changes)
    run_study(study, killed, workers=1)
    run_study(study, whole, workers=1)
    assert figures_of(killed) == figures_of(whole)
    assert len(figures_of(whole)[0]) == 2
    assert not any(RunFolder(one.job.folder).is_interrupted for one in plan(study, killed))


def test_submitit_runs_students_after_their_teachers(make_study, tmp_path, monkeypatch, beside):
    pytest.importorskip("submitit")
    said = []
    monkeypatch.setattr(cluster.console, "print", lambda words, **_: said.append(words))
    shown = []
    monkeypatch.setattr(rich.progress.Progress, "update", lambda _, __, **all: shown.append(all))
    study = make_study(seeds=[0], arms={"ckd": {"method": "ckd", **beside}}, against=None)
    out = tmp_path / "out"
    rows = run_study(study, out, workers=2, executor="local")
    expected = [("0 of 2 runs done", "teacher-seed0"), ("1 of 2 runs done", "ckd-seed0")]
    assert list(dict.fromkeys((s["note"], s["running"]) for s in shown if "note" in s)) == expected
    assert [row.arm for row in rows] == ["teacher", "ckd"]
    assert [row.failures for row in rows] == [(), ()]
    of_runs = [s.split(":") for s in said if s.startswith(str(out))]  # And one a minute of all.
    told = [(Path(folder).name, words.split()[0]) for folder, words in of_runs]
    expected = [
        (run, word) for run in ("teacher-seed0", "ckd-seed0") for word in ("submitted", "ended,")
    ]
    assert told == expected
    assert len(list((out / "submitit").glob("*_submitted.pkl"))) == 2


def test_mistakes_about_the_cluster_are_one_line(make_study, tmp_path, monkeypatch):
    jobs = [one.job for one in plan(make_study(), tmp_path)]

    def run(cluster, *parameters):
        return lambda: run_on_cluster(jobs, tmp_path / "submitit", cluster, parameters, 1)

    refused(run("local", "timeout_min"), "--slurm takes KEY=VALUE", "'timeout_min'")
    refused(run("local", "no_such=1"), "--executor local", "no_such")
    refused(run("local", "no_such=a: b: c"), "--executor local", "no_such")
    monkeypatch.setitem(sys.modules, "submitit", None)
    refused(run("slurm"), "pip install 'submitit>=1.5'")
