"""Few labelled recordings and many labelled photos of digits: what stands for your own data."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from spikebridge import Simulator, frame_events, network_input, simulate_photo

TIME_STEPS, SIZE, CLASSES = 4, 16, 10
_CAMERA = Simulator(
    width=32, height=32, margin=0.1, amplitude=5.0, pos_threshold=0.6, neg_threshold=0.6
)


@dataclass(frozen=True)
class Digits:
    """Recordings of scikit-learn's digits, simulated, and other digits as photos."""

    train_NTCHW: Tensor
    """The labelled recordings as event frames; channel 0 is OFF, 1 is ON."""
    train_label_N: Tensor
    photo_P3HW: Tensor
    """Photos in [0, 1]; none of them was recorded for the test."""
    photo_label_P: Tensor
    test_NTCHW: Tensor
    test_label_N: Tensor

    def batch(self, size: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Recordings dvs_TBCHW, for each a random photo_B3HW of its class, and label_B."""
        rows_B = torch.randint(len(self.train_label_N), (size,), generator=random)
        label_B = self.train_label_N[rows_B]
        photo_B = [self._photo_of(label, random) for label in label_B]
        return self.train_NTCHW[rows_B].transpose(0, 1), self.photo_P3HW[photo_B], label_B

    def _photo_of(self, label: Tensor, random: torch.Generator) -> int:
        of_class = (self.photo_label_P == label).nonzero()[:, 0]
        return int(of_class[torch.randint(len(of_class), (), generator=random)])


def load(labelled_per_class: int = 2, test_per_class: int = 20) -> Digits:
    """Of each class other digits are labelled recordings, test recordings and (50) photos."""
    digits: Any = load_digits()
    photo_N3HW = np.repeat(np.round(digits.images * (255 / 16)).astype(np.uint8)[:, None], 3, 1)
    random = np.random.default_rng(0)
    of_class = [
        random.permutation(np.flatnonzero(digits.target == label)) for label in range(CLASSES)
    ]
    labelled = np.concatenate([rows[:labelled_per_class] for rows in of_class])
    last = labelled_per_class + test_per_class
    tested = np.concatenate([rows[labelled_per_class:last] for rows in of_class])
    photos = np.concatenate([rows[-50:] for rows in of_class])
    label_N = torch.from_numpy(digits.target)
    photo_P3HW = torch.from_numpy(photo_N3HW[photos]).float() / 255
    return Digits(
        _recorded(photo_N3HW[labelled]),
        label_N[labelled],
        F.pad(F.interpolate(photo_P3HW, (12, 12), mode="bilinear"), (2, 2, 2, 2)),
        label_N[photos],
        _recorded(photo_N3HW[tested]),
        label_N[tested],
    )


def _recorded(photo_N3HW: np.ndarray) -> Tensor:
    """Event frames x_NTCHW of photos moved before the simulated camera."""
    counts_NTCHW = [
        frame_events(
            simulate_photo(photo_3HW.transpose(1, 2, 0), _CAMERA, seed), TIME_STEPS, (SIZE, SIZE)
        )
        for seed, photo_3HW in enumerate(photo_N3HW)
    ]
    return torch.from_numpy(network_input(np.stack(counts_NTCHW), "recording"))


def train_teacher(data: Digits, epochs: int = 8) -> nn.Module:
    """A small network that knows the photos."""
    teacher = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * (SIZE // 4) ** 2, CLASSES),
    )
    optimiser = torch.optim.AdamW(teacher.parameters(), 3e-3)
    for _ in range(epochs):
        for rows_B in torch.randperm(len(data.photo_label_P)).split(50):
            loss = F.cross_entropy(teacher(data.photo_P3HW[rows_B]), data.photo_label_P[rows_B])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return teacher.eval()
