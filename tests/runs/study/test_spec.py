"""Study files: what they mean, and what they are refused for."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

import spikebridge.settings.presets
from factories import changed_file, refused
from spikebridge.runs.study.plan import plan
from spikebridge.runs.study.spec import Study, read_study

RECIPES = Path(spikebridge.settings.presets.__file__).parent / "recipes"


def test_arms_are_laid_over_recipe_and_label_budget(make_study, tiny_file):
    study = make_study(
        recipes={str(tiny_file): {"train": {"epochs": 3}}},
        labelled_per_class=[1, None, "all"],
        arms={
            "scratch": {"method": "scratch"},
            "ckd-tau-2": {"method": "ckd", "objective": {"kd_temperature": 2}},
        },
    )
    runs = {str(one.job.folder): one.job for one in plan(study, Path("out"))}
    students = [name for name in runs if "teacher" not in name]
    assert len(students) == 1 * 3 * 2 * 2
    job = runs["out/tiny/k1/ckd-tau-2-seed1"]
    assert job.config.seed == 1
    assert job.config.method == "ckd"
    assert job.config.objective.kd_temperature == 2
    assert job.config.train.epochs == 3
    assert job.config.data.split.labelled_per_class == 1
    assert job.teacher is runs["out/tiny/k1/teacher-seed1"]
    assert runs["out/tiny/k4/scratch-seed0"].config.data.split.labelled_per_class == 4
    assert runs["out/tiny/k4/scratch-seed0"].teacher is None
    assert runs["out/tiny/kall/scratch-seed0"].config.data.split.labelled_per_class is None


def test_settings_lie_over_every_recipe_and_below_its_own_and_the_arms(make_study, tiny_file):
    study = make_study(
        recipes={str(tiny_file): {"train": {"epochs": 3}}, "digits": None},
        settings={"train": {"epochs": 5, "lr": 0.25, "ema": 0.5}},
        arms={"scratch": {"method": "scratch", "train": {"ema": 0.75}}, "ckd": {"method": "ckd"}},
        labelled_per_class=[2],
    )
    train = {
        (recipe, arm): study.config(recipe, 2, arm).train
        for recipe in study.recipes
        for arm in (*study.arms, None)
    }
    assert [train[str(tiny_file), arm].epochs for arm in ("scratch", "ckd", None)] == [3, 3, 3]
    assert [train["digits", arm].epochs for arm in ("scratch", "ckd", None)] == [5, 5, 5]
    assert {one.lr for one in train.values()} == {0.25}
    assert [train["digits", arm].ema for arm in ("scratch", "ckd", None)] == [0.75, 0.5, 0.5]
    assert study.config("digits", 2, "scratch").objective.hybrid_until == 0


def test_teacher_is_shared_by_arms_whose_settings_do_not_matter_to_it(make_study):
    study = make_study(
        seeds=[0],
        arms={
            "ckd": {"method": "ckd"},
            "noisy": {"method": "ckd", "data": {"simulator": {"shot_noise_hz": 5.0}}},
            "longer": {"method": "ckd", "train": {"epochs": 3}, "data": {"time_steps": 3}},
            "viewed": {"method": "ckd", "data": {"photo_views": {"crop": 0.5, "mixup": True}}},
            "weak": {"method": "ckd", "teacher": {"epochs": 2}},
            "leak": {
                "method": "ckd",
                "data": {"split": {"labelled_per_class": None, "protocol": "published"}},
            },
        },
        against=None,
    )
    jobs = {one.arm: one.job for one in plan(study, Path("out")) if one.arm != "teacher"}
    own = jobs["ckd"].teacher
    assert own is not None
    assert own.folder.name == "teacher-seed0"
    assert jobs["noisy"].teacher is own
    assert jobs["longer"].teacher is own
    assert jobs["viewed"].teacher is own
    assert not own.config.data.photo_views.given
    others = {jobs[arm].teacher.folder.name for arm in ("weak", "leak")}
    assert len(others) == 2
    assert "teacher-seed0" not in others


def test_an_arm_that_sets_its_own_labels_is_named_by_them(make_study):
    split = {"labelled_per_class": None, "protocol": "published"}
    arms = {"ckd": {"method": "ckd"}, "all": {"method": "ckd", "data": {"split": split}}}
    found = plan(make_study(seeds=[0], arms=arms, against=None), Path("out"))
    labelled = {one.arms: one.labelled for one in found}
    assert labelled == {("ckd",): "4", ("all",): "all"}  # Each with its teacher.


def test_a_teacher_is_shared_by_an_arm_that_the_recipes_views_do_not_suit(
    make_study, settings, tmp_path
):
    recipe = yaml.safe_load(Path(settings["recipes"][0]).read_text())
    recipe["data"]["photo_views"] = {"flip": True, "mixup": True}
    viewed = changed_file(tmp_path / "viewed.yaml", recipe, {})
    plain = {"photo_views": {"flip": False, "mixup": False}}
    steps = {"source": "simulated", "replace": "time-step"}
    arms = {"ckd": {"method": "ckd"}, "steps": {"method": "ckd", "data": plain, "objective": steps}}
    study = make_study(recipes=[str(viewed)], seeds=[0], arms=arms, against=None)
    jobs = {one.arm: one.job for one in plan(study, Path("out")) if one.arm != "teacher"}
    assert jobs["ckd"].config.data.photo_views.given
    assert jobs["steps"].teacher is jobs["ckd"].teacher is not None


def test_only_some_arms_need_only_their_teachers(make_study):
    found = plan(make_study(), Path("out"), ["scratch"])
    assert [one.job.folder.name for one in found] == ["scratch-seed0", "scratch-seed1"]


def test_changed_data_are_the_runs_own_but_for_the_change(make_study):
    study = make_study(
        arms={"longer": {"method": "scratch", "data": {"time_steps": 3}}},
        against=None,
        evaluate_at={"noisy": {"data": {"simulator": {"shot_noise_hz": 7.0}}}},
    )
    ((name, data),) = plan(study, Path("out"))[0].job.evaluate_at
    assert name == "noisy"
    assert data.simulator.shot_noise_hz == 7
    assert data.simulator.width == 16
    assert data.time_steps == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sedes": [1]}, ["unknown key sedes", "did you mean seeds?"]),
        ({"seeds": None}, ["seeds is missing"]),
        ({"seeds": [0, 0]}, ["named twice"]),
        ({"seeds": [-1]}, ["whole numbers"]),
        ({"recipes": ["digit"]}, ["digit", "did you mean digits?"]),
        ({"recipes": ["digits", "digits"]}, ["digits is named twice"]),
        ({"labelled_per_class": [0]}, ["labelled_per_class", "got 0"]),
        ({"labelled_per_class": [4, None]}, ["named, too"]),
        ({"against": ["scrach"]}, ["scrach", "did you mean scratch?"]),
        ({"against": None, "arms": {"teacher": {}}}, ["teacher"]),
        ({"against": None, "arms": {"a/b": {}}}, ["'a/b' is no name"]),
        ({"against": None, "arms": {"a": {"method": "ckdd"}}}, ["did you mean ckd?"]),
        (
            {"against": None, "arms": {"a": {"objective": {"kd_temperatur": 2}}}},
            ["did you mean objective.kd_temperature?"],
        ),
        ({"against": None, "arms": {"a": {"objective": {"kd_temperature": -2}}}}, ["arm a"]),
        ({"against": None, "arms": {"a": {"seed": 2}}}, ["seed is set by seeds"]),
        ({"settings": {"seed": 2}}, ["settings: seed is set by seeds"]),
        ({"settings": {"method": "kt"}}, ["settings: method is set by arms"]),
        ({"settings": {"train": {"epoch": 2}}}, ["settings", "did you mean train.epochs?"]),
        ({"settings": [1]}, ["settings must hold settings, not [1]"]),
        ({"evaluate_at": {"long": {"train": {"epochs": 3}}}}, ["must change data"]),
        ({"evaluate_at": {"x": {"data": {"time_step": 3}}}}, ["did you mean data.time_steps?"]),
        ({"arms": ["scratch"]}, ["arms holds a name and settings"]),
        (
            {"against": None, "arms": {1: {"method": "kt"}, "1": {"method": "ckd"}}},
            ["arms has a name twice"],
        ),
    ],
)
def test_mistakes_are_one_line_that_names_them(write_study, changes, words):
    refused(lambda: read_study(write_study(**changes)), *words)


def test_arms_may_be_named_by_what_yaml_takes_for_numbers_or_truth_values(write_study):
    arms = {10: {"method": "scratch"}, True: {"method": "ckd"}}
    study = read_study(write_study(arms=arms, against=[10, True]))
    assert tuple(study.arms) == study.against == ("10", "True")
    assert read_study(write_study(arms=arms, against=["10"])).against == ("10",)


def test_missing_and_broken_files_are_one_line(tmp_path):
    refused(lambda: read_study(tmp_path / "none.yaml"), "none.yaml", "no such study file")
    (tmp_path / "broken.yaml").write_text("title: [")
    refused(lambda: read_study(tmp_path / "broken.yaml"), "not valid YAML")


STUDIES = sorted((Path(__file__).parents[3] / "studies").glob("*.yaml"))


@pytest.mark.parametrize("file", [f for f in STUDIES if not f.stem.startswith("sweep-")])
def test_shipped_study_is_valid(file):
    assert read_study(file).name == file.stem


def test_the_reference_page_has_every_key_and_its_example_is_a_study(tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "study-files.md").read_text(encoding="utf-8")
    keys = re.findall(r"^\| `(\w+)` \| (.+?) \|", page, re.M)
    known = [f.name for f in fields(Study) if f.name not in ("name", "text")]
    assert sorted(key for key, _ in keys) == sorted(known)
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "digits-wide.yaml").write_text((RECIPES / "digits.yaml").read_text())
    file = tmp_path / "example.yaml"
    file.write_text(example.replace("digits-wide.yaml", str(tmp_path / "digits-wide.yaml")))
    study = read_study(file)
    assert set(yaml.safe_load(example)) == set(known)
    assert study.config(str(tmp_path / "digits-wide.yaml"), 10, "ckd").student.width == 0.5
    for key, default in keys:
        given = {k: v for k, v in yaml.safe_load(file.read_text()).items() if k != key}
        file_without = tmp_path / "without.yaml"
        file_without.write_text(yaml.safe_dump(given))
        if default == "needed":
            refused(lambda: read_study(file_without), f"{key} is missing")  # noqa: B023
        elif key != "title":
            assert not [one for one in (getattr(read_study(file_without), key)) if one]
