"""Bad input through the command: one line that names it, exit code 2, nothing half-written."""

import errno
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from factories import forbid, packed, photo_folder, refused, tiny_recipe
from spikebridge.cli import main
from spikebridge.data.pool import Pool
from spikebridge.data.simulation.simulate import Simulator
from spikebridge.data.simulation.twins import simulate_folder
from spikebridge.training.checkpoint import load_checkpoint

SIMULATOR = {"width": 16, "height": 16, "frames": 12, "amplitude": 3.0}

Refuse = Callable[..., str]


def _write_recipe(folder: Path, **changes: Any) -> Path:
    """A tiny recipe on a folder's photos and events; dotted changes, None leaves a key out."""
    split = {"labelled_per_class": 1, "validation_per_class": 1, "test_per_class": 1}
    folders = {name: str(folder / name) for name in ("photos", "events")}
    recipe = tiny_recipe(
        folder,
        data={**folders, "sensor": [16, 16], "size": [16, 16], "split": split},
        train={"epochs": 1, "batches_per_epoch": None, "batch_size": 2, "device": "cpu"},
    )
    recipe["method"] = "scratch"
    for key, value in changes.items():
        *parents, last = key.split(".")
        place = recipe
        for parent in parents:
            place = place[parent]
        place[last] = value
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 6 photos, their simulated recordings, and a finished run."""
    root = tmp_path_factory.mktemp("originals")
    photo_folder(root / "photos")
    simulate_folder(root / "photos", root / "events", Simulator(**SIMULATOR), seed=0)
    recipe = _write_recipe(root)
    assert main(["train", str(recipe), "--out", str(root / "run")]) == 0
    return root


@pytest.fixture
def data(originals: Path, tmp_path: Path) -> Path:
    """A copy of the data set that a test may spoil."""
    for name in ("photos", "events"):
        shutil.copytree(originals / name, tmp_path / "data" / name)
    return tmp_path / "data"


@pytest.fixture
def run(originals: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may spoil."""
    return Path(shutil.copytree(originals / "run", tmp_path / "run"))


@pytest.fixture
def refuse(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Refuse:
    """Run a command, check that it is refused by one clean line, and return the line."""

    def act(*arguments: str | Path) -> str:
        capfd.readouterr()
        before = _whole_tree(tmp_path)
        assert main([str(a) for a in arguments]) == 2
        out, err = capfd.readouterr()
        assert out == ""
        # Progress bars clear themselves; what remains is the message.
        lines = [line for line in err.splitlines() if line.strip()]
        assert len(lines) == 1, err
        assert lines[0].startswith("spikebridge: error: ")
        assert "Traceback" not in err
        left = _whole_tree(tmp_path) - before
        assert all("cache/" in name for name in left), left
        assert not any(name.split("/")[-1].startswith(".") for name in left), left
        return lines[0]

    return act


def _whole_tree(root: Path) -> set[str]:
    return {str(f.relative_to(root)) for f in root.rglob("*") if f.is_file()}


def _holds(line: str, *words: object) -> None:
    for word in words:
        assert str(word) in line, (word, line)


# The command line --------------------------------------------------------------------------------


def test_an_unknown_command(refuse: Refuse) -> None:
    _holds(refuse("trian"), "'trian'", "did you mean train?", "--help")
    assert "did you mean" not in refuse("xyzzy")
    line = refuse("data", "check", "ncaltech")
    _holds(line, "name must be one of nmnist, ", "not ncaltech (did you mean ncaltech101?)")


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (["train", "digits", "--resum"], "--resume"),
        (["train", "digits", "--data.time_step", "3"], "--data.time_steps"),
        (["simulate", "--photos", "a", "--out", "b", "--simulator.amplitud=3"], "amplitude"),
        (["evaluate", "run", "--splitt", "test"], "--split"),
        (["compare", "run", "--output", "a.md"], "--out"),
    ],
)
def test_an_unknown_option(refuse: Refuse, arguments: list[str], near: str) -> None:
    _holds(refuse(*arguments), "unknown option", near, f"spikebridge {arguments[0]} --help")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train"], ("recipe",)),
        (["simulate", "--out", "b"], ("photos",)),
        (["evaluate", "run", "--split", "train"], ("split", "validation")),
        (["train", "digits", "--seed", "one"], ("seed must be a whole number, not one",)),
        (
            ["train", "digits", "--data.time_steps", "2.5"],
            ("data.time_steps must be a whole number, not 2.5",),
        ),
        (
            ["train", "digits", "--data.bins", "width"],
            ("data.bins must be one of time, count, not width",),
        ),
        (
            ["train", "digits", "--data.split.protocol", "some"],
            ("one of clean, few-shot, published, leaked or null, not some",),
        ),
        (
            ["train", "digits", "--data.source.simulator", "3"],
            ("data.source.simulator must be settings or null, not 3",),
        ),
        *(
            (
                ["train", "digits", f"--data.{key}", names],
                (f"data.{key} must be {kind}, not {seen}", """in quotes, '["8", "yes"]'"""),
            )
            for key, names, kind, seen in [
                ("exclude", "[8]", "text", "8"),
                ("exclude", "8", "a list", "8"),
                ("exclude", "[yes]", "text", "True"),
                ("exclude", "[1.5]", "text", "1.5"),
                ("events_alone", "[8]", "text", "8"),
            ]
        ),
        (["train", "digits", "--data.size", "[1, 2, 3]"], ("data.size must be a list of 2",)),
        (["train", "digits", "--objective.two_heads", "no!"], ("must be true or false, not no!",)),
        (["predict", "run"], ("files",)),
    ],
)
def test_missing_or_wrong_arguments(
    refuse: Refuse, arguments: list[str], words: tuple[str, ...]
) -> None:
    _holds(refuse(*arguments), *words)


def test_as_a_program_it_exits_with_2_and_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "spikebridge", "train", "nosuch"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ},
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("spikebridge: error: nosuch: no such recipe")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["prepare", "digits", "--jobs", "-1"],
        ["prepare", "digits", "--jobs", "0"],
        ["demo", "--jobs", "0"],
        ["study", "studies/published.yaml", "--jobs", "0"],
        ["study", "studies/published.yaml", "--jobs", "0", "--executor", "local"],
        ["sweep", "studies/sweep-digits.yaml", "--jobs", "0"],
        ["simulate", "--photos", "a", "--out", "b", "--jobs", "0"],
    ],
    ids=" ".join,
)
def test_a_number_of_processes_that_is_none(
    refuse: Refuse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    studies = Path(__file__).parents[2] / "studies"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").symlink_to(studies)
    number = arguments[arguments.index("--jobs") + 1]
    _holds(refuse(*arguments), f"--jobs must be at least 1, got {number}")


def test_a_sensor_without_pixels(refuse: Refuse) -> None:
    line = refuse("data", "check", "folders", "--sensor", "0", "0")
    assert line == "spikebridge: error: --sensor must be positive"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.EIO, "Input/output error", "a.csv"), "a.csv: Input/output error; check the"),
        (PermissionError(errno.EACCES, "Denied", b"a\xff"), "Denied; check its permissions"),
        (OSError(errno.ENOSPC, "No space left on device"), "(No space left on device); free some"),
        (TimeoutError("timed out"), "(timed out); repeat the command"),
        (ConnectionError(), "(ConnectionError); repeat the command"),
    ],
)
def test_what_the_system_refuses(
    refuse: Refuse, monkeypatch: pytest.MonkeyPatch, error: OSError, line: str
) -> None:
    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr("spikebridge.results.compare.compare", fail)
    _holds(refuse("compare", "run"), line)


def test_a_reader_that_has_gone_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("spikebridge.results.compare.compare", fail)
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    monkeypatch.setattr(sys.stdout, "fileno", lambda: 1, raising=False)
    assert main(["compare", "run"]) == 0


# Recipes -----------------------------------------------------------------------------------------


def _train(recipe: Path, *more: str | Path) -> list[str | Path]:
    return ["train", recipe, "--out", recipe.parent / "new", *more]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trian": {}}, ("unknown key trian", "did you mean train?")),
        ({"data.time_step": 3}, ("unknown key data.time_step", "data.time_steps")),
        ({"data.split.labeled_per_class": 3}, ("data.split.labelled_per_class",)),
        ({"data.zzz": 3}, ("unknown key data.zzz",)),
        ({"data.time_steps": "many"}, ("time_steps", "many")),
        ({"data.size": [16]}, ("size",)),
        ({"data.size": 16}, ("size",)),
        ({"data": 3}, ("data must hold settings",)),
        ({"data.name": "mnist"}, ("name", "mnist")),
        ({"data.time_steps": 0}, ("data.time_steps must be at least 1",)),
        ({"train.lr": -1.0}, ("train.lr must be positive",)),
        ({"data.split.validation_per_class": 0}, ("validation_per_class must be at least 1",)),
        ({"student.tau": 0.5}, ("student.tau must be at least 1",)),
        ({"data.simulator": {"width": 2}}, ("simulator", "4×4")),
        ({"seed": -1}, ("seed must not be negative",)),
        ({"seed": 2**63}, ("seed must be below 2^63",)),
        ({"teacher.input_size": -3}, ("teacher.input_size must be at least 1",)),
        ({"teacher.weight_decay": -1.0}, ("teacher.weight_decay must not be negative",)),
        ({"train.warmup_epochs": float("inf")}, ("train.warmup_epochs must be a finite number",)),
        ({"train.lr": 10**400}, ("train.lr must be a finite number",)),
        ({"student.tau": float("nan")}, ("student.tau must be a finite number",)),
        ({"data.photo_views": {"crop": 0}}, ("data.photo_views.crop must be above 0",)),
        ({"data.photo_views": {"mixup": 0.4}}, ("photo_views.mixup must be true or false",)),
        (
            {"data.photo_views": {"flip": True}, "method": "ckd-plus"},
            ("data.photo_views", "data.source.in_step"),
        ),
        (
            {
                "data.photo_views": {"mixup": True},
                "method": "kt",
                "objective": {"replace": "time-step"},
            },
            ("data.photo_views.mixup", "objective.replace"),
        ),
        ({"data.split.seed": -1}, ("data.split.seed must not be negative",)),
        ({"method": "cdk"}, ("method 'cdk' is unknown", "did you mean ckd?")),
        ({"method": 3}, ("method 3 is unknown",)),
        ({"method": ["ckd"]}, ("method", "is unknown")),
        ({"method": "../digits"}, ("method '../digits' is unknown",)),
        ({"train.device": "gpu"}, ("train.device 'gpu'", "use auto or cpu")),
        ({1: 2}, ("unknown key 1",)),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_recipe_with_a_mistake(
    refuse: Refuse, data: Path, change: dict, words: tuple[str, ...]
) -> None:
    if 1 in change:
        recipe = _write_recipe(data)
        recipe.write_text(recipe.read_text() + "1: 2\n")
    else:
        recipe = _write_recipe(data, **change)
    line = refuse(*_train(recipe))
    _holds(line, *words)
    if not {"method", "train.device"} & set(change) or "data.photo_views" in change:
        _holds(line, recipe)
    assert not (data / "new").exists()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"data: [1, 2", "not valid YAML (line "),
        (b"data:\n\tsize: 3\n", "not valid YAML (line 2)"),
        (b"\xff\xfe\x00\x01", "not valid YAML"),
        (b"- a\n- b\n", "keys and values"),
        (b"", "keys and values"),
        (b"just words", "keys and values"),
        (b"a: !!python/object/apply:os.system ['touch hacked']\n", "not valid YAML"),
    ],
)
def test_a_recipe_that_is_none(
    refuse: Refuse, tmp_path: Path, content: bytes, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_bytes(content)
    _holds(refuse(*_train(tmp_path / "recipe.yaml")), tmp_path / "recipe.yaml", word)


def test_a_missing_recipe(refuse: Refuse, tmp_path: Path) -> None:
    _holds(refuse("train", "digit"), "digit: no such recipe", "did you mean digits?")
    _holds(refuse("train", tmp_path / "a.yaml"), tmp_path / "a.yaml", "no such recipe")
    _holds(refuse("train", tmp_path), tmp_path, "no such recipe")


# Data --------------------------------------------------------------------------------------------


def test_a_missing_photo_folder(refuse: Refuse, data: Path) -> None:
    shutil.rmtree(data / "photos")
    _holds(refuse(*_train(_write_recipe(data))), data / "photos", "no such folder", "data.photos")
    line = refuse("simulate", "--photos", data / "photos", "--out", data / "out")
    _holds(line, data / "photos", "no such folder")
    assert not (data / "out").exists()
    assert not (data / "new").exists()


def test_a_class_without_a_photo(refuse: Refuse, data: Path) -> None:
    for photo in (data / "photos/saw").iterdir():
        photo.unlink()
    _holds(refuse(*_train(_write_recipe(data))), data / "photos", "saw", "photo")
    shutil.rmtree(data / "photos/saw")
    _holds(refuse(*_train(_write_recipe(data))), data / "photos", "'saw'", "no photo")


@pytest.mark.parametrize("command", ["train", "teacher", "simulate"])
def test_an_undecodable_photo(refuse: Refuse, data: Path, command: str) -> None:
    for photo in (data / "photos/cup").iterdir():
        photo.write_bytes(photo.read_bytes()[:50])
    shutil.rmtree(data / "photos/saw" if command == "simulate" else data / "photos/none", True)
    recipe = _write_recipe(data)
    if command == "simulate":
        (data / "out").mkdir()
        note = {"seed": 0, **Simulator().settings()}
        (data / "out/simulator.json").write_text(json.dumps(note, indent=2) + "\n")
        line = refuse("simulate", "--photos", data / "photos", "--out", data / "out")
    else:
        line = refuse(command, recipe, "--out", data / "new")
        assert not (data / "new").exists()
    _holds(line, data / "photos/cup/image_000", "does not decode", "replace or remove")


def test_a_truncated_recording(refuse: Refuse, data: Path) -> None:
    for file in (data / "events/saw").iterdir():
        file.write_bytes(file.read_bytes()[:-2])
    line = refuse(*_train(_write_recipe(data)))
    _holds(line, data / "events/saw/image_000", "truncated", "fetch")
    assert not (data / "new").exists()


def test_more_time_steps_than_events(refuse: Refuse, data: Path) -> None:
    line = refuse(*_train(_write_recipe(data, **{"data.time_steps": 50_000})))
    _holds(line, data / "events", "50000 time steps", "data.time_steps")
    assert not (data / "new").exists()


def test_events_outside_the_sensor(refuse: Refuse, data: Path) -> None:
    line = refuse(*_train(_write_recipe(data, **{"data.sensor": [8, 16]})))
    _holds(line, data / "events", "8×16", "data.sensor")


def test_too_few_recordings(refuse: Refuse, data: Path) -> None:
    line = refuse(*_train(_write_recipe(data, **{"data.split.test_per_class": 5})))
    _holds(line, "'cup' has 6 recordings", "needs 7", "lower data.split")


# Runs and checkpoints ----------------------------------------------------------------------------


def test_a_gpu_without_memory(refuse: Refuse, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has …")

    monkeypatch.setattr("spikebridge.runs.tasks.StudentTask", fail)
    line = refuse(*_train(_write_recipe(data)))
    _holds(line, "Tried to allocate 20.00 MiB;", "train.batch_size", "train.memory low")
    assert "GPU 0" not in line


def test_a_file_as_a_run_is_refused_before_its_teacher_is_trained(
    refuse: Refuse, data: Path
) -> None:
    recipe, file = _write_recipe(data), data / "taken"
    file.touch()
    teacher = data / "new/teacher"
    line = refuse("train", recipe, "--method", "ckd", "--out", file, "--teacher_run", teacher)
    _holds(line, file, "cannot be written")
    assert not teacher.exists()


@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_a_run_that_is_not_finished(refuse: Refuse, run: Path, command: str) -> None:
    for name in ("result.json", "model.safetensors"):
        (run / name).unlink()
    _holds(refuse(command, run), run, "finished")
    _holds(refuse(command, run / "none"), run / "none")


def test_prediction_of_bad_files(refuse: Refuse, run: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    _holds(refuse("predict", run, file), file, "no such recording")
    file.write_bytes(packed([(1, 1, 1, 1)]))
    _holds(refuse("predict", run, file), file, "1 events", "2 time steps")
    file.write_bytes(packed([(1, 1, 1, 1), (16, 1, 2, 1)]))
    _holds(refuse("predict", run, file), file, "(16, 1)", "16×16")
    file.with_suffix(".avi").touch()
    _holds(refuse("predict", run, file.with_suffix(".avi")), "unknown event format")


@pytest.mark.parametrize(
    "command", ["evaluate", "energy", "audit", "compare", "report", "export --to onnx", "predict"]
)
def test_a_run_that_may_not_be_read(
    refuse: Refuse, run: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*command.split(), run, *(["a.bin"] if command == "predict" else [])]
    forbid(monkeypatch, run)
    line = refuse(*words)
    _holds(line, f"error: {run}/", "Permission denied", "check its permissions")
    assert "train" not in line


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("result.json", "compare"),
        ("config.yaml", "compare"),
        ("result.json", "report"),
        ("config.yaml", "report"),
        ("metrics.jsonl", "report"),
        ("predictions.csv", "report"),
        ("result.json", "audit"),
        ("metrics.jsonl", "audit"),
        ("config.yaml", "train"),
        ("model.safetensors", "evaluate"),
    ],
)
def test_a_file_of_a_run_that_may_not_be_read(
    refuse: Refuse,
    originals: Path,
    run: Path,
    name: str,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forbid(monkeypatch, run / name)
    train = ["train", originals / "recipe.yaml", "--out", run]
    line = refuse(*(train if command == "train" else [command, run]))
    _holds(line, f"{run / name}: cannot be read (Permission denied); check its permissions")


def test_a_checkpoint_that_may_not_be_read(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run / "checkpoint.pt").touch()
    (run / "pool.csv").touch()
    forbid(monkeypatch, run)
    for read, name in ((load_checkpoint, "checkpoint.pt"), (Pool.read, "pool.csv")):
        monkeypatch.setattr(Path, "is_file", lambda _: True)
        refused(lambda r=read, n=name: r(run / n), run / name, "cannot be read (Permission denied)")


def test_data_that_may_not_be_read(
    refuse: Refuse, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = _write_recipe(data)
    forbid(monkeypatch, data / "photos/saw")
    line = refuse("simulate", "--photos", data / "photos", "--out", data / "out")
    _holds(line, f"{data}/photos/saw: Permission denied; check its permissions")
    _holds(refuse(*_train(recipe)), data / "photos/saw", "Permission denied")
    forbid(monkeypatch, recipe)
    _holds(refuse("prepare", recipe), f"{recipe}: Permission denied; check its permissions")
    _holds(refuse("train", "digits", "--data", recipe), f"{recipe}: Permission denied")
    for command in ("study", "sweep"):
        _holds(refuse(command, recipe), f"{recipe}: cannot be read (Permission denied)")


def _description(run: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(run / "model.safetensors", framework="pt") as file:
        return file.metadata()


def test_a_checkpoint_of_another_architecture(refuse: Refuse, run: Path, data: Path) -> None:
    recording = data / "events/cup/image_0001.bin"
    model = run / "model.safetensors"
    save_file({"weight": torch.zeros(3)}, model, _description(run))
    for call in (["evaluate", run], ["predict", run, recording]):
        _holds(refuse(*call), model, "another architecture", "settings")
    save_file({"weight": torch.zeros(3)}, model)
    _holds(refuse("predict", run, recording), model, "not a model of spikebridge")
    save_file({"weight": torch.zeros(3)}, model, {"spikebridge": "[1, 2]"})
    _holds(refuse("predict", run, recording), model, "not a model of spikebridge")
    model.write_bytes(b"garbage" * 50)
    _holds(refuse("predict", run, recording), model, "not a model of spikebridge")


class _Touch:
    """A pickle that makes a file when it is opened."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (self.path, "w")


@pytest.mark.parametrize("kind", ["torch", "plain pickle"])
def test_code_in_a_checkpoint_is_never_run(
    refuse: Refuse, run: Path, data: Path, originals: Path, tmp_path: Path, kind: str
) -> None:
    trap = tmp_path / "trap"
    buffer = io.BytesIO()
    (torch.save if kind == "torch" else pickle.dump)({"model": _Touch(str(trap))}, buffer)
    (run / "checkpoint.pt").write_bytes(buffer.getvalue())
    (run / "result.json").unlink()
    before = _whole_tree(run)
    line = refuse("train", originals / "recipe.yaml", "--out", run, "--resume")
    _holds(line, run / "checkpoint.pt", "not a readable checkpoint")
    assert not trap.exists()
    assert _whole_tree(run) == before
    (run / "model.safetensors").write_bytes(buffer.getvalue())
    _holds(refuse("evaluate", run), "not a model of spikebridge")
    assert not trap.exists()


def test_resume_without_a_checkpoint(refuse: Refuse, data: Path) -> None:
    line = refuse(*_train(_write_recipe(data), "--resume"))
    _holds(line, data / "new", "no checkpoint to resume from", "without --resume")
    assert not (data / "new").exists()


def test_an_interrupted_run_is_not_overwritten(refuse: Refuse, run: Path, originals: Path) -> None:
    (run / "result.json").unlink()
    before = {f: f.read_bytes() for f in run.rglob("*") if f.is_file()}
    _holds(refuse("train", originals / "recipe.yaml", "--out", run), run, "add --resume")
    assert {f: f.read_bytes() for f in run.rglob("*") if f.is_file()} == before


def test_a_run_folder_with_other_settings(refuse: Refuse, run: Path, originals: Path) -> None:
    before = {f: f.read_bytes() for f in run.rglob("*") if f.is_file()}
    line = refuse("train", originals / "recipe.yaml", "--out", run, "--train.lr", "0.25")
    _holds(line, run, "other settings", "0.5 there and 0.25 here", "choose another folder")
    assert {f: f.read_bytes() for f in run.rglob("*") if f.is_file()} == before


def test_a_setting_that_came_after_a_run_has_its_default_there(
    run: Path, originals: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = yaml.safe_load((run / "config.yaml").read_text())
    del settings["teacher"]["input_size"]
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    before = (run / "model.safetensors").stat().st_mtime_ns
    assert main(["train", str(originals / "recipe.yaml"), "--out", str(run)]) == 0
    assert (run / "model.safetensors").stat().st_mtime_ns == before
    settings["teacher"]["width"] = 0.123
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    assert main(["train", str(originals / "recipe.yaml"), "--out", str(run)]) == 2
    assert "other settings" in capsys.readouterr().err


def test_a_run_whose_data_have_changed(refuse: Refuse, data: Path) -> None:
    recipe = _write_recipe(data)
    run = data / "new"
    assert main([str(a) for a in _train(recipe)]) == 0
    file = data / "events/cup/image_0001.bin"
    file.write_bytes(file.read_bytes()[:-5])
    _holds(refuse("evaluate", run), run, "data are no longer those")
    (run / "manifest.csv").write_text("kind\n")
    _holds(refuse("evaluate", run), run / "manifest.csv", "not a manifest")


def test_a_student_is_no_teacher(refuse: Refuse, run: Path, data: Path) -> None:
    recipe = _write_recipe(data, **{"method": "naive-kd", "teacher.checkpoint": str(run)})
    _holds(refuse(*_train(recipe)), run, "holds a student, not a teacher", "teacher.checkpoint")


def test_a_comparison_into_an_unknown_format(refuse: Refuse, run: Path, tmp_path: Path) -> None:
    assert main(["compare", str(run)]) == 0
    (run / "result.json").write_text("{")
    _holds(refuse("compare", run), run / "result.json", "damaged")


def test_a_result_that_lacks_what_a_table_needs(refuse: Refuse, run: Path) -> None:
    whole = json.loads((run / "result.json").read_text())
    for command, name in (
        (["compare"], "data"),
        (["compare", "--split", "validation"], "val_top1"),
        (["report"], "method"),
        (["export", "--to", "onnx"], "best_epoch"),
    ):
        lacking = {key: value for key, value in whole.items() if key != name}
        (run / "result.json").write_text(json.dumps(lacking))
        _holds(refuse(*command, run), f"{run / 'result.json'}: lacks {name!r}; train the run again")


@pytest.mark.parametrize(
    "damage", [b"{", b"\xff\xfe", b"", b"- 1\n"], ids=["cut", "bytes", "empty", "list"]
)
@pytest.mark.parametrize("name", ["config.yaml", "result.json"])
def test_a_damaged_file_of_a_run(refuse: Refuse, data: Path, name: str, damage: bytes) -> None:
    recipe = _write_recipe(data)
    assert main([str(a) for a in _train(recipe)]) == 0
    (data / "new" / name).write_bytes(damage)
    line = refuse(*_train(recipe))
    _holds(line, data / "new")
    assert any(word in line for word in ("damaged", "other settings"))
