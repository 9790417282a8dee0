"""Photos without labels: a labeller answers once on each, and what is like its class joins it."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.optimize import root_scalar
from torch import Tensor

from spikebridge.base.console import working
from spikebridge.base.devices import all_to_device
from spikebridge.data.feed.sets import PhotoSet
from spikebridge.data.frames import network_input
from spikebridge.data.manifest import UNKNOWN
from spikebridge.data.prepared import PreparedData
from spikebridge.models.student import Student
from spikebridge.models.teacher import MeanClassifier, Teacher, classifier
from spikebridge.training.evaluate import evaluate_teacher
from spikebridge.training.precision import Autocast

_BATCH = 100
_FIRST, _NEARLY = 10, 0.75
"""So many of a class are taken the first time if their likeness is such a share of the bar."""


@dataclass(frozen=True)
class Answered:
    """What a labeller answered on the photos without labels, N of them."""

    photos: PhotoSet
    """Their labels are those that a study hides, or `UNKNOWN`."""
    labeller: str
    """`teacher` or `student`."""
    least_likeness: float
    """From which on a photo is taken."""
    answer_N: np.ndarray
    """Class indices."""
    likeness_N: np.ndarray
    """Of each photo to that class, from `nearest_class`."""

    @cached_property
    def accepted_K(self) -> np.ndarray:
        """Indices of the photos that are taken."""
        return np.flatnonzero(self.likeness_N >= self.least_likeness)

    def beside(self, photos: PhotoSet) -> PhotoSet:
        """Labelled photos and, behind them, those that are taken."""
        accepted_K = self.accepted_K
        return photos.with_answers(self.photos, accepted_K, self.answer_N[accepted_K])

    def told(self, classes: Sequence[str]) -> dict[str, Any]:
        """What became of them, for ``result.json``."""
        accepted_K, label_N = self.accepted_K, self.photos.label_N
        counts = Counter(self.answer_N[accepted_K].tolist())
        known_K = accepted_K[label_N[accepted_K] != UNKNOWN]
        return {
            "photos": len(label_N),
            "labeller": self.labeller,
            "accepted": len(accepted_K),
            "turned_away": len(label_N) - len(accepted_K),
            "accepted_by_class": {name: counts[i] for i, name in enumerate(classes)},
            # Of those whose label a study hides.
            "known": int((label_N != UNKNOWN).sum()),
            "known_accepted": len(known_K),
            "known_right": int((self.answer_N[known_K] == label_N[known_K]).sum()),
        }

    def text(self, classes: Sequence[str]) -> str:
        """All of it as CSV."""
        text, accepted = io.StringIO(), set(self.accepted_K.tolist())
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("file", "class", "answer", "likeness", "accepted"))
        for row, file in enumerate(self.photos.files):
            label = int(self.photos.label_N[row])
            known = "" if label == UNKNOWN else classes[label]
            like = f"{self.likeness_N[row]:.4f}"
            writer.writerow((file, known, classes[self.answer_N[row]], like, row in accepted))
        return text.getvalue()


def left_out(photos: int) -> dict[str, Any]:
    """What ``result.json`` says where nobody answers on so many photos."""
    return {"photos": photos, "labeller": None, "accepted": 0, "turned_away": photos}


def answers(
    model: Teacher | Student,
    data: PreparedData,
    least_likeness: float,
    device: torch.device,
    autocast: Autocast,
) -> tuple[np.ndarray, np.ndarray, MeanClassifier]:
    """Answer on each plain photo without a label; the same model gives the same bits.

    Args:
        model: A teacher sees the photo, a student a simulated recording of it.
        data: With such photos.
        least_likeness: From which on a photo is taken.
        device: Where the model is.
        autocast: Precision.

    Returns:
        answer_N and likeness_N in the model's features, from `answer_twice`, and what tells the
        classes by these features, from `mean_classifier`.
    """
    assert data.unlabelled is not None
    labelled = data.photos["train"]
    seen = _seen_by_teacher if isinstance(model, Teacher) else _seen_by_student
    with working(f"answering on {len(data.unlabelled.files):,} photos without labels"):
        known_MF, features_NF = (
            seen(model, photos, data, device, autocast).numpy()
            for photos in (labelled, data.unlabelled)
        )
    known = known_MF, labelled.label_N
    answer_N, likeness_N = answer_twice(features_NF, *known, least_likeness)
    known = _joined(*known, features_NF, answer_N, likeness_N >= least_likeness)
    centre_F = mean_of_all(features_NF, known_MF)
    return answer_N, likeness_N, mean_classifier(*known, centre_F, len(data.classes))


def answer_twice(
    features_NF: np.ndarray, known_MF: np.ndarray, label_M: np.ndarray, least_likeness: float
) -> tuple[np.ndarray, np.ndarray]:
    """Tell each photo's class as `nearest_class` does, then again by what was taken.

    One labelled photo says little of its class; with those that are like it the class is better
    known (a refined prototype, Ren et al., arXiv 1803.00676). The first time each class takes its
    ten most like photos, too, if they are nearly like enough: of a class whose labelled photo is
    unlike the others, none would be. Likeness is seen from the mean of all photos, labelled or not.

    Args:
        features_NF: Of the photos.
        known_MF: Features of labelled photos.
        label_M: Their classes.
        least_likeness: From which on a photo is taken.

    Returns:
        answer_N and likeness_N.
    """
    centre_F = mean_of_all(features_NF, known_MF)
    answer_N, likeness_N = nearest_class(features_NF, known_MF, label_M, centre_F)
    taken_N = likeness_N >= least_likeness
    order_N = np.argsort(-likeness_N, kind="stable")
    for label in np.unique(answer_N):
        first_K = order_N[answer_N[order_N] == label][:_FIRST]
        taken_N[first_K[likeness_N[first_K] >= _NEARLY * least_likeness]] = True
    known = _joined(known_MF, label_M, features_NF, answer_N, taken_N)
    return nearest_class(features_NF, *known, centre_F)


def mean_of_all(features_NF: np.ndarray, known_MF: np.ndarray) -> np.ndarray:
    """Average features over all photos, those without labels and those with one: centre_F."""
    return np.concatenate([features_NF, known_MF]).mean(0)


def nearest_class(
    features_NF: np.ndarray, known_MF: np.ndarray, label_M: np.ndarray, centre_F: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Tell which class each photo is most like, and how much.

    The likeness is the cosine between a photo's features and the mean direction of the class's,
    both seen from a centre (SimpleShot's CL2N, arXiv 1911.04623). Unlike a classifier's probability
    it hardly depends on how long that was trained.

    Args:
        features_NF: Of the photos.
        known_MF: Features of photos whose class is known.
        label_M: Their classes; one without a photo is the answer to none.
        centre_F: Where features are seen from.

    Returns:
        answer_N, classes, and likeness_N in [−1, 1].
    """
    class_C, mean_CF = _class_means(known_MF, label_M, centre_F)
    like_NC = _normalised(features_NF - centre_F) @ mean_CF.T
    return class_C[like_NC.argmax(1)], like_NC.max(1)


def mean_classifier(
    known_MF: np.ndarray,
    label_M: np.ndarray,
    centre_F: np.ndarray,
    classes: int,
    confidence: float = 0.9,
) -> MeanClassifier:
    """What tells classes as `nearest_class` does, with probabilities.

    Args:
        known_MF: Features of photos whose class is known.
        label_M: Their classes.
        centre_F: Where features are seen from.
        classes: Number of all classes C.
        confidence: Mean over these photos of the greatest probability.
    """
    class_C, own_CF = _class_means(known_MF, label_M, centre_F)
    like_MC = _normalised(known_MF - centre_F) @ own_CF.T
    below_MC = like_MC - like_MC.max(1, keepdims=True)

    def excess(sharpness: float) -> float:
        return (1 / np.exp(sharpness * below_MC).sum(1)).mean() - confidence

    least, most = 1.0, 1000.0  # Beyond: photos that are all alike, or a single class.
    sharpness = least if excess(least) >= 0 else most
    if sharpness == most and excess(most) > 0:
        sharpness = root_scalar(excess, bracket=(least, most)).root
    mean_CF = np.zeros((classes, known_MF.shape[1]))
    mean_CF[class_C] = own_CF
    means = torch.from_numpy(centre_F).float(), torch.from_numpy(mean_CF).float()
    return MeanClassifier(*means, sharpness)


def _joined(
    known_MF: np.ndarray,
    label_M: np.ndarray,
    features_NF: np.ndarray,
    answer_N: np.ndarray,
    taken_N: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Labelled photos and those that are taken: features and classes."""
    return (
        np.concatenate([known_MF, features_NF[taken_N]]),
        np.append(label_M, answer_N[taken_N]),
    )


def _class_means(
    known_MF: np.ndarray, label_M: np.ndarray, centre_F: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The classes among them, and the direction of each one's mean from the centre, mean_CF."""
    class_C, row_M = np.unique(label_M, return_inverse=True)
    mean_CF = np.zeros((len(class_C), known_MF.shape[1]))
    np.add.at(mean_CF, row_M, _normalised(known_MF - centre_F))
    return class_C, _normalised(mean_CF)


def _normalised(x_NF: np.ndarray) -> np.ndarray:
    """Vectors of length 1; one without a direction stays 0."""
    x_NF = np.asarray(x_NF, np.float64)
    length_N1 = np.linalg.norm(x_NF, axis=1, keepdims=True)
    return x_NF / np.maximum(length_N1, np.finfo(np.float32).tiny)


def _seen_by_teacher(
    teacher: Any, photos: PhotoSet, data: PreparedData, device: torch.device, autocast: Autocast
) -> Tensor:
    """What its linear classifier is given, features_NF; its logits where it has none."""
    linear = classifier(teacher.network, len(data.classes))
    if linear is None:
        return evaluate_teacher(teacher, photos, device=device, autocast=autocast).logits_NC
    noted: list[Tensor] = []
    hook = teacher.network.get_submodule(linear).register_forward_pre_hook(
        lambda _, given: noted.append(given[0].detach().float().flatten(1).cpu())
    )
    try:
        evaluate_teacher(teacher, photos, device=device, autocast=autocast)
    finally:
        hook.remove()
    return torch.cat(noted)


@torch.no_grad()
def _seen_by_student(
    student: Any, photos: PhotoSet, data: PreparedData, device: torch.device, autocast: Autocast
) -> Tensor:
    """What its head for recordings is given, features_NF, of one recording of each photo."""
    student.eval()
    features = []
    for start in range(0, len(photos.files), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(photos.files)))
        x_BTCHW = network_input(_recorded(photos, rows, data, device), data.events["train"].scale)
        with autocast():
            output = student(torch.from_numpy(x_BTCHW).to(device).transpose(0, 1), "dvs")
        features.append(output.features_TBF.float().mean(0).cpu())
    return torch.cat(features)


def _recorded(
    photos: PhotoSet, rows: np.ndarray, data: PreparedData, device: torch.device
) -> np.ndarray:
    """One recording of some photos as counts x_NTCHW: the first that was simulated, or a new one.

    A new one is by the camera in the middle, and depends on the photo and its place alone.
    """
    if photos.simulated_NTCHW is not None:
        return photos.simulated_NTCHW[rows]
    source = photos.step_source
    assert source is not None
    time_steps, _, height, width = data.events["train"].frames_NTCHW.shape[1:]
    converter = source.converter((height, width), time_steps, device)
    takes = converter.takes([source.simulator] * len(rows), rows.tolist())
    photo_B3HW = torch.from_numpy(photos.photos_N3HW[rows]).to(device).float().div_(255)
    return converter(photo_B3HW, all_to_device(takes, device)).cpu().numpy().astype(np.uint16)
