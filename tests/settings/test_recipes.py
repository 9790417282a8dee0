"""Every shipped recipe parses with every method, and its networks build and run."""

import dataclasses
import re
import shutil
from argparse import Namespace
from pathlib import Path

import pytest
import torch
import yaml

from factories import refused
from spikebridge.base.errors import UserError
from spikebridge.commands.train import experiment
from spikebridge.data.datasets.catalog import open_collection
from spikebridge.models.build import build_student
from spikebridge.models.teacher import build_teacher
from spikebridge.results import comparable
from spikebridge.results.report import palette
from spikebridge.runs.train import teacher_settings
from spikebridge.settings import presets
from spikebridge.settings.parsing import config_from
from spikebridge.settings.presets import methods, read_recipe, recipe_names


def test_recipes_and_methods_that_the_readme_promises():
    promised = {"digits", "nmnist", "caltech101", "ncaltech101", "cep-dvs", "cifar10-dvs"}
    assert promised <= set(recipe_names())
    assert set(methods()) == {
        "scratch",
        "scratch+tet",
        "pretrain-finetune",
        "kt",
        "naive-kd",
        "kd-no-replacement",
        "kd-no-alignment",
        "ckd",
        "tmkt",
        "sim-only",
        "sim-pretrain",
        "ann-on-frames",
        "ckd-plus",
        "self-training",
    }


@pytest.fixture
def more_methods(tmp_path, monkeypatch):
    """Adds method presets to the shipped ones."""
    caches = (presets.methods, palette._styles, comparable._defaults)

    def add(**files: str) -> None:
        shutil.copytree(presets._METHODS, tmp_path / "methods")
        monkeypatch.setattr(presets, "_METHODS", tmp_path / "methods")
        for name, text in files.items():
            (tmp_path / "methods" / f"{name}.yaml").write_text(text)
        for one in caches:
            one.cache_clear()

    yield add
    for one in caches:
        one.cache_clear()


ROOT = Path(__file__).parents[2]
[LATE] = re.findall(r"```yaml\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
"""The file that CONTRIBUTING shows."""


def test_a_method_is_one_file(more_methods):
    more_methods(late=LATE, plain="objective: {kd_weight: 0.5}")
    config = config_from(read_recipe("digits", "late"), "digits")
    assert config.method == "late"
    assert config.objective.replacement.power == 9
    names = list(methods())
    assert names.index("ckd") + 1 == names.index("late") == names.index("ckd-plus") - 1
    assert names[-1] == "plain"
    assert palette.style_of("late").light == "#6b4c9a"
    assert "--m-late: #b39ddb;" in palette.stylesheet("dark")
    assert palette.style_of("plain") == palette.style_of("nobody's")
    assert comparable.name_variants("late", [{"objective.replacement.power": 9}]) == [""]


def test_a_methods_file_has_no_other_keys(more_methods):
    more_methods(late=LATE.replace("order", "ordr"))
    refused(methods, "late.yaml", "unknown key ordr")


@pytest.mark.parametrize("recipe", ["ncaltech101", "cep-dvs", "cifar10-dvs", "nmnist"])
def test_recipes_of_published_sets_use_their_loaders(recipe):
    data = config_from(read_recipe(recipe), recipe).data
    assert data.name == recipe
    assert data.events is not None
    assert data.photos is not None
    assert (data.extent == "recording") == (recipe in ("ncaltech101", "cep-dvs"))


@pytest.mark.parametrize("method", ["ckd-plus", "sim-only"])
def test_the_camera_of_ncaltech101_moves_as_the_one_that_was_fitted(method):
    page = (ROOT / "docs" / "simulation.md").read_text(encoding="utf-8")
    [fitted] = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    start = config_from(read_recipe("ncaltech101", method), "ncaltech101").data.source_simulator
    found = fitted["data"]["simulator"]
    assert (start.width, start.height) == (found["width"], found["height"])
    assert (start.crop, start.motion, start.speed) == (found["crop"], "saccade", found["speed"])
    for name in ("amplitude", "saccade_height", "saccade_apex", "saccade_times"):
        assert getattr(start, name) == pytest.approx(found[name], rel=0.01), name


@pytest.mark.parametrize("recipe", ["caltech101", "nmnist"])
def test_recipes_of_the_data_folder_look_where_the_variable_says(recipe, tmp_path, monkeypatch):
    data = config_from(read_recipe(recipe), recipe).data
    monkeypatch.setenv("SPIKEBRIDGE_DATA", str(tmp_path))
    with pytest.raises(UserError, match=f"{tmp_path}/{recipe}.*: no such folder"):
        open_collection(data)


@pytest.mark.parametrize("method", methods())
@pytest.mark.parametrize("recipe", recipe_names())
def test_recipe_parses(recipe, method):
    config = config_from(read_recipe(recipe, method), recipe)
    assert config.method == method
    objective = config.objective
    hybrid = objective.hybrid_until > 0
    assert hybrid == (method not in ("scratch", "scratch+tet", "ann-on-frames"))
    distils = hybrid and objective.kd_weight > 0 and objective.distillation.shape != "none"
    whole = {"ckd", "ckd-plus", "naive-kd"}
    assert distils == (method in whole | {"kd-no-replacement", "kd-no-alignment"})
    aligns = hybrid and objective.alignment_weight > 0
    assert aligns == (method in whole | {"kt", "tmkt", "kd-no-replacement", "self-training"})
    replaces = hybrid and objective.replacement.shape != "never"
    assert replaces == (method in whole | {"kt", "tmkt", "kd-no-alignment", "self-training"})
    assert (objective.replace == "time-step") == (method == "tmkt")
    simulated = ("sim-only", "sim-pretrain", "ckd-plus", "self-training")
    assert config.needs_simulated_source == (method in simulated)
    assert (config.student.neuron == "relu") == (method == "ann-on-frames")


def test_a_recipe_with_a_byte_order_mark_is_read(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("data: {name: digits, time_steps: 7}\nseed: 3\n", "utf-8-sig")
    config = experiment(Namespace(recipe=str(recipe), settings={}))[0]
    assert (config.data.time_steps, config.seed) == (7, 3)


def test_class_names_that_look_like_numbers_are_excluded_by_the_spelling_that_is_told(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("data: {name: digits, exclude: ['8', \"yes\", '1e3', '2024-01-01']}\n")
    exclude = experiment(Namespace(recipe=str(recipe), settings={}))[0].data.exclude
    assert exclude == ["8", "yes", "1e3", "2024-01-01"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"data": {"exclude": None}}, "data.exclude must be a list, not null"),
        ({"data": {"size": [8, "x"]}}, "data.size must be a whole number, not x"),
        ({"train": {"lr": "nan"}}, "train.lr must be a number, not nan"),
        ({"train": {"lr": True}}, "train.lr must be a number, not True"),
        ({"seed": 3.0}, "seed must be a whole number, not 3.0"),
        ({"data": {"cache": 3}}, "data.cache must be text or null, not 3"),
        ({"objective": {"replacement": {"shape": 3}}}, "one of power, linear, step, never, always"),
    ],
    ids=str,
)
def test_values_of_other_types_are_refused(settings, words):
    refused(lambda: config_from(settings, "mine.yaml"), "mine.yaml: ", words)


def test_numbers_that_yaml_takes_for_text_are_numbers():
    config = config_from({"train": {"lr": "1e-3"}, "data": {"size": ["8", 6]}}, "mine.yaml")
    assert (config.train.lr, config.data.size) == (1e-3, (8, 6))


def test_a_preset_lies_over_the_recipe_and_the_users_settings_over_both(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "data: {name: digits, time_steps: 7, source: {calibrate: false, randomise: 0.1, views: 3}}"
    )
    given = Namespace(
        recipe=str(recipe),
        settings={"method": "ckd-plus", "data": {"source": {"randomise": 0.2}}},
    )
    data = experiment(given)[0].data
    assert data.time_steps == 7
    assert dataclasses.asdict(data.source) == {
        "simulator": None,
        "calibrate": True,
        "randomise": 0.2,
        "views": 3,
        "in_step": False,
    }


def test_every_method_of_a_recipe_has_the_same_teacher():
    teachers = {
        yaml.safe_dump(dataclasses.asdict(teacher_settings(config_from(settings, "digits"))))
        for settings in (read_recipe("digits", method) for method in methods())
    }
    assert len(teachers) == 1


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("recipe", recipe_names())
def test_recipe_builds(recipe):
    config = config_from(read_recipe(recipe), recipe)
    student = build_student(config.student, 10, config.data.size).eval()
    height, width = config.data.size
    with torch.no_grad():
        logits_TBC = student(torch.zeros(config.data.time_steps, 1, 2, height, width)).logits_TBC
    assert logits_TBC.isfinite().all()
    assert logits_TBC.shape[0] == config.data.time_steps
    teacher = build_teacher(config.teacher, 10, pretrained=False).eval()
    side = config.data.photo_size or config.data.size[0]
    with torch.no_grad():
        assert teacher(torch.rand(1, 3, side, side)).isfinite().all()
