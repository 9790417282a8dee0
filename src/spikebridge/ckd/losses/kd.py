"""Knowledge distillation on logits (Hinton et al. 2015), as CKD applies it to the hybrid stream."""

import torch
from torch import Tensor
from torch.nn import functional as F

from spikebridge.ckd.losses._logits import compared_logits, weighted_mean


def kd_loss(
    student_TBC: Tensor,
    teacher_BC: Tensor,
    *,
    temperature: float = 4.0,
    per_step: bool = False,
    weight_B: Tensor | None = None,
) -> Tensor:
    """τ² · KL(softmax(z_teacher/τ) ‖ softmax(z_student/τ)), averaged over the batch (equation 9).

    Args:
        student_TBC: Student logits per time step.
        teacher_BC: Teacher logits; no gradient flows into them.
        temperature: τ > 0.
        per_step: Compare every step and average, instead of comparing the mean over T.
        weight_B: What each sample counts in the average, in [0, 1]; a boolean mask selects. The
            loss is 0 when none counts.

    Returns:
        A scalar, in float32 at least.
    """
    with torch.autocast(student_TBC.device.type, enabled=False):
        student_TBC, teacher_TBC = compared_logits(student_TBC, teacher_BC, per_step)
        divergence_B = (
            F.kl_div(
                F.log_softmax(student_TBC / temperature, -1),
                F.log_softmax(teacher_TBC / temperature, -1),
                reduction="none",
                log_target=True,
            )
            .sum(-1)
            .mean(0)
        )
        return temperature**2 * weighted_mean(divergence_B, weight_B)
