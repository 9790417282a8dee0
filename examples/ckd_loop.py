"""CKD as a training loop of your own: spikebridge's parts around any spiking network.

The network maps frames x_TBCHW to logits_TBC and to the membrane potential before reset of its last
spiking layer, membrane_TBN. See ckd_spikingjelly.py and ckd_snntorch.py.
"""

import argparse
from collections.abc import Callable

import digits
import torch
from torch import Tensor, nn

from spikebridge import (
    DistillationSchedule,
    ReplacementSchedule,
    TemporalCoefficient,
    alignment_loss,
    kd_loss,
    linear_cka,
    photo_sequence,
    replace_samples,
    tet_loss,
)


def train(
    student: nn.Module, data: digits.Digits, teacher: nn.Module | None, steps: int, batch: int = 20
) -> float:
    """Train on both streams, or without a teacher on the recordings alone.

    Returns:
        Test accuracy in percent.
    """
    replacement, distillation = ReplacementSchedule(), DistillationSchedule()
    coefficient = TemporalCoefficient(digits.TIME_STEPS)
    random = torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW([*student.parameters(), *coefficient.parameters()], 2e-3)
    student.train()
    for step in range(steps):
        u = step / steps
        dvs_TBCHW, photo_B3HW, label_B = data.batch(batch, random)
        if teacher is None:
            loss = tet_loss(student(dvs_TBCHW)[0], label_B)
        else:
            # The hybrid stream: photos, of which more and more give way to recordings.
            source_TBCHW = photo_sequence(photo_B3HW, digits.TIME_STEPS)
            hybrid = replace_samples(source_TBCHW, dvs_TBCHW, replacement(u), random)
            hybrid_TBC, hybrid_TBN = student(hybrid.frames_TBCHW)
            dvs_TBC, dvs_TBN = student(dvs_TBCHW)
            c_T = coefficient()
            loss = (
                tet_loss(hybrid_TBC, label_B)
                + tet_loss(dvs_TBC, label_B, step_weight_T=1 - c_T)
                + 0.5 * alignment_loss(linear_cka(hybrid_TBN, dvs_TBN), c_T)
            )
            # The teacher guides until the phased weight has fallen to 0.
            if weight := distillation(u, replacement(u)):
                with torch.no_grad():
                    teacher_BC = teacher(photo_B3HW)
                loss = loss + weight * kd_loss(hybrid_TBC, teacher_BC)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return accuracy(student, data)


@torch.no_grad()
def accuracy(student: nn.Module, data: digits.Digits) -> float:
    """Test accuracy in percent."""
    logits_TBC: Tensor = student.eval()(data.test_NTCHW.transpose(0, 1))[0]
    return 100 * (logits_TBC.mean(0).argmax(-1) == data.test_label_N).float().mean().item()


def compare(build: Callable[[], nn.Module], description: str) -> None:
    """Print the accuracy of a student trained alone and of one trained by CKD."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--steps", type=int, default=300, help="training steps of each student")
    parser.add_argument("--test_per_class", type=int, default=20, help="test recordings")
    given = parser.parse_args()
    torch.manual_seed(0)
    data = digits.load(test_per_class=given.test_per_class)
    teacher = digits.train_teacher(data)
    for name, guide in (("alone", None), ("CKD", teacher)):
        torch.manual_seed(1)
        print(f"{name}: {train(build(), data, guide, given.steps):.1f} % of the test recordings")
