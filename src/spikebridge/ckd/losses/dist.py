"""Distillation of relations (DIST; Huang et al., NeurIPS 2022)."""

import torch
from torch import Tensor

from spikebridge.ckd.losses._logits import compared_logits, weighted_mean

_EPSILON = 1e-6
"""Standard deviation of probabilities below which there is nothing to correlate."""


def dist_loss(
    student_TBC: Tensor,
    teacher_BC: Tensor,
    *,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 4.0,
    per_step: bool = False,
    weight_B: Tensor | None = None,
) -> Tensor:
    """τ² · (β · (1 − inter) + γ · (1 − intra)), averaged over the steps that are compared.

    inter is the Pearson correlation of student and teacher probabilities over the classes, averaged
    over the samples; intra that over the samples, averaged over the classes. Only the order and
    spacing of probabilities count, so that a far stronger teacher asks for nothing impossible.

    Args:
        student_TBC: Student logits per time step.
        teacher_BC: Teacher logits; no gradient flows into them.
        beta: β.
        gamma: γ.
        temperature: τ > 0.
        per_step: As in `kd_loss`.
        weight_B: As in `kd_loss`; it also weighs the samples in intra's correlations.

    Returns:
        A scalar, in float32 at least.
    """
    with torch.autocast(student_TBC.device.type, enabled=False):
        student_TBC, teacher_TBC = compared_logits(student_TBC, teacher_BC, per_step)
        p_TBC, q_TBC = ((z_TBC / temperature).softmax(-1) for z_TBC in (student_TBC, teacher_TBC))
        inter_B = 1 - _correlation(p_TBC, q_TBC, torch.ones_like(p_TBC[0, 0]))
        if weight_B is None:
            weight_B = p_TBC.new_ones(p_TBC.shape[1])
        weight_B = weight_B.to(p_TBC.dtype)
        intra = 1 - _correlation(p_TBC.mT, q_TBC.mT, weight_B).mean()
        inter = weighted_mean(inter_B.mean(0), weight_B)
        return temperature**2 * (beta * inter + gamma * weight_B.sum().clamp(max=1) * intra)


def _correlation(x_N: Tensor, y_N: Tensor, weight_N: Tensor) -> Tensor:
    """Pearson's correlation over the last dimension by weights; 0 where nothing varies."""
    weight_N = weight_N / weight_N.sum().clamp(min=_EPSILON)
    x_N, y_N = (z - (weight_N * z).sum(-1, keepdim=True) for z in (x_N, y_N))
    covariance = (weight_N * x_N * y_N).sum(-1)
    x_variance, y_variance = ((weight_N * z.square()).sum(-1) for z in (x_N, y_N))
    return covariance / ((x_variance + _EPSILON**2) * (y_variance + _EPSILON**2)).sqrt()
