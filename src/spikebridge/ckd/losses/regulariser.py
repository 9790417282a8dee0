"""The learned spatio-temporal coefficient of CKD."""

import torch
from torch import Tensor, nn


class TemporalCoefficient(nn.Module):
    """One coefficient per time step, c_t = sigmoid(a_t) (CKD, KT; equation 8).

    It weighs the alignment of step t, and 1 − c_t weighs the DVS stream's classification.

    Args:
        time_steps: T.
        initial: a_t at the start (KT: 1.0).
        learned: False keeps the coefficient fixed at its start.
    """

    def __init__(self, time_steps: int, *, initial: float = 1.0, learned: bool = True) -> None:
        super().__init__()
        self.logit_T = nn.Parameter(torch.full((time_steps,), initial), requires_grad=learned)

    def forward(self) -> Tensor:
        """c_T, each in (0, 1)."""
        return self.logit_T.sigmoid()
