"""What the objective is tested with: a small student, a batch, a teacher, hybrid frames by hand."""

import copy
import math

import numpy as np
import torch

from spikebridge.ckd.objective import CKDObjective
from spikebridge.data.feed.batches import Batch
from spikebridge.models.build import build_student
from spikebridge.settings.parsing import config_from
from spikebridge.settings.presets import merge, methods

STEPS, SAMPLES, CLASSES, SIZE = 3, 8, 5, (8, 8)
THRESHOLD = 0.6
SEED = 11


def make(method="ckd", **switches):
    """Objective and student of a method with further objective switches."""
    settings = {
        "data": {"time_steps": STEPS, "size": list(SIZE)},
        "student": {"width": 1 / 16, "threshold": THRESHOLD},
    }
    settings = merge(merge(settings, methods()[method].settings), {"objective": switches})
    config = config_from(settings, "test")
    torch.manual_seed(0)
    student = build_student(config.student, CLASSES, SIZE, two_heads=config.objective.two_heads)
    for module in student.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # So that every layer fires from step 1 on.
            torch.nn.init.uniform_(module.weight, 0.8, 1.5)
            torch.nn.init.uniform_(module.bias, -0.1, 0.4)
    features = student.head_dvs.in_features
    return CKDObjective(config.objective, STEPS, config.student.threshold, features), student


def make_batch(samples=SAMPLES, photo_size=16, simulated=True):
    random = torch.Generator().manual_seed(5)
    shape = (STEPS, samples, 2, *SIZE)
    return Batch(
        dvs_TBCHW=torch.poisson(torch.full(shape, 0.7), generator=random),
        label_B=torch.arange(samples) % CLASSES,
        photo_B3HW=torch.rand(samples, 3, photo_size, photo_size, generator=random),
        simulated_TBCHW=torch.rand(shape, generator=random) * 2 if simulated else None,
        recording_B=torch.arange(samples),
        source_B=torch.arange(samples),
    )


class CountingTeacher:
    """Made-up logits; remembers the photos that it was asked about."""

    def __init__(self):
        self.asked = []

    def __call__(self, photo_B3HW):
        self.asked.append(photo_B3HW)
        return self.logits(photo_B3HW)

    @staticmethod
    def logits(photo_B3HW):
        samples = len(photo_B3HW)
        return photo_B3HW.mean((1, 2, 3))[:, None] + torch.linspace(
            -3, 3, samples * CLASSES
        ).reshape(CLASSES, samples).T.flip(0)


def generator():
    return torch.Generator().manual_seed(SEED)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def phased(u):
    """W(u) with u1 = 0.4, u2 = 0.8 and slope 10."""
    if u < 0.4:
        return 1.0
    if u >= 0.8:
        return 0.0
    low, high = sigmoid(-5), sigmoid(5)
    return 1 - (sigmoid(10 * ((u - 0.4) / 0.4 - 0.5)) - low) / (high - low)


def rows_replaced(probability, samples=SAMPLES):
    return torch.rand(samples, generator=generator()) < probability


def steps_replaced(probability, samples=SAMPLES):
    return torch.rand(STEPS, samples, generator=generator()) < probability


def photo_frames(batch):
    """Equation 3: V = max(R, G, B), halved, repeated over polarity and time."""
    value_BHW = batch.photo_B3HW.amax(1)
    value_BHW = value_BHW.unflatten(1, (8, 2)).unflatten(3, (8, 2)).mean((2, 4))
    return value_BHW[None, :, None].repeat(STEPS, 1, 2, 1, 1)


def hybrid_frames(batch, replaced, source=None):
    """The source with the events in the place of the replaced samples (B) or steps (T, B)."""
    frames = photo_frames(batch) if source is None else source.clone()
    for t, b in np.ndindex(*frames.shape[:2]):
        if replaced[b] if replaced.ndim == 1 else replaced[t, b]:
            frames[t, b] = batch.dvs_TBCHW[t, b]
    return frames


def outputs(student, batch, frames):
    """Both streams' outputs in NumPy, of copies of the student."""
    found = []
    for stream, x_TBCHW in (("hybrid", frames), ("dvs", batch.dvs_TBCHW)):
        output = copy.deepcopy(student)(x_TBCHW, stream)
        found += [output.logits_TBC.detach().numpy(), output.membrane_TBN.detach().numpy()]
        assert (found[-1].std(1).max(1) > 0.1).all()
    return found


def perceived(objective, student, frames, replaced_TB):
    """TMKT's auxiliary losses with weights 0.1, by hand from the heads' weights."""
    features_TBF = copy.deepcopy(student)(frames, "hybrid").features_TBF.detach().numpy()
    weights = {k: v.detach().numpy() for k, v in objective.mixup_heads.named_parameters()}
    logit_TB = features_TBF @ weights["modality.weight"][0] + weights["modality.bias"]
    signs_TB = np.where(replaced_TB, 1, -1)
    modality = np.log1p(np.exp(-signs_TB * logit_TB)).mean()
    logit_B = features_TBF.mean(0) @ weights["ratio.weight"][0] + weights["ratio.bias"]
    share_B = replaced_TB.numpy().mean(0)
    return 0.1 * modality, 0.1 * ((1 / (1 + np.exp(-logit_B)) - share_B) ** 2).mean()
