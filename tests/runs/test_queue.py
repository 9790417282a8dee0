"""Runs one after the other and side by side: order, failures, Ctrl-C, death, going on."""

import contextlib
import json
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from factories import refused, tiny_recipe
from held_job import TRAINS, HeldJob
from spikebridge.base.errors import Interrupted
from spikebridge.run_folder import RunFolder
from spikebridge.runs.execute import default_workers, run_jobs
from spikebridge.runs.queue import Job, Queue, attempt, data_of
from spikebridge.settings.parsing import config_from
from spikebridge.settings.presets import merge, read_recipe
from spikebridge.training.tasks import StudentTask


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture
def make_job(root, tmp_path):
    """Makes the job of a method, with changes to the recipe."""
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(tiny_recipe(root)))

    def make(name, method="scratch", teacher=None, cost=1.0, evaluate_at=(), **changes):
        config = config_from(merge(read_recipe(str(file), method), changes), "test")
        kind = "teacher" if name.startswith("teacher") else "student"
        return Job(kind, config, tmp_path / name, teacher, cost, evaluate_at)

    return make


def result(job):
    return json.loads((job.folder / "result.json").read_text())


def test_teachers_come_first_then_the_longest_and_students_wait_for_theirs(make_job):
    teachers = [make_job(f"teacher{i}") for i in range(2)]
    short = make_job("short", teacher=teachers[0], cost=1)
    long = make_job("long", teacher=teachers[1], cost=3)
    alone = make_job("alone", cost=2)
    queue = Queue([short, long, alone, *teachers])
    assert [queue.take() for _ in range(3)] == [*teachers, alone]
    assert queue.take() is None
    queue.end(teachers[0], None)
    queue.end(teachers[1], None)
    assert [queue.take() for _ in range(3)] == [long, short, None]


def test_the_time_left_goes_by_runs_of_the_same_kind(make_job, monkeypatch):
    now = 0.0
    monkeypatch.setattr("spikebridge.runs.queue.time.monotonic", lambda: now)
    teacher = make_job("teacher", cost=1000)
    queue = Queue([teacher, *(make_job(f"student{i}", cost=2) for i in range(3))])
    now = 5.0
    queue.end(queue.take(), None)
    assert queue.seconds_left(1) is None  # A teacher says nothing about students.
    queue.take()
    failed = queue.take()
    queue.end(failed, "no data")
    assert queue.seconds_left(1) is None
    first = next(job for job in queue.jobs if job.folder.name == "student0")
    now = 15.0
    queue.end(first, None)
    assert queue.seconds_left(1) == 10.0
    queue.take()
    now = 19.0
    assert queue.seconds_left(2) == 3.0


def test_a_run_that_went_on_does_not_tell_how_long_a_whole_one_takes(make_job, monkeypatch):
    now = 0.0
    monkeypatch.setattr("spikebridge.runs.queue.time.monotonic", lambda: now)
    resumed, whole, waiting = make_job("0"), make_job("1"), make_job("2")
    resumed.folder.mkdir(parents=True)
    RunFolder(resumed.folder).checkpoint_file.touch()
    queue = Queue([resumed, whole, waiting])
    assert queue.take() == resumed
    now = 3.0  # Its last three seconds of twenty.
    queue.end(resumed, None)
    assert queue.seconds_left(1) is None
    assert queue.take() == whole
    now = 23.0
    queue.end(whole, None)
    assert queue.seconds_left(1) == 20.0


def test_students_of_a_failed_teacher_fail_with_its_reason_and_others_run(make_job):
    broken = make_job("teacher", data={"photos": "/nowhere"})
    taught = make_job("taught", "ckd", teacher=broken)
    alone = make_job("alone")
    failures = run_jobs([taught, alone, broken], workers=1)
    assert failures[1] is None
    assert 0 <= result(alone)["test_top1"] <= 100
    assert "/nowhere" in str(failures[2])
    assert failures[0] == f"its teacher failed: {failures[2]}"
    assert not taught.folder.exists()


def test_mistake_of_the_program_is_one_line_and_a_traceback_that_goes_when_it_is_mended(
    make_job, monkeypatch
):
    job = make_job("run")
    with monkeypatch.context() as patch:
        patch.setattr("spikebridge.runs.queue.train_student", lambda *a, **k: [][0])
        failure = attempt(job)
    assert failure == f"IndexError: list index out of range ({RunFolder(job.folder).failure_file})"
    assert "Traceback" in RunFolder(job.folder).failure_file.read_text()
    assert attempt(job) is None
    assert not RunFolder(job.folder).failure_file.exists()


def test_other_settings_in_the_folder_are_a_failure_that_names_them(make_job):
    assert run_jobs([make_job("run")], workers=1) == [None]
    (failure,) = run_jobs([make_job("run", train={"epochs": 3})], workers=1)
    assert "train.epochs is 2 there and 3 here" in str(failure)


def test_number_of_processes_is_positive(make_job):
    refused(lambda: run_jobs([make_job("run")], workers=0), "--jobs", "0")


def test_finished_student_is_evaluated_on_changed_data_once(make_job):
    plain = make_job("run")
    noisy = make_job("run", data={"simulator": {"shot_noise_hz": 500.0}}).config.data
    other = make_job("run", data={"split": {"test_per_class": 3}}).config.data
    assert attempt(plain) is None
    job = make_job("run", evaluate_at=(("same", plain.config.data), ("noisy", noisy)))
    assert run_jobs([job], workers=1) == [None]
    files = {name: job.folder / f"retest-{name}.json" for name in ("same", "noisy")}
    found = {name: json.loads(file.read_text()) for name, file in files.items()}
    assert found["same"]["test_top1"] == result(job)["test_top1"]
    assert found["same"]["test_loss"] == pytest.approx(result(job)["test_loss"], rel=1e-6)
    assert found["noisy"]["rates"] != found["same"]["rates"]
    written = files["noisy"].stat().st_mtime_ns
    assert run_jobs([job], workers=1) == [None]
    assert files["noisy"].stat().st_mtime_ns == written
    (failure,) = run_jobs([make_job("run", evaluate_at=(("other", other),))], workers=1)
    assert "other recordings are tested" in str(failure)


# Several processes ------------------------------------------------------------------------------


def test_processes_find_all_data_prepared_simulated_sources_too(make_job, tmp_path, monkeypatch):
    data = {"cache": str(tmp_path / "cache")}
    jobs = [make_job(f"run{seed}", "ckd-plus", seed=seed, data=data) for seed in range(2)]

    def run_here(queue, workers, threads):
        with monkeypatch.context() as patch:
            patch.delattr("spikebridge.data.feed.cache.write_shard")
            patch.delattr("spikebridge.data.calibrate._search")
            views = [data_of(job).photos["train"].simulated_NTCHW for job in queue.waiting]
        assert not np.array_equal(*views)
        raise Interrupted("all there")

    monkeypatch.setattr("spikebridge.runs.execute.run_in_processes", run_here)
    with pytest.raises(Interrupted, match="all there"):
        run_jobs(jobs, workers=2)


def workers_of_this_process():
    found = []
    for task in Path("/proc/self/task").iterdir():
        # Threads and processes may end between being listed and being read.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for child in (task / "children").read_text().split():
                words = Path(f"/proc/{child}/cmdline").read_text().split("\0")
                found += [int(child)] if "spikebridge.runs.worker" in words else []
    return sorted(found)


@contextlib.contextmanager
def when_all_train(jobs, act):
    """Acts from another thread once every job has made a step, or not at all if the work ends."""
    over = threading.Event()

    def watch():
        while not all((job.folder / TRAINS).exists() for job in jobs):
            if over.wait(0.01):
                return
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


FULL = (
    "CUDA out of memory. Tried to allocate 2.25 GiB. GPU 0 has a total capacity of 79.11 GiB of "
    "which 1.00 GiB is free. If reserved memory is large try setting PYTORCH_ALLOC_CONF"
)


def test_a_full_gpu_is_one_line_that_says_what_to_do(make_job, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError(FULL)

    monkeypatch.setattr(StudentTask, "losses", fail)
    job = make_job("big")
    assert attempt(job) == (
        "CUDA out of memory. Tried to allocate 2.25 GiB; give train.memory low or "
        "train.cuda_graph false, with which a run that had begun goes on, too, or a smaller "
        "train.batch_size (a teacher: teacher.batch_size)"
    )
    assert not RunFolder(job.folder).failure_file.exists()


@pytest.mark.parametrize(
    ("gpu", "devices", "one"),
    [
        (True, ["cpu", "auto"], True),
        (True, ["cuda"], True),
        (True, ["cpu", "cpu"], False),
        (False, ["auto"], False),
    ],
)
def test_runs_that_would_share_a_gpu_are_not_run_side_by_side(monkeypatch, gpu, devices, one):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr("spikebridge.runs.execute.cores", lambda: 5)
    assert default_workers(devices) == (1 if one else 5)


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")


@needs_proc
def test_killed_process_is_a_failure_and_interrupted_ones_go_on_to_the_same_result(
    make_job, monkeypatch, capsys
):
    jobs = [make_job(f"run{seed}", seed=seed) for seed in range(2)]
    held = [HeldJob(job.kind, job.config, job.folder) for job in jobs]

    noticed, end = threading.Event(), Queue.end
    monkeypatch.setattr(Queue, "end", lambda *a: (end(*a), noticed.set()))

    def kill_one_then_interrupt():
        os.kill(workers_of_this_process()[0], signal.SIGKILL)
        noticed.wait()
        os.kill(os.getpid(), signal.SIGINT)

    with (
        when_all_train(held, kill_one_then_interrupt),
        pytest.raises(Interrupted, match="stopped, 0 of 2 runs done, 1 failed; repeat"),
    ):
        run_jobs(held, workers=2)
    assert workers_of_this_process() == []
    killed = "failed: its process was killed by SIGKILL; out of memory? Try fewer --jobs"
    assert killed in capsys.readouterr().err
    (going_on,) = [job for job in jobs if RunFolder(job.folder).is_interrupted]

    assert run_jobs(jobs, workers=1, threads=1) == [None, None]
    whole = make_job("whole", seed=going_on.config.seed)
    assert attempt(whole) is None
    predictions = [(job.folder / "predictions.csv").read_text() for job in (going_on, whole)]
    assert predictions[0] == predictions[1]
    assert result(going_on)["test_loss"] == result(whole)["test_loss"]
