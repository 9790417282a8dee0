"""Decoupled knowledge distillation (Zhao et al., CVPR 2022)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from spikebridge.ckd.losses._logits import compared_logits, weighted_mean

_EXCLUDED = -1e9


def dkd_loss(
    student_TBC: Tensor,
    teacher_BC: Tensor,
    label_B: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    per_step: bool = False,
    weight_B: Tensor | None = None,
) -> Tensor:
    """τ² · (α · TCKD + β · NCKD), averaged over the batch.

    TCKD is the divergence between teacher and student of (right class, any other class); NCKD that
    between their distributions over the other classes, which a certain teacher hides in plain KD.
    Plain KD is α = 1 and β = the teacher's probability of the other classes.

    Args:
        student_TBC: Student logits per time step.
        teacher_BC: Teacher logits; no gradient flows into them.
        label_B: Class indices.
        alpha: α.
        beta: β.
        temperature: τ > 0.
        per_step: As in `kd_loss`.
        weight_B: As in `kd_loss`.

    Returns:
        A scalar, in float32 at least.
    """
    with torch.autocast(student_TBC.device.type, enabled=False):
        student_TBC, teacher_TBC = compared_logits(student_TBC, teacher_BC, per_step)
        right_BC = F.one_hot(label_B, student_TBC.shape[-1]).bool()
        student, teacher = (
            _decoupled(z_TBC / temperature, right_BC) for z_TBC in (student_TBC, teacher_TBC)
        )
        target_B, others_B = (
            F.kl_div(ours, theirs, reduction="none", log_target=True).sum(-1).mean(0)
            for ours, theirs in zip(student, teacher, strict=True)
        )
        return temperature**2 * weighted_mean(alpha * target_B + beta * others_B, weight_B)


def _decoupled(z_TBC: Tensor, right_BC: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of the probabilities (right class, others), and of each class but the right one.

    The right class keeps a place in the second, where its probability is 0 for everybody.
    """
    others_TBC = z_TBC.masked_fill(right_BC, _EXCLUDED)
    right_TB = z_TBC.masked_fill(~right_BC, _EXCLUDED).amax(-1)
    pair_TB2 = torch.stack([right_TB, others_TBC.logsumexp(-1)], -1)
    return pair_TB2.log_softmax(-1), others_TBC.log_softmax(-1)
