"""What a sweep file says, and what it is refused for."""

import sys
from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from factories import refused
from spikebridge.base.files import file_sha256
from spikebridge.runs.sweep.space import nested, read_space
from spikebridge.runs.sweep.spec import read_sweep
from spikebridge.runs.sweep.storage import distribution

FILE = Path("s.yaml")


def test_values_lie_over_settings_method_and_label_budget(make_sweep):
    sweep = make_sweep(
        method="ckd", settings={"train": {"epochs": 3, "lr": 0.1}}, labelled_per_class=2
    )
    config = sweep.config({"train.lr": 0.7, "objective.kd_on": "rgb"})
    assert config.method == "ckd"
    assert (config.train.epochs, config.train.lr) == (3, 0.7)
    assert config.objective.kd_on == "rgb"
    assert config.data.split.labelled_per_class == 2
    assert sweep.base.train.lr == 0.1
    assert make_sweep(labelled_per_class="all").base.data.split.labelled_per_class is None


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("train.lr", {"low": 1, "high": 2}, FloatDistribution(1, 2)),
        ("train.lr", {"low": 0.1, "high": 2, "log": True}, FloatDistribution(0.1, 2, log=True)),
        ("train.lr", {"low": 0, "high": 1, "step": 0.3}, FloatDistribution(0, 0.9, step=0.3)),
        ("train.lr", {"low": 1, "high": 8, "int": True}, IntDistribution(1, 8)),
        ("train.batches_per_epoch", {"low": 2, "high": 9}, IntDistribution(2, 9)),
        ("train.epochs", {"low": 2, "high": 9, "step": 3}, IntDistribution(2, 8, step=3)),
        (
            "data.source.simulator.pos_threshold",
            {"low": 0.5, "high": 1},
            FloatDistribution(0.5, 1),
        ),
        ("objective.cka", {"choices": ["biased", None]}, CategoricalDistribution(["biased", None])),
        (
            "objective.replacement",
            {"choices": [{"shape": "linear"}, {"shape": "never"}]},
            CategoricalDistribution(['{"shape": "linear"}', '{"shape": "never"}']),
        ),
    ],
)
def test_ranges_are_optunas(name, given, expected):
    (setting,) = read_space(FILE, {name: given})
    assert distribution(setting) == expected


def test_found_values_have_four_digits_within_the_range():
    lr, shape, epochs = read_space(
        FILE,
        {
            "train.lr": {"low": 0.12344, "high": 0.2},
            "objective.replacement": {"choices": [{"shape": "linear"}, {"shape": "never"}]},
            "train.epochs": {"low": 2, "high": 9},
        },
    )
    assert lr.value(0.15432109) == 0.1543
    assert lr.value(0.12344) == 0.12344
    assert shape.value('{"shape": "never"}') == {"shape": "never"}
    assert epochs.value(7) == 7
    assert nested({"train.lr": 0.1, "train.epochs": 7}) == {"train": {"lr": 0.1, "epochs": 7}}


def lr(**given):
    return {"train.lr": {"low": 0.1, "high": 1.0} | given}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sapce": {}}, ["unknown key sapce", "did you mean space?"]),
        ({"space": None}, ["space is missing", "studies/sweep-digits.yaml"]),
        ({"recipe": "digit"}, ["did you mean digits?"]),
        ({"trials": 0}, ["trials is a whole number from 1, got 0"]),
        ({"labelled_per_class": [2]}, ["labelled_per_class is a number"]),
        ({"settings": {"seed": 3}}, ["seed is set by seeds"]),
        ({"settings": {"train": {"epoch": 3}}}, ["did you mean train.epochs?"]),
        ({"settings": {"data": {"split": {"protocol": "published", "labelled_per_class": None}}}},
         ["protocol published lets training see what tests"]),
        ({"settings": {"train": {"read_test": True}}}, ["must not see test recordings"]),
        ({"space": {"train.lrr": {"low": 1, "high": 2}}}, ["did you mean train.lr?"]),
        ({"space": {"train": {"low": 1, "high": 2}}}, ["train"]),
        ({"space": lr(hihg=2)}, ["unknown key hihg (did you mean high?)"]),
        ({"space": lr(low=2)}, ["train.lr: low must be below high"]),
        ({"space": lr(low="a")}, ["low must be a number, got 'a'"]),
        ({"space": lr(low=0, log=True)}, ["log needs low above 0"]),
        ({"space": lr(step=3)}, ["step must"]),
        ({"space": lr(low=-1)}, ["train.lr: -1", "train.lr must be positive"]),
        ({"space": lr(int=True)}, ["whole"]),
        ({"space": {"train.epochs": {"low": 1.5, "high": 2}}}, ["train.epochs is a whole number"]),
        ({"space": {"objective.cka": {"low": 1, "high": 2}}}, ["is no number: give it choices"]),
        ({"space": {"objective.cka": {"choices": ["biased", "biasd"]}}}, ["'biasd'"]),
        ({"space": {"objective.cka": {"choices": ["biased"]}}}, ["two values or more"]),
        ({"space": {"train.lr": {"choices": [1, 1]}}}, ["named twice"]),
        ({"space": {"seed": {"low": 1, "high": 2}}}, ["seed cannot be searched"]),
        ({"space": {"teacher.epochs": {"low": 1, "high": 2}}}, ["teacher is trained once"]),
        ({"space": {"data.split.validation_per_class": {"low": 1, "high": 4}}},
         ["same recordings"]),
        ({"method": "ckd", "space": {"data.augment.crop": {"low": 0, "high": 1}}},
         ["data.augment.crop", "it changes the teacher"]),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_that_names_them(write_sweep, changes, words):
    refused(lambda: read_sweep(write_sweep(**changes)), *words)


def test_augmentation_can_be_searched_where_there_is_no_teacher(make_sweep):
    assert make_sweep(space={"data.augment.crop": {"low": 0, "high": 1}}).space[0].whole


def test_shipped_sweep_is_valid():
    sweep = read_sweep(Path(__file__).parents[3] / "studies" / "sweep-digits.yaml")
    assert sweep.trials == 20
    assert len(sweep.space) == 4


def test_ones_own_loss_is_searched_by_its_source(make_sweep, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    (tmp_path / "searched.py").write_text("def one(*_):\n    ...\n\n\ndef other(*_):\n    ...\n")
    source = f"@{file_sha256(tmp_path / 'searched.py')[:12]}"
    sweep = make_sweep(
        settings={"objective": {"kd_loss": "searched:one"}},
        space={"objective.alignment": {"choices": ["cka", "searched:other"]}},
    )
    assert sweep.identity["settings"]["objective"]["kd_loss"] == f"searched:one{source}"
    assert sweep.identity["space"] == {"objective.alignment": f'"cka", "searched:other{source}"'}
    sys.modules.pop("searched")
