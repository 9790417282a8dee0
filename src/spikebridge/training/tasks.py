"""The two things that are trained: a spiking student by CKD, and an ANN teacher on photos."""

from collections.abc import Callable
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikebridge.base.distributed import share, size, total
from spikebridge.base.errors import UserError
from spikebridge.ckd.objective import CKDObjective, Draws
from spikebridge.ckd.result import StepResult
from spikebridge.data.feed.augment import Moves, draw_geometry
from spikebridge.data.feed.batches import Batch, DrawnBatch, PairedBatches
from spikebridge.data.feed.resident import Room, Rows
from spikebridge.data.feed.sets import PhotoSet
from spikebridge.data.manifest import LAST_EPOCH
from spikebridge.data.prepared import PreparedData
from spikebridge.data.settings import AugmentConfig, PhotoViewConfig
from spikebridge.models.neurons.norm import StreamBatchNorm2d
from spikebridge.models.settings import TeacherConfig
from spikebridge.models.student import Student
from spikebridge.models.teacher import Teacher
from spikebridge.training.evaluate import Evaluation, evaluate_student, evaluate_teacher
from spikebridge.training.loop import LoopSettings, Task
from spikebridge.training.precision import make_autocast
from spikebridge.training.settings import TrainConfig
from spikebridge.training.step import StepInputs

_REPLACEMENT_STREAM = 0x5EED


class StudentTask(Task):
    """CKD or one of its baselines; set ``teacher`` where the objective needs one.

    Args:
        student: What is trained.
        objective: What is minimised.
        data: Prepared data.
        train: Batches, optimiser, precision.
        augment: Random changes of training samples.
        views: How training photos are shown, where ``augment`` does not say it.
        seed: Seed of all draws.
        device: Where it is trained.
    """

    def __init__(
        self,
        student: Student,
        objective: CKDObjective,
        data: PreparedData,
        train: TrainConfig,
        *,
        augment: AugmentConfig,
        views: PhotoViewConfig,
        seed: int,
        device: torch.device,
    ) -> None:
        self.model, self.extras = student.to(device), objective.to(device)
        student.backbone.low_memory = train.memory == "low"
        self.objective = objective
        self.teacher: Teacher | None = None
        # Evaluation uses the DVS stream's head.
        self.evaluate_from = objective.config.evaluate_from
        self.student, self.data, self.seed, self.device = student, data, seed, device
        self.selecting = data.manifest.selecting
        self.autocast = make_autocast(train.precision, device)
        self.captures = train.cuda_graph
        self._reads_test = train.read_test
        self._make_batches = partial(
            PairedBatches,
            data.events["train"],
            batch_size=train.batch_size,
            batches_per_epoch=train.batches_per_epoch,
            augment=augment,
            views=views,
            seed=seed,
            device=device,
            rows=share() if size() > 1 else slice(None),
        )
        self.photos = data.photos["train"]
        self.batches = self._make_batches(self.photos)
        _require_rows(self.batches.smallest, "train.batch_size")
        if train.sync_batch_norm and size() > 1:
            for module in student.modules():
                if isinstance(module, StreamBatchNorm2d):
                    module.total = total
        self.settings = LoopSettings(
            epochs=train.epochs,
            batches_per_epoch=self.batches.batches_per_epoch,
            lr=train.lr * train.batch_size / 1024,
            weight_decay=train.weight_decay,
            warmup_steps=train.warmup_epochs * self.batches.batches_per_epoch,
            evaluate_every=train.evaluate_every,
            checkpoint_minutes=train.checkpoint_minutes,
            ema=train.ema,
        )

    def take_photos(self, photos: PhotoSet) -> None:
        """Take other photos in the place of the training photos, before any step."""
        self.photos, self.batches = photos, self._make_batches(photos)

    def batch(self, step: int) -> StepInputs:
        """Both streams' samples, and what is drawn of the step."""
        drawn = self.batches.drawn(step)
        generator = torch.Generator().manual_seed(_mixed(self.seed, _REPLACEMENT_STREAM, step))
        draws, logged = self.objective.draw(
            step / self.settings.steps, len(drawn.label_B), generator, drawn.part, drawn.alone_B
        )
        if draws.replaced_TB is not None:
            drawn = drawn.unmixed(draws.replaced_TB[0])
        return StepInputs(step, (drawn, draws), logged)

    def losses(self, tensors: tuple[DrawnBatch, Draws]) -> StepResult:
        """Both streams' losses."""
        drawn, draws = tensors
        batch = self.batches.assembled(drawn)
        with self.autocast():
            return self.objective.losses(self.student, self._guidance(batch), batch, draws)

    def _guidance(self, batch: Batch) -> Callable[[Tensor], Tensor] | None:
        """Teacher logits of a batch's photos; photos that never move are shown to it once."""
        if self.teacher is None:
            return None
        few = self.settings.steps * self.batches.batch_size < len(self.photos.label_N)
        if self.batches.moves_photos or few:
            return torch.no_grad()(self.teacher)
        return lambda _: self._teacher_logits_NC[batch.source_B]

    @cached_property
    def _teacher_logits_NC(self) -> Tensor:
        """Of all training photos at once, so that a resumed run finds the same to the last bit."""
        assert self.teacher is not None
        return evaluate_teacher(
            self.teacher,
            self.photos,
            device=self.device,
            autocast=self.autocast,
        ).logits_NC.to(self.device)

    def validate(self) -> Evaluation:
        """Recordings that select the epoch."""
        return self.evaluate("validation")

    def read_test(self) -> Evaluation | None:
        """Test recordings, where ``train.read_test`` says so."""
        return self.evaluate("test") if self._reads_test else None

    def evaluate(self, split: str) -> Evaluation:
        """Recordings of one split."""
        return evaluate_student(
            self.student,
            self.data.events[split],
            device=self.device,
            autocast=self.autocast,
        )


class TeacherTask(Task):
    """Cross-entropy on the legal training photos.

    Args:
        teacher: What is trained.
        config: Its passes, batches and optimiser.
        data: Prepared data.
        train: Precision, checkpoints and graphs.
        augment: Random changes of training photos.
        size: Height and width of the student's input, in whose pixels ``augment`` is.
        seed: Seed of all draws.
        device: Where it is trained.
    """

    def __init__(
        self,
        teacher: Teacher,
        config: TeacherConfig,
        data: PreparedData,
        train: TrainConfig,
        *,
        augment: AugmentConfig,
        size: tuple[int, int],
        seed: int,
        device: torch.device,
    ) -> None:
        self.teacher = teacher.to(device)
        self.model, self.extras = self.teacher, nn.Module()
        self.config, self.data, self.device = config, data, device
        self.augment, self.size, self.seed = augment, size, seed
        self.photos = data.photos["train"]
        selects = len(data.photos["validation"].label_N) > 0
        self.selecting = data.manifest.selecting if selects else LAST_EPOCH
        self.rows = Rows(self.photos.photos_N3HW, Room(device))
        self.autocast = make_autocast(train.precision, device)
        self.captures = train.cuda_graph
        count, batch = len(self.photos.label_N), config.batch_size
        _require_rows(count // -(-count // batch), "teacher.batch_size")
        self.settings = LoopSettings(
            epochs=config.epochs,
            batches_per_epoch=-(-count // batch),
            lr=config.lr,
            weight_decay=config.weight_decay,
            warmup_steps=-(-count // batch),
            evaluate_every=1 if selects else config.epochs,
            checkpoint_minutes=train.checkpoint_minutes,
        )

    def batch(self, step: int) -> StepInputs:
        """Photos and how they move, labels, and their part of the whole batch."""
        epoch, position = divmod(step, self.settings.batches_per_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.photos.label_N))
        rows = np.array_split(order, self.settings.batches_per_epoch)[position]
        random = np.random.default_rng([self.seed, 1, step])
        move = draw_geometry(self.augment, self.size, len(rows), random).of(share())
        own = rows[share()]
        label_B = torch.from_numpy(self.photos.label_N[own])
        moves = move.moves(*self.photos.photos_N3HW.shape[-2:])
        part = None if size() == 1 else len(own) / len(rows)
        return StepInputs(step, (self.rows.drawn(own), moves, label_B, part), {})

    def losses(self, tensors: tuple[Tensor, Moves, Tensor, float | None]) -> StepResult:
        """Cross-entropy of a batch."""
        photos, move, label_B, part = tensors
        photo_B3HW = move(self.rows.rows(photos).float().div_(255))
        with self.autocast():
            logits_BC = self.teacher(photo_B3HW)
        smoothing = self.config.label_smoothing
        loss = F.cross_entropy(logits_BC.float(), label_B, label_smoothing=smoothing)
        return StepResult({"classification": loss}, {}, 1.0 if part is None else part)

    def validate(self) -> Evaluation:
        """Photos that select the epoch; where there are none, those that train."""
        return self.evaluate("train" if self.selecting == LAST_EPOCH else "validation")

    def evaluate(self, split: str) -> Evaluation:
        """Photos of one split."""
        return evaluate_teacher(
            self.teacher,
            self.data.photos[split],
            device=self.device,
            autocast=self.autocast,
        )


def _require_rows(smallest: int, setting: str) -> None:
    if 1 < size() > smallest // 2:
        raise UserError(
            f"batches of {smallest} samples leave {size()} processes less than two each; raise "
            f"{setting} or start fewer processes"
        )


def _mixed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)
