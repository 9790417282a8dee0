"""A user's own losses, schedules and teacher: found, called, recorded, told apart, refused."""

import json
import re
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from factories import refused, tiny_recipe
from objective_case import CountingTeacher, generator, hybrid_frames, make, make_batch, outputs
from spikebridge.base import hooks
from spikebridge.base.files import file_sha256
from spikebridge.ckd.schedules import DistillationSchedule, ReplacementSchedule
from spikebridge.ckd.settings import ObjectiveConfig
from spikebridge.cli import main
from spikebridge.data.settings import DataConfig, SplitConfig
from spikebridge.data.simulation.camera import Simulator
from spikebridge.models.settings import TeacherConfig
from spikebridge.models.teacher import build_teacher
from spikebridge.results.compare import compare
from spikebridge.results.report.curves import training
from spikebridge.results.report.figures import accuracy
from spikebridge.results.report.read import read_run
from spikebridge.results.report.svg import drawing, inline
from spikebridge.results.trained import evaluate_run
from spikebridge.runs.study.spec import read_study
from spikebridge.runs.train import train_student
from spikebridge.settings.config import Config
from spikebridge.settings.parsing import config_from
from spikebridge.settings.recorded import plain_settings
from spikebridge.training.settings import TrainConfig

ROOT = Path(__file__).parents[2]
MODULES = ("mine", "broken", "own", "my_alignment")
SOURCE = """
import torch
from torch import nn

def apart(hybrid_TBN, dvs_TBN, label_B):
    assert hybrid_TBN.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    weight_B = 1.0 + label_B
    return ((hybrid_TBN - dvs_TBN).square().mean(2) * weight_B).mean(1)

def pull(student_TBC, teacher_BC, label_B, *, temperature, per_step, weight_B):
    assert not teacher_BC.requires_grad and not per_step
    right_B = (student_TBC.mean(0) - teacher_BC).gather(1, label_B[:, None])[:, 0]
    return temperature * (right_B.abs() * (1 if weight_B is None else weight_B)).mean()

def half(u):
    return u / 2

def late(u, replacement):
    return 2 * u * replacement

class Net(nn.Sequential):
    def __init__(self, classes):
        super().__init__(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, classes))

number = 3
text = lambda hybrid_TBN, dvs_TBN, label_B: "0.5"
scalar = lambda hybrid_TBN, dvs_TBN, label_B: hybrid_TBN.mean()
whole = lambda hybrid_TBN, dvs_TBN, label_B: hybrid_TBN.mean((1, 2)).long()
detached = lambda hybrid_TBN, dvs_TBN, label_B: hybrid_TBN.mean((1, 2)).detach()
per_sample = lambda student_TBC, teacher_BC, label_B, **options: student_TBC.mean((0, 2))
high = lambda u: 1.5
nan = lambda u: float("nan")
words = lambda u: "0.5"
negative = lambda u, replacement: -0.1
no_network = lambda classes: classes
narrow = lambda classes: nn.Sequential(nn.Flatten(), nn.LazyLinear(classes + 1))
"""


def all_of(module):
    """Settings in which all that can be a hook is one of a module's."""
    return {
        "objective": {
            "alignment": f"{module}:apart",
            "kd_loss": f"{module}:pull",
            "replacement": {"shape": f"{module}:half"},
            "distillation": {"shape": f"{module}:late"},
        },
        "teacher": {"name": f"{module}:Net"},
    }


def forget() -> None:
    """As if this were a new process."""
    for name in [
        n for n in sys.modules if n.split(".")[0] in ("mine", "broken", "own", "my_alignment")
    ]:
        del sys.modules[name]
    hooks._imported.clear()
    hooks._folders.clear()


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The file mine.py in the working directory."""
    forget()
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(SOURCE)
    yield tmp_path / "mine.py"
    forget()


def imported(mine):
    sys.path.append(str(mine.parent))
    import mine as module  # pyright: ignore[reportMissingImports]

    return module


# What is called ---------------------------------------------------------------------------------


def test_ones_own_alignment_takes_the_place_of_cka(mine):
    objective, student = make(alignment="mine:apart", alignment_weight=0.7)
    batch = make_batch()
    replaced_B = torch.zeros(len(batch.label_B), dtype=torch.bool)
    _, x_TBN, _, y_TBN = outputs(student, batch, hybrid_frames(batch, replaced_B))
    weight_B = 1 + batch.label_B.numpy()
    loss_T = (((x_TBN - y_TBN) ** 2).mean(2) * weight_B).mean(1)
    coefficient_T = 1 / (1 + np.exp(-objective.coefficient.logit_T.detach().numpy()))
    with torch.autocast("cpu", torch.bfloat16, enabled=False):
        found = objective(student, CountingTeacher(), batch, 0.0, generator())
    expected = 0.7 * (coefficient_T * loss_T).mean()
    assert found.losses["alignment"].item() == pytest.approx(expected, rel=1e-5)
    assert {"cka", "cka_debiased"} <= found.logged.keys()
    found.total.backward()
    assert objective.coefficient.logit_T.grad.any()


def test_ones_own_loss_is_called_outside_autocast(mine):
    objective, student = make(alignment="mine:apart")
    with torch.autocast("cpu", torch.bfloat16):
        found = objective(student, CountingTeacher(), make_batch(), 0.0, generator())
    assert found.losses["alignment"].dtype == torch.float32


def test_ones_own_kd_loss_takes_the_place_of_the_divergence(mine):
    objective, student = make(kd_loss="mine:pull", kd_weight=0.3, kd_temperature=2.0)
    batch, teacher = make_batch(), CountingTeacher()
    replaced_B = torch.zeros(len(batch.label_B), dtype=torch.bool)
    z_TBC = outputs(student, batch, hybrid_frames(batch, replaced_B))[0]
    rows_B = np.arange(len(batch.label_B))
    taught_BC = teacher.logits(batch.photo_B3HW).numpy()
    right_B = (z_TBC.mean(0) - taught_BC)[rows_B, batch.label_B.numpy()]
    found = objective(student, teacher, batch, 0.0, generator())
    assert found.losses["kd"].item() == pytest.approx(0.3 * 2 * np.abs(right_B).mean(), rel=1e-5)


def test_ones_own_schedules(mine):
    assert ReplacementSchedule("mine:half")(0.6) == 0.3
    assert ReplacementSchedule("mine:half")(2.0) == 0.5  # u = 1 at most
    assert DistillationSchedule("mine:late")(0.5, 0.3) == 0.3
    objective, student = make(
        replacement={"shape": "mine:half"}, distillation={"shape": "mine:late"}
    )
    assert objective.config.needs_teacher  # though W(0) is 0
    drawn, logged = objective.draw(0.5, 8, generator())
    assert (logged["replacement"], logged["distillation"]) == (0.25, 0.25)
    assert drawn.guidance == 0.25
    assert not ObjectiveConfig(
        replacement=ReplacementSchedule("mine:half"), distillation=DistillationSchedule("none")
    ).needs_teacher


def test_ones_own_teacher_sees_photos_as_they_are(mine):
    torch.manual_seed(0)
    teacher = build_teacher(TeacherConfig(name="mine:Net", input_size=12), 5)
    photo_B3HW = torch.rand(2, 3, 12, 12)
    torch.testing.assert_close(teacher(photo_B3HW), teacher.network(photo_B3HW))
    assert teacher(torch.rand(2, 3, 20, 20)).shape == (2, 5)


def test_python_gives_the_callable_itself(mine):
    module = imported(mine)
    objective = ObjectiveConfig(
        alignment=module.apart,
        kd_loss=module.pull,
        replacement=ReplacementSchedule(module.half),
        distillation=DistillationSchedule(shape=module.late),
    )
    found = Config(objective=objective, teacher=TeacherConfig(name=module.Net))
    assert found == config_from(all_of("mine"), "test")
    assert plain_settings(found)["teacher"]["name"] == f"mine:Net@{file_sha256(mine)[:12]}"


# What is refused --------------------------------------------------------------------------------


def test_a_callable_that_its_name_does_not_give_back_is_refused(mine):
    module = imported(mine)

    def local(u):
        return u

    main_function = eval("lambda u: u", {"__name__": "__main__"})
    for given in (local, lambda u: u, main_function, partial(module.half), module.text):
        refused(lambda g=given: ReplacementSchedule(g), "replacement.shape", "module of its own")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("nowhere:f", "no module nowhere in"),
        ("mine.sub:f", "no module mine.sub in"),
        ("mine:fraction", "has no fraction"),
        ("mine:number", "mine:number is int, which cannot be called"),
        ("broken:f", "importing broken fails (ZeroDivisionError: division by zero)"),
        ("sys:exit", "has no file of its own"),
    ],
)
def test_a_hook_that_cannot_be_found_is_one_line(mine, capsys, setting, words):
    (mine.parent / "broken.py").write_text("1 / 0\n")
    assert main(["train", "digits", "--objective.alignment", setting]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"spikebridge: error: {setting}")
    assert words in said
    assert said.count("\n") == 1
    assert not (mine.parent / "runs").exists()


@pytest.mark.parametrize(
    ("switches", "words"),
    [
        ({"alignment": "mine:text"}, "mine:text returned str; it must return a floating-point"),
        ({"alignment": "mine:scalar"}, "returned torch.float32 of shape (); it must"),
        ({"alignment": "mine:whole"}, "returned torch.int64 of shape (3,)"),
        ({"alignment": "mine:detached"}, "a loss without a gradient"),
        ({"kd_loss": "mine:per_sample"}, "of shape (8,); it must return"),
        ({"replacement": {"shape": "mine:high"}}, "gave 1.5 at u = 0.5; it must be in [0, 1]"),
        ({"replacement": {"shape": "mine:nan"}}, "gave nan at u = 0.5"),
        ({"replacement": {"shape": "mine:words"}}, "gave '0.5' at u = 0.5"),
        ({"distillation": {"shape": "mine:negative"}}, "gave -0.1 at u = 0.5; it must be from 0"),
    ],
)
def test_a_hook_that_gives_something_else_is_refused(mine, switches, words):
    objective, student = make(**switches)
    teacher = CountingTeacher()
    refused(lambda: objective(student, teacher, make_batch(), 0.5, generator()), words)


def test_a_teacher_that_is_none_is_refused(mine):
    refused(lambda: build_teacher(TeacherConfig(name="mine:no_network"), 5), "torch.nn.Module")
    teacher = build_teacher(TeacherConfig(name="mine:narrow"), 5)
    refused(lambda: teacher(torch.rand(2, 3, 4, 4)), "mine:narrow returned", "of shape (2, 5)")
    for more in ({"trainable": "head"}, {"weights": "x.pth"}):
        with pytest.raises(ValueError, match=rf"teacher\.{next(iter(more))}"):
            TeacherConfig(name="mine:Net", **more)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--objective.kd_loss=dits", "objective.kd_loss must be one of kl, dkd, dist, or module:"),
        ("--objective.alignment=cca", "objective.alignment must be one of cka, or module:name"),
        ("--objective.replacement.shape=lineal", "one of power, linear, step"),
        ("--objective.distillation.shape=off", "one of phased, tied, constant, cosine, none"),
    ],
)
def test_a_misspelt_word_is_told_the_words(capsys, option, words):
    assert main(["train", "digits", option]) == 2
    assert words in capsys.readouterr().err


class Quick(ReplacementSchedule):
    def __call__(self, progress):
        return 1.0


def test_what_a_record_cannot_give_back_is_refused(tmp_path):
    class Never(DistillationSchedule):
        pass

    class Split(SplitConfig):
        pass

    class Camera(Simulator):
        pass

    class Mine(Config):
        pass

    for make_part, words in (
        (lambda: ObjectiveConfig(replacement=Quick()), "objective.replacement must be a Replace"),
        (lambda: ObjectiveConfig(replacement=Quick()), "test_hooks.Quick"),
        (lambda: ObjectiveConfig(distillation=Never()), "objective.distillation"),
        (lambda: DataConfig(split=Split()), "data.split"),
        (lambda: DataConfig(simulator=Camera()), "data.simulator"),
        (lambda: Config(objective={"kd_weight": 1.0}), "objective must be a ObjectiveConfig"),
    ):
        with pytest.raises(ValueError, match="config.yaml cannot give back") as caught:
            make_part()
        assert words in str(caught.value)
    for config, words in (
        (Mine(), "the settings are a "),
        (Config(data=DataConfig(events=Path("x"))), "data.events is a PosixPath"),
        (Config(train=TrainConfig(lr=np.float64(0.1))), "train.lr is a float64"),
    ):
        refused(
            lambda c=config: train_student(c, None, tmp_path / "a", teacher_folder=tmp_path), words
        )
    assert list(tmp_path.iterdir()) == []


# Whole runs -------------------------------------------------------------------------------------

OWN = all_of("own.losses")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which CKD was trained with all that is one's own."""
    root = tmp_path_factory.mktemp("trained")
    recipe = tiny_recipe(root, teacher=OWN["teacher"], objective=OWN["objective"])
    (root / "recipes/own").mkdir(parents=True)
    (root / "recipes/own/losses.py").write_text(SOURCE)
    (root / "recipes/own.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.MonkeyPatch.context() as patch:
        forget()
        patch.setattr(sys, "path", list(sys.path))
        patch.chdir(root)
        assert main(["train", "recipes/own.yaml"]) == 0  # Its functions lie beside the recipe.
        forget()
    (root / "recipes").rename(root / "moved")
    return root


@pytest.fixture
def at(trained, tmp_path, monkeypatch):
    """A copy of that folder, in a process that has imported nothing of it."""
    shutil.copytree(trained, tmp_path / "at")
    (tmp_path / "at/moved").rename(tmp_path / "at/recipes")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path / "at")
    forget()
    yield tmp_path / "at"
    forget()


def test_a_run_records_import_path_and_hash(at, capsys):
    own = yaml.safe_load((at / "runs/own/ckd-seed0/config.yaml").read_text())
    key = file_sha256(at / "recipes/own/losses.py")[:12]
    assert own["objective"]["alignment"] == f"own.losses:apart@{key}"
    assert own["objective"]["kd_loss"] == f"own.losses:pull@{key}"
    assert own["objective"]["replacement"]["shape"] == f"own.losses:half@{key}"
    assert own["objective"]["distillation"]["shape"] == f"own.losses:late@{key}"
    assert own["teacher"]["name"] == f"own.losses:Net@{key}"
    lines = (at / "runs/own/ckd-seed0/metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in lines]
    steps = [step for step in steps if step["kind"] == "step"]
    assert [s["replacement"] for s in steps] == [s["progress"] / 2 for s in steps]
    assert main(["train", "recipes/own.yaml"]) == 0
    assert "trained already" in capsys.readouterr().err


def edited(run, name, change):
    """A copy of a run with other settings in its record."""
    copy = run.with_name(name)
    shutil.copytree(run, copy)
    settings = yaml.safe_load((run / "config.yaml").read_text())
    (copy / "config.yaml").write_text(yaml.safe_dump(change(settings)))
    return copy


def stock(settings):
    objective = {k: v for k, v in settings["objective"].items() if k not in OWN["objective"]}
    teacher = settings["teacher"] | {"name": "small-cnn"}
    return settings | {"objective": objective, "teacher": teacher}


def test_its_row_has_its_own_name(at):
    own = at / "runs/own/ckd-seed0"
    key = file_sha256(at / "recipes/own/losses.py")[:12]
    (alone,) = [row.name for row in compare([own])]
    assert alone == (
        "ckd (objective.alignment own.losses:apart, objective.distillation.shape own.losses:late, "
        "objective.kd_loss own.losses:pull, objective.replacement.shape own.losses:half, "
        "teacher.name own.losses:Net)"
    )
    assert [row.name for row in compare([own, edited(own, "stock", stock)])] == ["ckd", alone]

    def other(settings):
        return yaml.safe_load(yaml.safe_dump(settings).replace(key, "0123456789ab"))

    names = [row.name for row in compare([own, edited(own, "other", other)])]
    assert ["own.losses:apart@0123456789ab" in name for name in names] == [True, False]
    assert [f"own.losses:apart@{key}" in name for name in names] == [False, True]


def test_the_reports_figures_need_no_hook_and_have_its_own_name(at):
    (at / "recipes/own/losses.py").unlink()
    own = at / "runs/own/ckd-seed0"
    with drawing():
        named = accuracy(compare([own, edited(own, "stock", stock)]))
        inline(named, "a", "")  # Its long names leave room for the drawing.
        scheduled = training({"own": [read_run(own)]}, read_run(own))
    assert any("own.losses:apart" in label.get_text() for label in named.axes[0].get_yticklabels())
    lines = {line.get_label(): line for line in scheduled.axes[1].get_lines()}
    assert "P(u), replacement probability" in lines
    u_N, weight_N = lines["W(u), distillation weight"].get_data()
    assert [*weight_N] == [2 * u * u / 2 for u in u_N]


def test_a_changed_source_is_another_run(at, capsys):
    source, folder = at / "recipes/own/losses.py", at / "runs/own/ckd-seed0"
    source.write_text(SOURCE.replace("u / 2", "u / 3"))
    assert main(["train", "recipes/own.yaml"]) == 2
    assert "the source of teacher.name own.losses:Net has changed" in capsys.readouterr().err
    (folder / "result.json").unlink()  # Interrupted, then.
    assert main(["train", "recipes/own.yaml", "--resume"]) == 2
    assert "the source of teacher.name own.losses:Net has changed" in capsys.readouterr().err
    source.write_text(SOURCE)
    assert main(["train", "recipes/own.yaml"]) == 2
    assert "has changed since it was imported" in capsys.readouterr().err
    forget()
    assert main(["train", "recipes/own.yaml", "--resume"]) == 0


def test_a_record_as_a_recipe_asks_for_the_recorded_source(at, capsys):
    shutil.copy("runs/own/ckd-seed0/config.yaml", "recipes/again.yaml")
    (at / "recipes/own/losses.py").write_text(SOURCE.replace("u / 2", "u / 3"))
    assert main(["train", "recipes/again.yaml"]) == 2
    assert "is not the source that was recorded" in capsys.readouterr().err


def test_a_finished_student_needs_no_hook(at, capsys):
    (at / "recipes/own/losses.py").unlink()
    run = at / "runs/own/ckd-seed0"
    result = json.loads((run / "result.json").read_text())
    assert evaluate_run(run, "test").top1 == result["test_top1"]
    assert main(["energy", str(run)]) == 0
    assert main(["export", str(run), "--to", "onnx"]) == 0
    card = next(run.rglob("*.md")).read_text()
    assert "With code of its author's own: objective.alignment own.losses:apart@" in card
    assert main(["train", "recipes/own.yaml", "--resume"]) == 2
    assert "no module own" in capsys.readouterr().err


def test_a_teacher_is_looked_for_where_it_was_found(at, trained):
    teacher = at / "runs/own/teacher-seed0"
    refused(lambda: evaluate_run(teacher, "test"), "no module own in")
    shutil.copytree("recipes", trained / "recipes")
    result = json.loads((teacher / "result.json").read_text())
    assert evaluate_run(teacher, "test").top1 == result["test_top1"]
    shutil.rmtree(trained / "recipes")


def test_where_ones_own_teacher_began_cannot_be_proved(at, capsys):
    run = at / "runs/own/ckd-seed0"
    assert json.loads((run / "result.json").read_text())["proved"] is False
    assert main(["audit", str(run)]) == 2
    told = "the teacher is built by own.losses:Net, and nothing tells which weights"
    assert told in capsys.readouterr().out


# The page "Change one thing" --------------------------------------------------------------------


@pytest.fixture
def page(mine):
    """The page's text and its blocks of Python; example and blocks lie in the working directory."""
    text = (ROOT / "docs/change-one-thing.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    shutil.copy(ROOT / "examples/my_alignment.py", mine.parent)
    mine.write_text(blocks[2])
    return text, blocks


def test_the_pages_example_is_the_committed_one_and_runs(page):
    _, (example, python, _) = page
    assert example == (ROOT / "examples/my_alignment.py").read_text()
    sys.path.append(".")
    scope = {}
    exec(python, scope)
    assert scope["config"].objective.alignment == "my_alignment:cosine"
    objective, student = make(alignment="my_alignment:cosine")
    found = objective(student, CountingTeacher(), make_batch(), 0.5, generator())
    assert 0 < found.losses["alignment"] < 1


def test_the_pages_functions_run_as_printed(page):
    schedules = {"replacement": {"shape": "mine:late"}, "distillation": {"shape": "mine:fading"}}
    objective, student = make(kd_loss="mine:mse", kd_on="rgb", **schedules)
    teacher = build_teacher(TeacherConfig(name="mine:teacher"), 5)
    assert objective(student, teacher, make_batch(), 0.6, generator()).losses["kd"] > 0


def test_the_pages_study_is_the_committed_one(page):
    text, _ = page
    study = read_study(ROOT / "examples/change-one-thing.yaml")
    arms = yaml.safe_load(re.findall(r"```yaml\n(arms:.*?)```", text, re.DOTALL)[0])
    assert arms["arms"] == study.arms
    assert [arms["against"]] == [list(study.against)]
    rows = re.findall(r"^\| digits \| 2 \| (\S+) \| (\d)", text, re.M)
    assert rows == [(name, str(len(study.seeds))) for name in ("teacher", *study.arms)]
