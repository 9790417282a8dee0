"""Sweeps that really train: what they read, death in the midst, pruning, the report."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from statistics import mean

import optuna
import pytest
import yaml
from optuna.trial import TrialState, create_trial

import held
from factories import refused
from spikebridge.base.errors import UserError
from spikebridge.cli import main
from spikebridge.data.manifest import Entry, Manifest
from spikebridge.runs.queue import Job, data_of
from spikebridge.runs.sweep.run import run_sweep
from spikebridge.runs.sweep.spec import read_sweep
from spikebridge.runs.sweep.storage import STORAGE, distribution, opened, require_same_data
from spikebridge.runs.sweep.trial import without_test
from spikebridge.runs.sweep.trials import Trials
from spikebridge.runs.sweep.write import importance
from spikebridge.settings.parsing import config_from
from spikebridge.training import tasks


def table(out):
    with open(out / "trials.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_sweep_does_not_go_on_where_other_recordings_validate(tmp_path):
    def split(*numbers):
        return Manifest(tuple(
            Entry("recording", f"{n}.bin", "cup", 0, str(n), "", "validation", f"{n:064d}")
            for n in numbers
        ))  # fmt: skip

    with opened(tmp_path, 4) as (study, _):
        for seed, numbers in ((0, (1, 2)), (1, (3, 4)), (0, (1, 2))):
            require_same_data(study, seed, split(*numbers), tmp_path / "trials/0000")
    with opened(tmp_path, 4) as (study, _):
        act = lambda: require_same_data(study, 0, split(1, 3), tmp_path / "trials/0001")  # noqa: E731
        refused(act, "trials/0001", "validate seed 0", "--out")


def test_command_searches_without_seeing_a_test_recording(
    write_sweep, tmp_path, capsys, monkeypatch
):
    evaluated = set()
    evaluate = tasks.evaluate_student

    def spy(student, events, **how):
        evaluated.update(events.files)
        return evaluate(student, events, **how)

    monkeypatch.setattr(tasks, "evaluate_student", spy)
    space = {
        "train.lr": {"low": 0.02, "high": 2.0, "log": True},
        "objective.kd_on": {"choices": ["all", "rgb"]},
    }
    file, out = write_sweep(method="ckd", seeds=[0, 1], space=space), tmp_path / "out"
    assert main(["sweep", str(file), "--out", str(out), "--jobs", "1"]) == 0
    assert capsys.readouterr().out == (out / "sweep.md").read_text()
    splits = {"validation": set(), "test": set()}
    for seed in (0, 1):
        manifest = Manifest.read(out / f"trials/0000/trial0-seed{seed}/manifest.csv")
        for split, files in splits.items():
            files.update(entry.file for entry in manifest.select("recording", split))
    assert evaluated == splits["validation"]
    assert splits["test"] - evaluated
    assert not list(out.glob("trials/**/result.json"))
    assert not list(out.glob("trials/**/checkpoint.pt"))
    assert len(list(out.glob("teacher-seed*/result.json"))) == 2

    rows = table(out)
    assert [row["state"] for row in rows] == ["complete", "complete"]
    for row in rows:
        folder = out / f"trials/000{row['trial']}"
        tops = []
        for seed in (0, 1):
            log = (folder / f"trial{row['trial']}-seed{seed}/metrics.jsonl").read_text()
            records = [json.loads(line) for line in log.splitlines()]
            tops.append(max(one["top1"] for one in records if one["kind"] == "eval"))
            assert float(row[f"val_top1_seed{seed}"]) == pytest.approx(tops[-1], rel=1e-5)
        assert float(row["val_top1"]) == pytest.approx(mean(tops), rel=1e-5)
        used = yaml.safe_load((folder / f"trial{row['trial']}-seed0/config.yaml").read_text())
        assert float(row["train.lr"]) == used["train"]["lr"]
        assert row["objective.kd_on"] == used["objective"]["kd_on"]

    best = max(rows, key=lambda row: (float(row["val_top1"]), -float(row["val_loss"])))
    settings = yaml.safe_load((out / "best.yaml").read_text())
    config = config_from(settings, "best.yaml")
    assert config.train.lr == float(best["train.lr"])
    assert set(settings) == {"train", "objective"}
    assert "best so far" in (out / "history.svg").read_text()
    assert "2 are complete" in (out / "sweep.md").read_text()


def test_what_selects_on_test_is_refused_and_the_test_recordings_are_not_handed_on(make_sweep):
    config = make_sweep().base
    data = data_of(Job("student", config, "unused"))  # pyright: ignore[reportArgumentType]
    assert set(without_test(data).events) == {"train", "validation"}
    for protocol in ("published", "leaked"):
        seen = replace(data, manifest=Manifest(data.manifest.entries, protocol))
        refused(lambda seen=seen: without_test(seen), f"protocol {protocol}")


def test_hopeless_trial_is_pruned_and_another_number_of_trials_goes_on(make_sweep, tmp_path):
    sweep, out = make_sweep(seeds=[0, 1], settings={"train": {"epochs": 6}}), tmp_path / "out"
    space = {one.name: distribution(one) for one in sweep.space}
    with opened(out, 6) as (study, _):
        for number in range(5):
            done = create_trial(
                value=101.0 + number,
                params={"train.lr": 0.1 + number / 10},
                distributions=space,
                intermediate_values=dict.fromkeys(range(6), 101.0),
                user_attrs={"val_top1": [101.0, 101.0], "val_loss": 1.0},
            )
            study.add_trial(done)
    report = run_sweep(sweep, out, workers=1, trials=6)
    pruned = report.trials[5]
    assert pruned.state == "pruned"
    assert pruned.value is None
    assert [epoch for epoch, _ in pruned.reported] == [0, 1]  # the first quarter is spared
    log = (out / "trials/0005/trial5-seed0/metrics.jsonl").read_text().splitlines()
    tops = [json.loads(line)["top1"] for line in log if '"eval"' in line]
    assert pruned.reported[1][1] == pytest.approx(mean(tops))
    assert not (out / "trials/0005/trial5-seed1").exists()
    assert report.best == report.trials[4]
    assert table(out)[5]["state"] == "pruned"
    assert "train.lr" in (out / "importance.svg").read_text()
    assert "pruned" in (out / "history.svg").read_text()


def test_sweep_killed_in_the_midst_goes_on_to_the_same_number(write_sweep, tmp_path):
    file, out = write_sweep(trials=3), tmp_path / "out"
    (holding := tmp_path / "holding").mkdir()
    command = [sys.executable, held.__file__, holding, "sweep", file, "--out", out, "--jobs", "2"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while len(list(holding.iterdir())) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "sweep.md").exists()

    report = run_sweep(read_sweep(file), out, workers=1)
    states = Counter(one.state for one in report.trials)
    assert states["complete"] + states["pruned"] == 3
    assert states["stopped"] == 2
    assert set(states) <= {"complete", "pruned", "stopped"}
    proposed = [one.values["train.lr"] for one in report.trials]
    assert len(set(proposed)) == len(proposed)
    again = run_sweep(read_sweep(file), out, workers=1)
    assert again.trials == report.trials


def test_trial_of_another_command_is_told_from_one_whose_process_died(make_sweep, tmp_path):
    sweep, out = make_sweep(trials=1), tmp_path / "out"
    with opened(out, 2) as (study, storage), opened(out, 2) as (other_study, other_storage):
        alive = Trials(sweep, out, study, storage, {}, 1)
        other = Trials(sweep, out, other_study, other_storage, {}, 1)
        assert alive.take() is not None
        assert other.take() is None
        for lock in alive._locks.values():
            lock.close()  # as the end of its process does
        job = other.take()
        assert job is not None
        assert job.folder.name == "0001"
        states = [one.state for one in other_study.get_trials()]
        assert states == [TrialState.FAIL, TrialState.RUNNING]
        other.end(job, "out of memory")
        assert str(other) == "1 of 1 trials done"
        assert other.take() is None
        assert other_study.trials[1].user_attrs["failure"] == "out of memory"


def test_impossible_combinations_are_failed_trials(make_sweep, tmp_path):
    space = {"objective.dvs_from": {"choices": [0.0, 0.9]},
             "objective.hybrid_until": {"choices": [0.5, 1.0]}}  # fmt: skip
    sweep = make_sweep(trials=8, method="kt", space=space)
    with opened(tmp_path, 2) as (study, storage):
        trials = Trials(sweep, tmp_path, study, storage, {}, 8)
        jobs = []
        while (job := trials.take()) is not None:
            jobs.append(job)
        failed = [one for one in study.get_trials() if one.state == TrialState.FAIL]
        assert failed
        trials.close()
        assert len(failed) + len(jobs) == 8
        assert all("dvs_from must not come after" in one.user_attrs["failure"] for one in failed)


def test_a_storage_that_breaks_during_a_trial_is_one_line(make_sweep, tmp_path):
    with opened(tmp_path, 2) as (study, storage):
        trials = Trials(make_sweep(), tmp_path, study, storage, {}, 2)
        assert trials.take() is not None
        (tmp_path / STORAGE).write_bytes(b"no database" * 100)
        refused(trials.close, STORAGE, "not a database")


def test_importance_needs_enough_trials_that_differ():
    study = optuna.create_study(direction="maximize")
    space = {"a": optuna.distributions.FloatDistribution(0, 1),
             "b": optuna.distributions.FloatDistribution(0, 1)}  # fmt: skip
    for number in range(12):
        params = {"a": (7 * number % 12) / 12, "b": (5 * number % 12) / 12}
        study.add_trial(create_trial(value=9 * params["a"], params=params, distributions=space))
        if number == 3:
            assert importance(study) == {}
    found = importance(study)
    assert next(iter(found)) == "a"
    assert found["a"] > 0.7
    assert sum(found.values()) == pytest.approx(1)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux's list of open files")
def test_a_refused_storage_is_closed(tmp_path):
    (tmp_path / STORAGE).write_bytes(b"no database" * 100)
    with pytest.raises(UserError) as refusal, opened(tmp_path, 2):
        pass
    assert refusal.tb is not None  # its frames hold what was not closed
    files = [os.path.realpath(entry.path) for entry in os.scandir("/proc/self/fd")]
    assert str(tmp_path / STORAGE) not in files


def test_other_sweeps_damaged_storage_and_missing_optuna_are_one_line(
    make_sweep, write_sweep, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out"
    with opened(out, 2) as (study, _):
        study.set_user_attr("identity", {**make_sweep().identity, "sampler_seed": 5})
    refused(lambda: run_sweep(make_sweep(), out, workers=1), out, "something else")
    refused(lambda: run_sweep(make_sweep(), out, workers=0), "--jobs must be at least 1")
    refused(lambda: run_sweep(make_sweep(), out, workers=1, trials=0), "--trials must")
    (out / STORAGE).write_bytes(b"no database" * 100)
    refused(lambda: run_sweep(make_sweep(), out, workers=1), STORAGE, "not a database")
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["sweep", str(write_sweep())]) == 2
    assert "pip install 'optuna>=4'" in capsys.readouterr().err
