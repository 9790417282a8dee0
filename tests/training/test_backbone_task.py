"""What a backbone learns, step by step, beside plain PyTorch; and how its curve is counted."""

import dataclasses

import numpy as np
import pytest
import torch
from step_checks import steps_of
from torch.nn import functional as F

from factories import bar_photos, refused, tiny_recipe
from pretend_cuda import CUDA, pretend
from spikebridge.ckd.losses import embedding_loss
from spikebridge.data.pool import gather_pool
from spikebridge.models.build import build_student
from spikebridge.models.settings import TeacherConfig
from spikebridge.models.teacher import build_teacher
from spikebridge.runs.backbone import _photo_sets, backbone_settings
from spikebridge.settings.parsing import config_from
from spikebridge.settings.presets import merge
from spikebridge.training.backbone import BackboneTask, neighbour_logits

CPU = torch.device("cpu")
VIEWS = {"crop": 0.5, "flip": True, "contrast": 0.3, "mixup": True}


def test_embedding_loss_is_plain_pytorchs():
    torch.manual_seed(0)
    p_BE = torch.randn(5, 7, requires_grad=True)
    t_BE, pool_NE = (F.normalize(torch.randn(n, 7), dim=1) for n in (5, 11))
    expected = 0.0
    for p, t in zip(p_BE, t_BE, strict=True):
        p = p / p.norm()
        of_t, of_p = ((pool_NE @ x / 0.1).softmax(0) for x in (t, p))
        expected += 2 * (1 - p @ t) + (of_t * (of_t.log() - of_p.log())).sum()
    loss = embedding_loss(p_BE, t_BE, pool_NE)
    assert loss.item() == pytest.approx(expected.item() / 5, rel=1e-5)
    ours, theirs = (torch.autograd.grad(x, p_BE)[0] for x in (loss, expected / 5))
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert embedding_loss(3 * t_BE, t_BE, pool_NE).item() == pytest.approx(0, abs=1e-5)


def test_neighbours_vote_by_their_likeness():
    random = np.random.default_rng(0)
    query_MF, reference_NF = (random.standard_normal((n, 4)) for n in (6, 30))
    label_N = random.integers(3, size=30)
    found_MC = neighbour_logits(
        torch.from_numpy(query_MF), torch.from_numpy(reference_NF), torch.from_numpy(label_N), 3
    ).exp()
    for query, found in zip(query_MF, found_MC.numpy(), strict=True):
        lengths = np.linalg.norm(reference_NF, axis=1) * np.linalg.norm(query)
        cosine_N = reference_NF @ query / lengths
        near = np.argsort(-cosine_N)[:10]
        votes = np.exp(cosine_N[near] / 0.07)
        shares = [votes[label_N[near] == c].sum() / votes.sum() for c in range(3)]
        assert found == pytest.approx(np.array(shares) + 1e-4, abs=1e-6)
    few = neighbour_logits(torch.eye(2), torch.eye(2), torch.tensor([1, 0]), 2)
    assert few.argmax(1).tolist() == [1, 0]


@pytest.fixture
def make_task(tmp_path):
    """Makes a backbone's task on photos of bars, and notes what its student is shown."""
    bar_photos(tmp_path / "photos", count=8)

    def make(learn="labels", unlabelled=(), views=VIEWS, device=CPU, train=None):
        changes = {"data": {"photo_views": views}, "train": train or {}}
        settings = merge(tiny_recipe(tmp_path), changes)
        settings["backbone"] = {"photos": [str(tmp_path / "photos")], "learn": learn}
        config = backbone_settings(config_from(settings, "made"))
        pool = gather_pool(
            config.backbone.photos,
            [],
            exclude=[],
            held=None,
            share=0.2,
            named=True,
            seed=0,
            cache=tmp_path / "cache",
        ).pool
        photos = [
            dataclasses.replace(p, class_name="" if p.class_name in unlabelled else p.class_name)
            for p in pool.photos
        ]
        pool = dataclasses.replace(pool, photos=tuple(photos))
        torch.manual_seed(0)
        teacher = build_teacher(TeacherConfig(width=0.25), 2).eval()
        task = BackboneTask(
            build_student(config.student, len(pool.classes) or 1, (8, 8), two_heads=False),
            _photo_sets(config.data, pool),
            config.data,
            config.train,
            labels=learn != "embedding",
            embedding=0 if learn == "labels" else 4 * 32,
            seed=0,
            device=device,
        )
        task.teacher = teacher.to(device)
        return task

    return make


@pytest.mark.parametrize("unlabelled", [(), ("down",)])
def test_labels_are_mixed_as_their_photos_are(make_task, unlabelled):
    task = make_task("both", unlabelled)
    label_N, lacking = task.photos["train"].label_N, 0
    for step in range(4):
        inputs = task.batch(step)
        drawn = inputs.tensors
        losses = task.losses_of(inputs).losses
        view_B3HW, x_TBCHW = task.batches.assembled(drawn)
        output = task.student(x_TBCHW)
        log_BC, expected = output.logits_TBC.mean(0).log_softmax(1), 0.0
        for b in range(len(drawn.label_B)):
            share, partner = drawn.mixup.share_B[b].item(), drawn.mixup.partner_B[b]
            for weight, label in ((share, drawn.label_B[b]), (1 - share, drawn.label_B[partner])):
                expected -= weight * log_BC[b, label].item() if label >= 0 else 0.0
                lacking += int(label < 0)
        assert losses["labels"].item() == pytest.approx(expected / len(log_BC), rel=1e-4)

        kept_N3HW = torch.from_numpy(task.photos["train"].photos_N3HW[:]).float() / 255
        with torch.no_grad():
            feature_NE = task.teacher.network[:-1]((kept_N3HW - 0.5) / 0.5)
            target_BE = task.teacher.network[:-1]((view_B3HW - 0.5) / 0.5)
        mean, deviation = feature_NE.mean(0), feature_NE.std(0).clamp(min=1e-6)
        pool_NE, target_BE = (
            F.normalize((x - mean) / deviation, dim=1) for x in (feature_NE, target_BE)
        )
        p_BE = task.extras(output.features_TBF.mean(0))
        expected = embedding_loss(p_BE, target_BE, pool_NE).item()
        assert losses["embedding"].item() == pytest.approx(expected, rel=1e-4)
    assert bool(lacking) == bool(unlabelled) == bool((label_N < 0).any())


def test_every_photo_comes_once_a_pass_and_each_time_otherwise(make_task):
    task = make_task()
    count, batch = len(task.photos["train"].label_N), task.batches.batch_size
    steps = count * batch // np.gcd(count, batch) // batch
    seen, label_N = [], task.photos["train"].label_N
    for step in range(steps):
        seen += task.batch(step).tensors.label_B.tolist()
    assert np.bincount(seen).tolist() == (np.bincount(label_N) * (steps * batch // count)).tolist()
    again = task.batch(2).tensors
    assert torch.equal(again.takes.seed_B, task.batch(2).tensors.takes.seed_B)
    first, second = (task.batches.assembled(task.batch(s).tensors)[1] for s in (0, 0))
    assert torch.equal(first, second)


@pytest.mark.parametrize("learn", ["labels", "embedding"])
def test_the_curve_is_of_photos_that_are_not_trained_on_and_changes_nothing(make_task, learn):
    task = make_task(learn, unlabelled=() if learn == "labels" else ("across", "down", "slope"))
    before = {k: v.clone() for k, v in task.model.state_dict().items()}
    one, other = task.validate(), task.validate()
    assert torch.equal(one.logits_NC, other.logits_NC)
    assert set(one.files) <= set(task.photos["validation"].files)
    assert not set(one.files) & set(task.photos["train"].files)
    assert task.model.training
    assert all(torch.equal(v, before[k]) for k, v in task.model.state_dict().items())
    if learn == "embedding":  # Each photo is its own class.
        assert one.label_N.tolist() == list(range(len(one.files)))


@pytest.mark.parametrize("batches", [None, 2])
def test_a_batch_is_never_more_than_all_photos(make_task, batches):
    task = make_task(train={"batch_size": 1000, "batches_per_epoch": batches})
    count = len(task.photos["train"].label_N)
    assert len(task.batch(1).tensors.label_B) == count
    fitting = make_task(train={"batch_size": count, "batches_per_epoch": batches})
    assert task.settings == fitting.settings
    assert task.settings.batches_per_epoch == (batches or 1)


@pytest.mark.parametrize("learn", ["labels", "both"])
def test_a_step_is_captured_and_computes_what_a_cpu_does(make_task, monkeypatch, learn):
    monkeypatch.setattr("spikebridge.base.graphs._WARM", 1)
    here = steps_of(make_task(learn))
    with pretend():
        there = steps_of(make_task(learn, device=CUDA))
    assert here[0] == there[0]
    for name, value in here[1].items():
        assert torch.equal(value, there[1][name]), name
    _, _, waits, graphs = there
    assert sum(graph.replays for graph, _ in graphs._captured.values()) >= 2
    # The teacher's embeddings of the pool, once.
    assert [w for w in waits if "backbone.py" not in w] == []


def test_a_teacher_of_ones_own_has_no_known_embedding():
    config = TeacherConfig(name="factories:own_network")
    teacher = build_teacher(config, 2)
    refused(lambda: teacher.embed(torch.zeros(1, 3, 8, 8)), "own_network", "backbone.learn")
