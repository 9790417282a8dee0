"""Knowledge distillation on logits (Hinton et al. 2015), as CKD applies it to the hybrid stream."""

import torch
from torch import Tensor
from torch.nn import functional as F

from spikebridge.losses._precision import at_least_float32


def kd_loss(
    student_TBC: Tensor,
    teacher_BC: Tensor,
    *,
    temperature: float = 4.0,
    per_step: bool = False,
    select_B: Tensor | None = None,
) -> Tensor:
    """τ² · KL(softmax(z_teacher/τ) ‖ softmax(z_student/τ)), averaged over the batch.

    Args:
        student_TBC: Student logits per time step.
        teacher_BC: Teacher logits; no gradient flows into them.
        temperature: τ > 0.
        per_step: Compare every step and average, instead of comparing the mean over T.
        select_B: Boolean mask of the samples that count; 0 is returned when none does.

    Returns:
        A scalar, in float32 at least.
    """
    with torch.autocast(student_TBC.device.type, enabled=False):
        student_TBC = at_least_float32(student_TBC)
        teacher_BC = teacher_BC.detach().to(student_TBC.dtype)
        steps_TBC = student_TBC if per_step else student_TBC.mean(0, keepdim=True)
        target_BC = F.log_softmax(teacher_BC / temperature, -1)
        student_log_TBC = F.log_softmax(steps_TBC / temperature, -1)
        divergence_B = (
            F.kl_div(
                student_log_TBC, target_BC.expand_as(steps_TBC), reduction="none", log_target=True
            )
            .sum(-1)
            .mean(0)
        )
        if select_B is None:
            return temperature**2 * divergence_B.mean()
        weight_B = select_B.to(divergence_B.dtype)
        return temperature**2 * (divergence_B * weight_B).sum() / weight_B.sum().clamp(min=1)
