"""Classification losses on logits per time step."""

import torch
from torch import Tensor
from torch.nn import functional as F

from spikebridge.ckd.losses._precision import at_least_float32


def tet_loss(
    logits_TBC: Tensor,
    label_B: Tensor,
    *,
    regularisation: float = 1e-3,
    target: float = 0.5,
    step_weight_T: Tensor | None = None,
) -> Tensor:
    """Temporal efficient training (Deng et al., ICLR 2022), as KT uses it (equation 5).

    L = mean_t w_t [(1 − λ) CE(z_t, y) + λ MSE(z_t, φ)].

    Args:
        logits_TBC: Logits per time step.
        label_B: Class indices, or shares of the classes label_BC, with which CE is the
            expectation (equation 12).
        regularisation: λ in [0, 1].
        target: φ, the value that the regulariser pulls every logit to (KT: the threshold).
        step_weight_T: w_t, 1 when absent; CKD weighs the DVS stream's steps by 1 − c_t.
    """
    with torch.autocast(logits_TBC.device.type, enabled=False):
        logits_TBC = at_least_float32(logits_TBC)
        steps, batch, _ = logits_TBC.shape
        entropy_T = (
            F.cross_entropy(
                logits_TBC.flatten(0, 1),
                _as_target(label_B, logits_TBC).expand(steps, *label_B.shape).flatten(0, 1),
                reduction="none",
            )
            .view(steps, batch)
            .mean(1)
        )
        squared_T = (logits_TBC - target).square().mean((1, 2))
        loss_T = (1 - regularisation) * entropy_T + regularisation * squared_T
        return (loss_T if step_weight_T is None else step_weight_T * loss_T).mean()


def mean_logits_loss(
    logits_TBC: Tensor, label_B: Tensor, *, step_weight_T: Tensor | None = None
) -> Tensor:
    """Cross-entropy of the logits averaged over T: the plain alternative to TET.

    Args:
        logits_TBC: Logits per time step.
        label_B: Class indices, or shares of the classes label_BC, as for `tet_loss`.
        step_weight_T: Its mean weighs the loss, which speaks of all steps at once.
    """
    with torch.autocast(logits_TBC.device.type, enabled=False):
        logits_TBC = at_least_float32(logits_TBC)
        loss = F.cross_entropy(logits_TBC.mean(0), _as_target(label_B, logits_TBC))
        return loss if step_weight_T is None else step_weight_T.mean() * loss


def _as_target(label: Tensor, logits: Tensor) -> Tensor:
    """Class indices as they are, shares in the logits' precision."""
    return label.to(logits.dtype) if label.is_floating_point() else label
