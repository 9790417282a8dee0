"""Every shipped recipe parses with every method, and its networks build and run."""

import pytest
import torch

from spikebridge.models.build import build_student
from spikebridge.models.teacher import build_teacher
from spikebridge.recipes import method_names, read_recipe, recipe_names
from spikebridge.settings import config_from


def test_recipes_and_methods_that_the_readme_promises():
    promised = {"digits", "nmnist", "caltech101", "ncaltech101", "cep-dvs", "cifar10-dvs"}
    assert promised <= set(recipe_names())
    assert set(method_names()) == {
        "scratch",
        "scratch+tet",
        "pretrain-finetune",
        "kt",
        "naive-kd",
        "kd-no-replacement",
        "kd-no-alignment",
        "ckd",
    }


@pytest.mark.parametrize("recipe", ["ncaltech101", "cep-dvs", "cifar10-dvs", "nmnist"])
def test_recipes_of_published_sets_use_their_loaders(recipe):
    data = config_from(read_recipe(recipe), recipe).data
    assert data.name == recipe
    assert data.events is not None
    assert data.photos is not None
    assert (data.extent == "recording") == (recipe in ("ncaltech101", "cep-dvs"))


@pytest.mark.parametrize("method", method_names())
@pytest.mark.parametrize("recipe", recipe_names())
def test_recipe_parses(recipe, method):
    config = config_from(read_recipe(recipe, method), recipe)
    assert config.method == method
    objective = config.objective
    hybrid = objective.hybrid_until > 0
    assert hybrid == (method not in ("scratch", "scratch+tet"))
    distils = hybrid and objective.kd_weight > 0 and objective.distillation.shape != "none"
    assert distils == (method in ("ckd", "naive-kd", "kd-no-replacement", "kd-no-alignment"))
    aligns = hybrid and objective.alignment_weight > 0
    assert aligns == (method in ("kt", "ckd", "naive-kd", "kd-no-replacement"))
    replaces = hybrid and objective.replacement.shape != "never"
    assert replaces == (method in ("kt", "ckd", "naive-kd", "kd-no-alignment"))


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
