"""A third thing that is trained: a student's backbone, on photos of anything."""

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikebridge.ckd.losses import embedding_loss, mean_logits_loss
from spikebridge.ckd.result import StepResult
from spikebridge.data.feed.photo_batches import DrawnPhotos, PhotoBatches
from spikebridge.data.feed.sets import PhotoSet
from spikebridge.data.settings import DataConfig
from spikebridge.models.fast.inference import deploy
from spikebridge.models.student import Student
from spikebridge.models.teacher import Teacher
from spikebridge.training.evaluate import Evaluation
from spikebridge.training.loop import LoopSettings, Task
from spikebridge.training.precision import make_autocast
from spikebridge.training.settings import TrainConfig
from spikebridge.training.step import StepInputs

_NEIGHBOURS = 10
_SHARPNESS = 0.07
_REFERENCE, _QUERIES = 1000, 500
"""Training photos, at most, among which neighbours are looked for, and photos that have them."""
_POOL = 8192
"""Photos, at most, to which relations are learnt."""
_CHUNK = 100
_SOME = 0x50AE


class BackboneTask(Task):
    """Photos become recordings in the step; the student learns their labels, or an embedding.

    Set ``teacher`` where an embedding is learnt. The curve is of photos that are not trained on:
    how often the k nearest training photos, by the features of their recordings, have their label;
    without labels, how often the student's embedding of a recording is nearest to the teacher's of
    the photo itself, among all these photos. It selects nothing, for what counts is what the
    features are worth elsewhere; the last weights are kept.

    Args:
        student: What is trained; its head is for the labels.
        photos: By split, train and validation; label −1 where there is none.
        data: Frames and views.
        train: Batches, optimiser, precision.
        labels: Whether labels are learnt.
        embedding: The teacher's number of features where its embedding is learnt, else 0.
        seed: Seed of all draws.
        device: Where it is trained.
    """

    selects = False

    def __init__(
        self,
        student: Student,
        photos: dict[str, PhotoSet],
        data: DataConfig,
        train: TrainConfig,
        *,
        labels: bool,
        embedding: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self.model, self.student = student.to(device), student
        student.backbone.low_memory = train.memory == "low"
        self.extras = nn.Module()
        if embedding:
            self.extras = nn.Linear(student.head_dvs.in_features, embedding).to(device)
        self.teacher: Teacher | None = None
        self.labels, self.embedding = labels, bool(embedding)
        self.photos, self.seed, self.device = photos, seed, device
        self.autocast = make_autocast(train.precision, device)
        self.captures = train.cuda_graph
        photo_count = len(photos["train"].label_N)
        batch_size = min(train.batch_size, photo_count)
        self.batches = PhotoBatches(
            photos["train"], data, batch_size=batch_size, seed=seed, device=device
        )
        count = train.batches_per_epoch or -(-photo_count // batch_size)
        self.settings = LoopSettings(
            epochs=train.epochs,
            batches_per_epoch=count,
            lr=train.lr * batch_size / 1024,
            weight_decay=train.weight_decay,
            warmup_steps=train.warmup_epochs * count,
            evaluate_every=train.evaluate_every,
            checkpoint_minutes=train.checkpoint_minutes,
            ema=train.ema,
        )

    def batch(self, step: int) -> StepInputs:
        """Photos, how they are shown and how they are recorded."""
        return StepInputs(step, self.batches.drawn(step), {})

    def losses(self, tensors: DrawnPhotos) -> StepResult:
        """Cross-entropy of the labels, and the embedding's loss, as far as they are learnt."""
        view_B3HW, x_TBCHW = self.batches.assembled(tensors)
        losses = {}
        with self.autocast():
            output = self.student(x_TBCHW)
            if self.labels:
                share_BC = _shares(tensors, self.student.head_dvs.out_features)
                losses["labels"] = mean_logits_loss(output.logits_TBC, share_BC)
            if self.embedding:
                target_BE = self._embedded(view_B3HW)
                p_BE = self.extras(output.features_TBF.mean(0))
                losses["embedding"] = embedding_loss(p_BE, target_BE, self._teaching[2])
        return StepResult(losses, {})

    # The teacher's embedding ----------------------------------------------------------------------

    @cached_property
    def _teaching(self) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and deviation of the teacher's features over training photos, and its embeddings of
        these, to which relations are learnt."""
        feature_NE = self._taught("train", self._some("train", _POOL), self._features)
        scale = feature_NE.mean(0), feature_NE.std(0).clamp(min=1e-6)
        return *scale, F.normalize((feature_NE - scale[0]) / scale[1], dim=1)

    @torch.no_grad()
    def _embedded(self, photo_B3HW: Tensor) -> Tensor:
        mean_E, deviation_E, _ = self._teaching
        return F.normalize((self._features(photo_B3HW) - mean_E) / deviation_E, dim=1)

    @torch.no_grad()
    def _features(self, photo_B3HW: Tensor) -> Tensor:
        assert self.teacher is not None
        with self.autocast():
            return self.teacher.embed(photo_B3HW).float()

    # The curve ------------------------------------------------------------------------------------

    def validate(self) -> Evaluation:
        """Photos that are not trained on, by their neighbours or by the teacher's embedding."""
        held = self.photos["validation"]
        if self.by_labels:
            reference_N, query_M = (
                self._some(split, most, labelled=True)
                for split, most in (("train", _REFERENCE), ("validation", _QUERIES))
            )
            logits_MC = neighbour_logits(
                self._recorded("validation", query_M),
                self._recorded("train", reference_N),
                torch.from_numpy(self.photos["train"].label_N[reference_N]),
                self.student.head_dvs.out_features,
            )
            label_M = held.label_N[query_M]
        else:
            query_M = self._some("validation", _QUERIES)
            with torch.no_grad():
                p_ME = self.extras(self._recorded("validation", query_M).to(self.device))
            target_ME = self._taught("validation", query_M, self._embedded)
            logits_MC = (F.normalize(p_ME, dim=1) @ target_ME.mT / 0.1).cpu()
            label_M = np.arange(len(query_M))
        return Evaluation(logits_MC, label_M, tuple(held.files[i] for i in query_M), {})

    @property
    def by_labels(self) -> bool:
        """Whether the curve is of the photos' labels."""
        return all((photos.label_N >= 0).any() for photos in self.photos.values())

    def _some(self, split: str, most: int, *, labelled: bool = False) -> np.ndarray:
        """Rows of some photos of a split, the same at each call, in order."""
        row_N = np.flatnonzero(self.photos[split].label_N >= (0 if labelled else -1))
        return np.sort(np.random.default_rng([self.seed, _SOME]).permutation(row_N)[:most])

    def _recorded(self, split: str, row_N: np.ndarray) -> Tensor:
        """What the student makes of recordings of some photos, mean over T, feature_NF on the CPU.

        A photo is recorded alike each time, and as it is, without a view.
        """
        training = self.student.training
        network: nn.Module = self.student.eval()
        if self.device.type == "cpu":
            with self.autocast():
                network = deploy(self.student)

        @torch.no_grad()
        def features(photo_B3HW: Tensor, row_B: np.ndarray) -> Tensor:
            x_TBCHW = self.batches.recorded(photo_B3HW, row_B.tolist())
            with self.autocast():
                return network(x_TBCHW).features_TBF.float().mean(0).cpu()

        found_NF = self._each(split, row_N, features)
        self.student.train(training)
        return found_NF

    def _taught(
        self, split: str, row_N: np.ndarray, function: Callable[[Tensor], Tensor]
    ) -> Tensor:
        return self._each(split, row_N, lambda photo_B3HW, _: function(photo_B3HW))

    def _each(
        self, split: str, row_N: np.ndarray, function: Callable[[Tensor, np.ndarray], Tensor]
    ) -> Tensor:
        """A function of some photos in [0, 1] and their rows, a hundred at a time."""
        found = []
        for row_B in np.array_split(row_N, -(-len(row_N) // _CHUNK)):
            photo_B3HW = torch.from_numpy(self.photos[split].photos_N3HW[row_B])
            photo_B3HW = photo_B3HW.to(self.device).float().div_(255)
            found.append(function(photo_B3HW, row_B))
        return torch.cat(found)


def _shares(drawn: DrawnPhotos, classes: int) -> Tensor:
    """Shares of the classes in photos that may be mixed, share_BC; none of one without a label."""

    def one_hot(label_B: Tensor) -> Tensor:
        return F.one_hot(label_B.clamp(min=0), classes) * (label_B >= 0)[:, None]

    own_BC = one_hot(drawn.label_B).float()
    if drawn.mixup is None:
        return own_BC
    share_B1 = drawn.mixup.share_B[:, None]
    return share_B1 * own_BC + (1 - share_B1) * one_hot(drawn.mixup.label_B)


def neighbour_logits(
    query_MF: Tensor, reference_NF: Tensor, label_N: Tensor, classes: int
) -> Tensor:
    """Classify by the nearest neighbours (Wu et al., CVPR 2018): each votes by exp(cosine / 0.07).

    Args:
        query_MF: Features of what is classified.
        reference_NF: Features of what is known.
        label_N: Its classes.
        classes: C.

    Returns:
        Logarithms of the shares of votes, logit_MC.
    """
    query_MF, reference_NF = (F.normalize(x, dim=1) for x in (query_MF, reference_NF))
    near = (query_MF @ reference_NF.mT).topk(min(_NEIGHBOURS, len(label_N)), dim=1)
    votes_MC = query_MF.new_zeros(len(query_MF), classes)
    votes_MC.scatter_add_(1, label_N[near.indices], (near.values / _SHARPNESS).softmax(1))
    return (votes_MC + 1e-4).log()
