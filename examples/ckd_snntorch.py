"""CKD around an snnTorch network, two labelled recordings per class.

python examples/ckd_snntorch.py
"""

import snntorch
import torch
from ckd_loop import compare
from digits import CLASSES, SIZE
from torch import Tensor, nn


class Student(nn.Module):
    """Two spiking convolutions of snnTorch's leaky neurons, a time step at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 32, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(64)
        self.pool = nn.AvgPool2d(2)
        self.lif1 = snntorch.Leaky(beta=0.5, threshold=1.0, reset_mechanism="zero")
        self.lif2 = snntorch.Leaky(beta=0.5, threshold=1.0, reset_mechanism="zero")
        self.head = nn.Linear(64 * (SIZE // 4) ** 2, CLASSES)

    def forward(self, x_TBCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Logits_TBC, and the last layer's membrane_TBN before reset."""
        membrane1, membrane2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        logits, membranes = [], []
        for x_BCHW in x_TBCHW:
            spikes_BCHW, membrane1 = self.lif1(self.norm1(self.conv1(x_BCHW)), membrane1)
            current_BCHW = self.norm2(self.conv2(self.pool(spikes_BCHW)))
            spikes_BCHW, membrane2 = self.lif2(current_BCHW, membrane2)
            logits.append(self.head(self.pool(spikes_BCHW).flatten(1)))
            membranes.append(membrane2.flatten(1))  # snnTorch resets at the next step.
        return torch.stack(logits), torch.stack(membranes)


if __name__ == "__main__":
    compare(Student, str(__doc__))
