"""The auxiliary losses of time-step mixup (TMKT, arXiv 2509.12959)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MixupHeads(nn.Module):
    """Two linear heads on the hybrid stream's features, used in training only.

    One tells at each time step whether the frame was a photo or events (modality-aware guidance);
    the other tells from the mean over T what share of the steps were events (mixup ratio
    perception).

    Args:
        features: Number of features F.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.modality = nn.Linear(features, 1)
        self.ratio = nn.Linear(features, 1)

    def forward(self, features_TBF: Tensor) -> tuple[Tensor, Tensor]:
        """Logit of "events" per step and sample, logit_TB, and the share of events, share_B."""
        logit_TB = self.modality(features_TBF)[..., 0]
        share_B = self.ratio(features_TBF.mean(0))[..., 0].float().sigmoid()
        return logit_TB.float(), share_B


def modality_loss(logit_TB: Tensor, replaced_TB: Tensor) -> Tensor:
    """Binary cross-entropy of telling events (1) from photos (0) at each step.

    Args:
        logit_TB: Logits of "events".
        replaced_TB: Boolean, true where the frame is of events.
    """
    with torch.autocast(logit_TB.device.type, enabled=False):
        return F.binary_cross_entropy_with_logits(logit_TB, replaced_TB.to(logit_TB.dtype))


def ratio_loss(share_B: Tensor, replaced_TB: Tensor) -> Tensor:
    """Mean squared error of the share of event steps.

    Args:
        share_B: Estimated share in (0, 1).
        replaced_TB: Boolean, true where the frame is of events.
    """
    return F.mse_loss(share_B, replaced_TB.to(share_B.dtype).mean(0))
