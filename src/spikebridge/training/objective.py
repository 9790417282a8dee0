"""The CKD objective: two streams in, a dictionary of named losses out (METHOD.md, losses)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikebridge.config import ObjectiveConfig
from spikebridge.data.batches import Batch
from spikebridge.losses import (
    TemporalCoefficient,
    alignment_loss,
    kd_loss,
    linear_cka,
    mean_logits_loss,
    tet_loss,
)
from spikebridge.models.student import Student
from spikebridge.streams import photo_sequence, replace_samples
from spikebridge.transfer import to_device

_MIN_CKA_BATCH = {"biased": 2, "debiased": 4}


@dataclass
class StepResult:
    """What one training step gives the loop: losses to minimise and values to log."""

    losses: dict[str, Tensor]
    """Weighted terms; their sum is minimised."""
    logged: dict[str, float | Tensor | dict[str, Tensor]]
    """Further values, without gradient; reading tensors is left to the loop, for it waits."""

    @property
    def total(self) -> Tensor:
        """L."""
        return torch.stack([loss.float() for loss in self.losses.values()]).sum()


class CKDObjective(nn.Module):
    """L = w_KD W(u) L_KD + L_cls(hybrid) + L_cls(DVS) + w_DA L_DA, and its baselines.

    Args:
        config: Switches and weights.
        time_steps: T.
        threshold: The neurons' firing threshold, which TET regularises logits to (KT).
    """

    def __init__(self, config: ObjectiveConfig, time_steps: int, threshold: float) -> None:
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

    def needs_teacher(self) -> bool:
        """Whether W(u) is ever above 0 while the hybrid stream runs; W never rises."""
        config = self.config
        weight = config.distillation(0.0, config.replacement(0.0))
        return bool(config.kd_weight and config.hybrid_until and weight)

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
        result = StepResult({}, {})
        dvs = student(batch.dvs_TBCHW, "dvs") if progress >= config.dvs_from else None
        hybrid = None
        if progress < config.hybrid_until:
            probability = config.replacement(progress)
            stream = replace_samples(
                _source(batch, config.source), batch.dvs_TBCHW, probability, generator
            )
            hybrid = student(stream.frames_TBCHW, "hybrid")
            result.losses["hybrid"] = self._classification(hybrid.logits_TBC, batch.label_B)
            result.logged["replacement"] = probability
            result.logged["replaced"] = stream.replaced_B.float().mean()
            kept_B = ~stream.replaced_B
            weight = config.distillation(progress, probability)
            result.logged["distillation"] = weight
            if weight and config.kd_weight:
                if teacher is None:
                    raise ValueError("this objective distils, but no teacher was given")
                result.losses["kd"] = (
                    weight
                    * config.kd_weight
                    * kd_loss(
                        hybrid.logits_TBC,
                        teacher(batch.photo_B3HW),
                        temperature=config.kd_temperature,
                        per_step=config.kd_per_step,
                        select_B=to_device(kept_B, batch.dvs_TBCHW.device)
                        if config.kd_on == "rgb"
                        else None,
                    )
                )
        step_weight_T = None
        if dvs and hybrid and self.coefficient is not None:
            coefficient_T = self.coefficient()
            step_weight_T = 1 - coefficient_T
            result.logged["coefficient"] = coefficient_T.detach()
            x_TBN, y_TBN = hybrid.membrane_TBN, dvs.membrane_TBN
            if config.align_on == "rgb":
                # A mask on the device would have to be counted there, and waited for.
                rows_K = to_device(kept_B.nonzero()[:, 0], x_TBN.device)
                x_TBN, y_TBN = x_TBN[:, rows_K], y_TBN[:, rows_K]
            result.logged |= _logged_cka(hybrid.membrane_TBN, dvs.membrane_TBN)
            if x_TBN.shape[1] >= _MIN_CKA_BATCH[config.cka]:
                cka_T = linear_cka(x_TBN, y_TBN, debiased=config.cka == "debiased")
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


def _source(batch: Batch, source: str) -> Tensor:
    """The hybrid stream's source as a sequence x_TBCHW."""
    if source == "simulated":
        if batch.simulated_TBCHW is None:
            raise ValueError("objective.source is 'simulated', but the photos were not simulated")
        return batch.simulated_TBCHW
    steps, size = batch.dvs_TBCHW.shape[0], batch.dvs_TBCHW.shape[-2:]
    value_B1HW = batch.photo_B3HW.amax(1, keepdim=True)
    if value_B1HW.shape[-2:] != size:
        value_B1HW = F.interpolate(value_B1HW, size, mode="area")
    return photo_sequence(value_B1HW, steps)


@torch.no_grad()
def _logged_cka(x_TBN: Tensor, y_TBN: Tensor) -> dict[str, Tensor]:
    """Both estimates, over all positions, for the log."""
    if x_TBN.shape[1] < _MIN_CKA_BATCH["debiased"]:
        return {}
    return {
        "cka": linear_cka(x_TBN, y_TBN),
        "cka_debiased": linear_cka(x_TBN, y_TBN, debiased=True),
    }
