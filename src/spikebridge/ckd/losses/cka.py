"""Linear centred kernel alignment (CKA).

Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019; the
debiased estimate replaces HSIC by its unbiased U-statistic (Song et al., JMLR 2012).
"""

import torch
from torch import Tensor

from spikebridge.ckd.losses._precision import at_least_float32

_EPSILON = 1e-8


def linear_cka(x_BN: Tensor, y_BN: Tensor, *, debiased: bool = False) -> Tensor:
    """Linear CKA of two representations of the same batch (equation 6).

    Computed in float32 at least, also under autocast. The biased estimate lies in [0, 1] and is
    inflated when N is much larger than B; the debiased one is centred on 0 for unrelated inputs
    and may be negative.

    Args:
        x_BN: First representation; leading dimensions before B (time steps, say) are kept.
        y_BN: Second representation, of the same shape but for N.
        debiased: Use the U-statistic; it needs B ≥ 4.

    Returns:
        CKA, of the leading shape.

    Raises:
        ValueError: the batches differ, B is 1, or B < 4 with ``debiased``.
    """
    batch = x_BN.shape[-2]
    if x_BN.shape[:-1] != y_BN.shape[:-1]:
        raise ValueError(f"batches differ: {tuple(x_BN.shape)} and {tuple(y_BN.shape)}")
    if batch < (4 if debiased else 2):
        raise ValueError(f"CKA needs at least {4 if debiased else 2} samples, got {batch}")
    with torch.autocast(x_BN.device.type, enabled=False):
        centre = _centred_debiased if debiased else _centred
        k_BB, l_BB = centre(_gram(x_BN)), centre(_gram(y_BN))
        product = (k_BB * l_BB).sum((-2, -1))
        norms = torch.linalg.matrix_norm(k_BB) * torch.linalg.matrix_norm(l_BB)
        return product / (norms + _EPSILON)


def _gram(x_BN: Tensor) -> Tensor:
    """Gram matrix of the features centred over the batch.

    Centring first changes neither estimate and keeps the rounding of a large mean out.
    """
    x_BN = at_least_float32(x_BN)
    x_BN = x_BN - x_BN.mean(-2, keepdim=True)
    return x_BN @ x_BN.mT


def _centred(k_BB: Tensor) -> Tensor:
    return (
        k_BB
        - k_BB.mean(-1, keepdim=True)
        - k_BB.mean(-2, keepdim=True)
        + k_BB.mean((-2, -1), keepdim=True)
    )


def _centred_debiased(k_BB: Tensor) -> Tensor:
    """U-centring: <Ũ(K), Ũ(L)> is proportional to the unbiased HSIC."""
    batch = k_BB.shape[-1]
    off_diagonal = 1 - torch.eye(batch, dtype=k_BB.dtype, device=k_BB.device)
    k_BB = k_BB * off_diagonal
    rows = k_BB.sum(-1, keepdim=True) / (batch - 2)
    columns = k_BB.sum(-2, keepdim=True) / (batch - 2)
    total = k_BB.sum((-2, -1), keepdim=True) / ((batch - 1) * (batch - 2))
    return (k_BB - rows - columns + total) * off_diagonal


def alignment_loss(cka_T: Tensor, coefficient_T: Tensor) -> Tensor:
    """Domain alignment L_DA = mean_t c_t (1 − |CKA_t|) (CKD, KT; equation 7).

    Args:
        cka_T: CKA of the two streams at each time step.
        coefficient_T: Spatio-temporal coefficient c_t in (0, 1).
    """
    return (coefficient_T * (1 - cka_T.abs())).mean()
