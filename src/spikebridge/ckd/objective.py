"""The CKD objective: two streams in, a dictionary of named losses out (equation 11)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikebridge.base.devices import all_to_device
from spikebridge.base.distributed import gather
from spikebridge.base.errors import UserError
from spikebridge.base.hooks import bare, is_hook, require_tensor, resolve
from spikebridge.ckd.losses import (
    MixupHeads,
    TemporalCoefficient,
    alignment_loss,
    dist_loss,
    dkd_loss,
    kd_loss,
    linear_cka,
    mean_logits_loss,
    modality_loss,
    ratio_loss,
    tet_loss,
)
from spikebridge.ckd.losses._precision import at_least_float32
from spikebridge.ckd.result import StepResult
from spikebridge.ckd.settings import ObjectiveConfig
from spikebridge.ckd.streams import (
    HybridBatch,
    draw_samples,
    draw_steps,
    photo_sequence,
    replaced,
)
from spikebridge.data.feed.batches import Batch, BatchPart
from spikebridge.models.student import Student, StudentOutput

_MIN_CKA_ROWS = {"biased": 2, "debiased": 4}
_DRAW = {"sample": draw_samples, "time-step": draw_steps}
_KD_LOSSES = {"kl": kd_loss, "dist": dist_loss}


@dataclass(frozen=True)
class Draws:
    """What a step draws, and reads off its schedules, before the device has anything to do.

    All that changes from step to step is in the tensors; the rest changes a few times a run.
    """

    dvs: bool
    """Whether the DVS stream is trained."""
    hybrid: bool
    """Whether the hybrid stream is."""
    replaced_TB: Tensor | None = None
    """Frames of the hybrid stream that are replaced."""
    simulated_B: Tensor | None = None
    """Samples of a `staged` source that are simulated recordings."""
    guidance: Tensor | None = None
    """w_KD W(u), a scalar; None where it is 0, and the teacher is not asked."""


class CKDObjective(nn.Module):
    """L = w_KD W(u) L_KD + L_cls(hybrid) + L_cls(DVS) + w_DA L_DA, its baselines and additions.

    Args:
        config: Switches and weights.
        time_steps: T.
        threshold: The neurons' firing threshold, which TET regularises logits to (KT).
        features: Number of features that the student's heads read; only time-step mixup's auxiliary
            losses need it.
    """

    def __init__(
        self, config: ObjectiveConfig, time_steps: int, threshold: float, features: int = 0
    ) -> None:
        super().__init__()
        self.config, self.time_steps = config, time_steps
        self.threshold = threshold
        self.coefficient = (
            TemporalCoefficient(
                time_steps,
                initial=config.coefficient_start,
                learned=config.coefficient == "learned",
            )
            if config.alignment_weight and config.hybrid_until
            else None
        )
        perceives = (config.modality_weight or config.ratio_weight) and config.hybrid_until
        self.mixup_heads = MixupHeads(features) if perceives else None

    def forward(
        self,
        student: Student,
        teacher: Callable[[Tensor], Tensor] | None,
        batch: Batch,
        progress: float,
        generator: torch.Generator,
    ) -> StepResult:
        """Losses of one batch.

        Args:
            student: Called once per stream.
            teacher: Maps photos to logits; not called while W(u) = 0.
            batch: Both streams' samples.
            progress: u in [0, 1).
            generator: CPU generator of the replacement draws.
        """
        alone_B = None if batch.alone_B is None else batch.alone_B.cpu()
        draws, logged = self.draw(progress, len(batch.label_B), generator, batch.part, alone_B)
        draws = all_to_device(draws, batch.dvs_TBCHW.device)
        result = self.losses(student, teacher, batch, draws)
        result.logged = {**logged, **result.logged}
        return result

    def draw(
        self,
        progress: float,
        batch: int,
        generator: torch.Generator,
        part: BatchPart | None = None,
        alone_B: Tensor | None = None,
    ) -> tuple[Draws, dict[str, float]]:
        """Draw what a step replaces, on the CPU; and what of it is to be logged.

        Args:
            progress: u in [0, 1).
            batch: Number of samples.
            generator: CPU generator.
            part: Which part of the batch the samples are; None where they are all.
            alone_B: On the CPU, samples without a photo, which are replaced whatever is drawn.
        """
        config = self.config
        dvs, hybrid = progress >= config.dvs_from, progress < config.hybrid_until
        if not hybrid:
            return Draws(dvs, hybrid), {}
        simulated_B = None
        if config.source == "staged":
            simulated_B = draw_samples(1, batch, progress, generator, part)[0]
        probability = config.replacement(progress)
        replaced_TB = _DRAW[config.replace](self.time_steps, batch, probability, generator, part)
        if alone_B is not None:
            replaced_TB = replaced_TB | alone_B
        share_B = replaced_TB.float().mean(0)
        weight = config.distillation(progress, probability)
        logged = {"replacement": probability, "replaced": share_B.mean().item()}
        if simulated_B is not None:
            logged["simulated"] = (simulated_B.float() * (1 - share_B)).mean().item()
        logged["distillation"] = weight
        guidance = weight * config.kd_weight
        draws = Draws(
            dvs,
            hybrid,
            replaced_TB,
            simulated_B,
            torch.tensor(guidance, dtype=torch.float64) if guidance else None,
        )
        return draws, logged

    def losses(
        self,
        student: Student,
        teacher: Callable[[Tensor], Tensor] | None,
        batch: Batch,
        draws: Draws,
    ) -> StepResult:
        """Compute the losses of a batch from what was drawn, all of it on the device.

        Args:
            student: Called once per stream.
            teacher: Maps photos to logits; called where ``draws`` has a guidance.
            batch: Both streams' samples.
            draws: From `draw`.

        Raises:
            ValueError: a teacher or simulated recordings are needed and not there.
        """
        config = self.config
        losses: dict[str, Tensor] = {}
        logged: dict[str, Any] = {}
        step_weight_T = None
        dvs = student(batch.dvs_TBCHW, "dvs") if draws.dvs else None
        if draws.hybrid:
            stream = self._hybrid_stream(batch, draws)
            hybrid = student(stream.frames_TBCHW, "hybrid" if config.statistics == "dvs" else "dvs")
            label = self._hybrid_label(batch, hybrid.logits_TBC.shape[-1], stream)
            losses["hybrid"] = self._classification(hybrid.logits_TBC, label)
            if draws.guidance is not None:
                if teacher is None:
                    raise ValueError("this objective distils, but no teacher was given")
                loss = self._distil(hybrid, teacher, batch, stream)
                losses["kd"] = draws.guidance.to(loss.dtype) * loss
            if self.mixup_heads is not None:
                losses |= self._perceive(self.mixup_heads, hybrid, stream)
            if dvs and self.coefficient is not None:
                coefficient_T = self.coefficient()
                alignment = self._alignment(hybrid, dvs, batch, coefficient_T)
                if alignment is not None:
                    losses["alignment"] = config.alignment_weight * alignment
                else:
                    # Nothing opposes 1 − c_t here, which would drive the coefficient to 1.
                    coefficient_T = coefficient_T.detach()
                step_weight_T = 1 - coefficient_T
                logged["coefficient"] = coefficient_T.detach()
                logged |= _logged_cka(hybrid.membrane_TBN, dvs.membrane_TBN)
        if dvs:
            losses["dvs"] = self._classification(dvs.logits_TBC, batch.label_B, step_weight_T)
            logged["rates"] = dvs.rates
        return StepResult(losses, logged, batch.part.weight if batch.part else 1.0)

    def _hybrid_stream(self, batch: Batch, draws: Draws) -> HybridBatch:
        """The hybrid stream's input."""
        assert draws.replaced_TB is not None
        if self.config.source == "photo":
            source_TBCHW = _photo_frames(batch)
        elif self.config.source == "simulated":
            source_TBCHW = _simulated_frames(batch)
        else:
            assert draws.simulated_B is not None
            simulated_TB = draws.simulated_B.expand(self.time_steps, -1)
            source_TBCHW = replaced(
                _photo_frames(batch), _simulated_frames(batch), simulated_TB
            ).frames_TBCHW
        return replaced(source_TBCHW, batch.dvs_TBCHW, draws.replaced_TB)

    def _distil(
        self,
        hybrid: StudentOutput,
        teacher: Callable[[Tensor], Tensor],
        batch: Batch,
        stream: HybridBatch,
    ) -> Tensor:
        """L_KD."""
        config = self.config
        teacher_BC = teacher(batch.photo_B3HW)
        weights: list[Tensor] = []
        if config.kd_on == "rgb":
            weights.append(1 - stream.share_B)
        if batch.alone_B is not None:
            weights.append((~batch.alone_B).float())
        weight_B, share = reduce(torch.mul, weights) if weights else None, None
        labelled_B = _labelled(batch) if config.unlabelled.learn == "class" else None
        if labelled_B is not None:
            among_B = torch.ones_like(labelled_B) if weight_B is None else weight_B
            weight_B = among_B * labelled_B
            share = weight_B.sum().clamp(min=1) / among_B.sum().clamp(min=1)
        options: dict[str, Any] = {
            "temperature": config.kd_temperature,
            "per_step": config.kd_per_step,
            "weight_B": weight_B,
        }
        if is_hook(config.kd_loss):
            loss = _own_loss(
                config.kd_loss, (), hybrid.logits_TBC, teacher_BC.detach(), batch.label_B, **options
            )
        elif config.kd_loss == "dkd":
            options |= {"alpha": config.dkd_alpha, "beta": config.dkd_beta}
            loss = dkd_loss(hybrid.logits_TBC, teacher_BC, batch.label_B, **options)
        else:
            loss = _KD_LOSSES[config.kd_loss](hybrid.logits_TBC, teacher_BC, **options)
        # The mean is over those with a label; each of them weighs what it does among all.
        return loss if share is None else share * loss

    def _hybrid_label(self, batch: Batch, classes: int, stream: HybridBatch) -> Tensor:
        """What the hybrid stream is to answer.

        Classes label_B, or shares of them label_BC where photos are mixed, or where the loss takes
        no class of photos without labels: theirs then sum to less than 1.
        """
        if batch.answered_B is None or self.config.unlabelled.learn != "logits":
            mixup = batch.mixup
            return batch.label_B if mixup is None else mixup.labels(batch.label_B, classes)
        # A recording that has replaced a photo has its label.
        share_B = torch.where(batch.answered_B, stream.share_B, 1.0)
        label_BC = share_B[:, None] * F.one_hot(batch.label_B, classes)
        if batch.mixup is None:
            return label_BC
        own_B1 = batch.mixup.share_B[:, None]
        assert batch.mixup.answered_B is not None
        partner_BC = F.one_hot(batch.mixup.label_B, classes) * ~batch.mixup.answered_B[:, None]
        return own_B1 * label_BC + (1 - own_B1) * partner_BC

    def _perceive(
        self, heads: MixupHeads, hybrid: StudentOutput, stream: HybridBatch
    ) -> dict[str, Tensor]:
        """Time-step mixup's auxiliary losses."""
        config = self.config
        logit_TB, share_B = heads(hybrid.features_TBF)
        losses = {}
        if config.modality_weight:
            loss = modality_loss(logit_TB, stream.replaced_TB)
            losses["modality"] = config.modality_weight * loss
        if config.ratio_weight:
            losses["ratio"] = config.ratio_weight * ratio_loss(share_B, stream.replaced_TB)
        return losses

    def _alignment(
        self,
        hybrid: StudentOutput,
        dvs: StudentOutput,
        batch: Batch,
        coefficient_T: Tensor,
    ) -> Tensor | None:
        """L_DA of the two streams' membrane potentials; None if the rows are too few."""
        config = self.config
        x_TBN, y_TBN, label_B = hybrid.membrane_TBN, dvs.membrane_TBN, batch.label_B
        if config.gather_alignment and batch.part:
            whole = batch.part.batch
            x_TBN, y_TBN = gather(x_TBN, 1, whole), gather(y_TBN, 1, whole)
            label_B = gather(label_B, 0, whole)
        if x_TBN.shape[1] < _MIN_CKA_ROWS[config.cka]:
            return None
        if is_hook(config.alignment):
            loss_T = _own_loss(config.alignment, x_TBN.shape[:1], x_TBN, y_TBN, label_B)
            return (coefficient_T * loss_T).mean()
        cka_T = linear_cka(x_TBN, y_TBN, debiased=config.cka == "debiased")
        return alignment_loss(cka_T, coefficient_T)

    def _classification(
        self, logits_TBC: Tensor, label_B: Tensor, step_weight_T: Tensor | None = None
    ) -> Tensor:
        if self.config.classification == "ce":
            return mean_logits_loss(logits_TBC, label_B, step_weight_T=step_weight_T)
        return tet_loss(
            logits_TBC,
            label_B,
            regularisation=self.config.tet_regularisation,
            target=self.threshold,
            step_weight_T=step_weight_T,
        )


def _own_loss(hook: str, shape: tuple[int, ...], *given: Tensor, **options: Any) -> Tensor:
    """Call a user's own loss in float32 at least, outside autocast, and look at what it returns.

    Args:
        hook: What names it.
        shape: Shape that its result must have.
        given: Tensors, those of integers last.
        options: Passed on.

    Raises:
        UserError: it cannot be imported, returns something else, or takes no part in learning.
    """
    with torch.autocast(given[0].device.type, enabled=False):
        floats = (at_least_float32(x) if x.is_floating_point() else x for x in given)
        loss = resolve(hook)(*floats, **options)
    require_tensor(hook, loss, tuple(shape))
    if given[0].requires_grad and torch.is_grad_enabled() and not loss.requires_grad:
        raise UserError(
            f"{bare(hook)} returned a loss without a gradient; compute it from the student's "
            "outputs, which must not be detached"
        )
    return at_least_float32(loss)


def _labelled(batch: Batch) -> Tensor | None:
    """Share_B of each photo, which may be a mixture, that has a label; None where all have one."""
    if batch.answered_B is None:
        return None
    share_B = (~batch.answered_B).float()
    if batch.mixup is None:
        return share_B
    assert batch.mixup.answered_B is not None
    own_B = batch.mixup.share_B
    return own_B * share_B + (1 - own_B) * ~batch.mixup.answered_B


def _photo_frames(batch: Batch) -> Tensor:
    """The static photos as sequences x_TBCHW of the network's size."""
    time_steps, _, _, height, width = batch.dvs_TBCHW.shape
    return photo_sequence(batch.photo_B3HW, time_steps, (height, width))


def _simulated_frames(batch: Batch) -> Tensor:
    if batch.simulated_TBCHW is None:
        raise ValueError("objective.source asks for simulated photos, which were not simulated")
    return batch.simulated_TBCHW


@torch.no_grad()
def _logged_cka(x_TBN: Tensor, y_TBN: Tensor) -> dict[str, Tensor]:
    """Both estimates, over all positions, for the log."""
    if x_TBN.shape[1] < _MIN_CKA_ROWS["debiased"]:
        return {}
    return {
        "cka": linear_cka(x_TBN, y_TBN),
        "cka_debiased": linear_cka(x_TBN, y_TBN, debiased=True),
    }
