"""The CKD objective: two streams in, a dictionary of named losses out (METHOD.md, losses)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikebridge.config import ObjectiveConfig
from spikebridge.data.batches import Batch
from spikebridge.devices import to_device
from spikebridge.losses import (
    MixupHeads,
    TemporalCoefficient,
    alignment_loss,
    class_means,
    confidence,
    contrast_loss,
    dist_loss,
    dkd_loss,
    kd_loss,
    linear_cka,
    mean_logits_loss,
    modality_loss,
    ratio_loss,
    tet_loss,
)
from spikebridge.models.student import Student, StudentOutput
from spikebridge.streams import (
    HybridBatch,
    photo_sequence,
    replace_samples,
    replace_steps,
    replace_tails,
)
from spikebridge.training.distributed import gather

_MIN_CKA_ROWS = {"biased": 2, "debiased": 4}
_MIN_CKA_CLASSES = 3
_REPLACE = {"sample": replace_samples, "time-step": replace_steps, "tail": replace_tails}
_KD_LOSSES = {"kl": kd_loss, "dist": dist_loss}


@dataclass
class StepResult:
    """What one training step gives the loop: losses to minimise and values to log."""

    losses: dict[str, Tensor]
    """Weighted terms; their sum is minimised."""
    logged: dict[str, float | Tensor | dict[str, Tensor]]
    """Further values, without gradient; reading tensors is left to the loop, for it waits."""
    weight: float = 1.0
    """Part of the batch that the losses are means over, where several processes share it."""

    @property
    def total(self) -> Tensor:
        """L."""
        return torch.stack([loss.float() for loss in self.losses.values()]).sum()


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
        self.config = config
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
        config = self.config
        result = StepResult({}, {}, batch.share.weight if batch.share else 1.0)
        step_weight_T = None
        dvs = student(batch.dvs_TBCHW, "dvs") if progress >= config.dvs_from else None
        if progress < config.hybrid_until:
            stream = self._hybrid_stream(batch, progress, generator, result)
            hybrid = student(stream.frames_TBCHW, "hybrid" if config.statistics == "dvs" else "dvs")
            result.losses["hybrid"] = self._classification(hybrid.logits_TBC, batch.label_B)
            weight = config.distillation(progress, config.replacement(progress))
            result.logged["distillation"] = weight
            if weight and config.kd_weight:
                if teacher is None:
                    raise ValueError("this objective distils, but no teacher was given")
                result.losses["kd"] = (
                    weight * config.kd_weight * self._distil(hybrid, teacher, batch, stream)
                )
            if self.mixup_heads is not None:
                self._perceive(self.mixup_heads, hybrid, stream, result)
            if dvs and config.contrast_weight:
                result.losses["contrast"] = config.contrast_weight * contrast_loss(
                    hybrid.features_TBF.mean(0),
                    dvs.features_TBF.mean(0),
                    batch.label_B,
                    temperature=config.contrast_temperature,
                )
            if dvs and self.coefficient is not None:
                coefficient_T = self.coefficient()
                step_weight_T = 1 - coefficient_T
                result.logged["coefficient"] = coefficient_T.detach()
                result.logged |= _logged_cka(hybrid.membrane_TBN, dvs.membrane_TBN)
                cka_T = self._similarity(hybrid, dvs, batch, stream)
                if cka_T is not None:
                    result.losses["alignment"] = config.alignment_weight * alignment_loss(
                        cka_T, coefficient_T
                    )
                else:
                    # Nothing opposes 1 − c_t here, which would drive the coefficient to 1.
                    step_weight_T = step_weight_T.detach()
        if dvs:
            result.losses["dvs"] = self._classification(
                dvs.logits_TBC, batch.label_B, step_weight_T
            )
            result.logged["rates"] = dvs.rates
        return result

    def _hybrid_stream(
        self, batch: Batch, progress: float, generator: torch.Generator, result: StepResult
    ) -> HybridBatch:
        """The hybrid stream's input; what was drawn is logged."""
        config = self.config
        simulated_B = torch.zeros(len(batch.label_B))
        if config.source == "photo":
            source_TBCHW = _photo_frames(batch)
        elif config.source == "simulated":
            source_TBCHW = _simulated_frames(batch)
        else:
            staged = replace_samples(
                _photo_frames(batch),
                _simulated_frames(batch),
                config.staging(progress),
                generator,
                batch.share,
            )
            source_TBCHW, simulated_B = staged.frames_TBCHW, staged.share_B
        probability = config.replacement(progress)
        stream = _REPLACE[config.replace](
            source_TBCHW, batch.dvs_TBCHW, probability, generator, batch.share
        )
        result.logged["replacement"] = probability
        result.logged["replaced"] = stream.share_B.mean()
        if config.source == "staged":
            result.logged["simulated"] = (simulated_B * (1 - stream.share_B)).mean()
        return stream

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
        weight_B = None
        if config.kd_on == "rgb":
            weight_B = to_device(1 - stream.share_B, teacher_BC.device)
        if config.kd_confidence:
            sure_B = confidence(teacher_BC)
            weight_B = sure_B if weight_B is None else weight_B * sure_B
        loss = _KD_LOSSES.get(config.kd_loss) or partial(
            dkd_loss, label_B=batch.label_B, alpha=config.dkd_alpha, beta=config.dkd_beta
        )
        return loss(
            hybrid.logits_TBC,
            teacher_BC,
            temperature=config.kd_temperature,
            per_step=config.kd_per_step,
            weight_B=weight_B,
        )

    def _perceive(
        self, heads: MixupHeads, hybrid: StudentOutput, stream: HybridBatch, result: StepResult
    ) -> None:
        """Time-step mixup's auxiliary losses."""
        config = self.config
        replaced_TB = to_device(stream.replaced_TB, hybrid.features_TBF.device)
        logit_TB, share_B = heads(hybrid.features_TBF)
        if config.modality_weight:
            loss = modality_loss(logit_TB, replaced_TB)
            result.losses["modality"] = config.modality_weight * loss
        if config.ratio_weight:
            result.losses["ratio"] = config.ratio_weight * ratio_loss(share_B, replaced_TB)

    def _similarity(
        self, hybrid: StudentOutput, dvs: StudentOutput, batch: Batch, stream: HybridBatch
    ) -> Tensor | None:
        """CKA of the two streams' membrane potentials at each step; None if the rows are too few.

        Under `align_on: rgb` the hybrid rows are those of which less than half is replaced.
        """
        config = self.config
        x_TBN, y_TBN, label_B = hybrid.membrane_TBN, dvs.membrane_TBN, batch.label_B
        needed = _MIN_CKA_ROWS[config.cka]
        kept_B = stream.share_B < 0.5
        if config.gather_alignment and batch.share:
            whole = batch.share.batch
            x_TBN, y_TBN = gather(x_TBN, 1, whole), gather(y_TBN, 1, whole)
            label_B, kept_B = gather(label_B, 0, whole), gather(kept_B, 0, whole)
        if config.align == "class":
            needed = max(needed, _MIN_CKA_CLASSES)
            kept_label_B = label_B
            if config.align_on == "rgb":
                kept_label_B = label_B.where(to_device(kept_B, label_B.device), -1)
            classes_K = kept_label_B.unique()  # Waits for the device.
            classes_K = classes_K[classes_K >= 0]
            x_TBN = class_means(x_TBN, kept_label_B, classes_K)
            y_TBN = class_means(y_TBN, label_B, classes_K)
        elif config.align_on == "rgb":
            # A mask on the device would have to be counted there, and waited for.
            rows_K = to_device(kept_B.nonzero()[:, 0], x_TBN.device)
            x_TBN, y_TBN = x_TBN[:, rows_K], y_TBN[:, rows_K]
        if x_TBN.shape[1] < needed:
            return None
        return linear_cka(x_TBN, y_TBN, debiased=config.cka == "debiased")

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


def _photo_frames(batch: Batch) -> Tensor:
    """The static photos as sequences x_TBCHW of the network's size."""
    steps, size = batch.dvs_TBCHW.shape[0], batch.dvs_TBCHW.shape[-2:]
    value_B1HW = batch.photo_B3HW.amax(1, keepdim=True)
    if value_B1HW.shape[-2:] != size:
        value_B1HW = F.interpolate(value_B1HW, size, mode="area")
    return photo_sequence(value_B1HW, steps)


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
