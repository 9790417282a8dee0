"""Which rule tells photos of the classes from foreign ones; a Markdown table.

    python experiments/unlabelled.py PHOTOS FOREIGN [--epochs 6 30 100] [--keep features.npz]

PHOTOS/CLASS/*.jpg are the classes, all but `Faces`. Of each class 20 photos stand for held-out
ones, N are labelled, the rest and as many photos of the other folders of FOREIGN are the pool. The
teacher is efficientnet-lite0 with frozen features, its head trained as recipe caltech101 says (for
6 epochs), on the photos and their mirror images. Accepted shares, accuracy of the accepted native
photos' answers, and purity (right ones among all accepted) are means over seeds, in %.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from scipy.stats import rankdata
from torch.nn import functional as F

from spikebridge.data.photos import fit_photo, list_photo_folder, read_photo
from spikebridge.models.settings import TeacherConfig
from spikebridge.models.teacher import Teacher, build_teacher
from spikebridge.runs.unlabelled import answer_twice, mean_of_all, nearest_class

SIDE, BATCH, HELD, LR, WEIGHT_DECAY, SMOOTHING = 160, 64, 20, 3e-3, 0.05, 0.1
RULES = {
    "probability": (0.3, 0.5, 0.7, 0.9),
    "logits' direction": (0.5, 0.6, 0.7, 0.8),
    "likeness": (0.3, 0.35, 0.4, 0.45),
    "likeness, twice": (0.3, 0.35, 0.4, 0.45),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Try rules that turn foreign photos away.")
    parser.add_argument("photos", type=Path)
    parser.add_argument("foreign", type=Path)
    parser.add_argument("--labelled", type=int, nargs="*", default=[1, 5])
    parser.add_argument("--epochs", type=int, nargs="*", default=[6, 30, 100])
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--most", type=int, default=2000, help="foreign photos that are read")
    parser.add_argument("--keep", type=Path, help="file that keeps the features")
    args = parser.parse_args()
    torch.set_num_threads(1)
    native_N2F, label_N, foreign_MF = _features(args)
    classes = int(label_N.max()) + 1
    print("| labelled | epochs | rule | AUC | from | native | foreign | accuracy | purity |")
    print("| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for labelled in args.labelled:
        for epochs in args.epochs:
            found: dict[tuple[str, float], list] = {}
            for seed in args.seeds:
                for key, row in _of_seed(
                    native_N2F, label_N, foreign_MF, classes, labelled, epochs, seed
                ):
                    found.setdefault(key, []).append(row)
            for (rule, least), rows in found.items():
                cells = " | ".join(f"{value:.1f}" for value in 100 * np.mean(rows, axis=0))
                auc, _, rest = cells.partition(" | ")
                print(f"| {labelled} | {epochs} | {rule} | {auc} | {least:g} | {rest} |")


def _features(args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the classes' photos and their mirror images, their classes, and of foreign photos."""
    if args.keep and args.keep.exists():
        kept = np.load(args.keep)
        return kept["native_N2F"], kept["label_N"], kept["foreign_MF"]
    own = list_photo_folder(args.photos, ["Faces"])
    others = list_photo_folder(args.foreign, ["Faces", *own])
    files = [file for some in others.values() for file in some]
    order = np.random.default_rng(0).permutation(len(files))[: args.most]
    teacher = build_teacher(TeacherConfig(name="efficientnet-lite0", trainable="head"), len(own))
    label_N = np.array([label for label, some in enumerate(own.values()) for _ in some])
    native = [file for some in own.values() for file in some]
    native_N2F = np.stack([_seen(teacher.eval(), native, flip) for flip in (False, True)], 1)
    foreign_MF = _seen(teacher, [files[index] for index in order], False)
    if args.keep:
        np.savez(args.keep, native_N2F=native_N2F, label_N=label_N, foreign_MF=foreign_MF)
    return native_N2F, label_N, foreign_MF


@torch.no_grad()
def _seen(teacher: Teacher, files: list[Path], flip: bool) -> np.ndarray:
    """What the teacher's head is given of plain photos."""
    network, parts = teacher.network, []
    for start in range(0, len(files), BATCH):
        photos = [fit_photo(read_photo(f), (SIDE, SIDE)) for f in files[start : start + BATCH]]
        x_B3HW = torch.from_numpy(np.stack(photos).transpose(0, 3, 1, 2) / np.float32(255))
        x_B3HW = ((x_B3HW.flip(-1) if flip else x_B3HW) - teacher.mean_C11) / teacher.std_C11
        parts.append(network.global_pool(network.forward_features(x_B3HW)))  # pyright: ignore
    return torch.cat(parts).numpy()


def _of_seed(
    native_N2F: np.ndarray,
    label_N: np.ndarray,
    foreign_MF: np.ndarray,
    classes: int,
    labelled: int,
    epochs: int,
    seed: int,
) -> Iterator[tuple[tuple[str, float], list[float]]]:
    """Each rule's figures: AUC, accepted native and foreign, accuracy, purity."""
    random = np.random.default_rng(seed)
    of_class = [random.permutation(np.flatnonzero(label_N == c))[HELD:] for c in range(classes)]
    known, pool = (np.concatenate([own[part] for own in of_class])
                   for part in (slice(labelled), slice(labelled, None)))  # fmt: skip
    foreign = random.permutation(len(foreign_MF))[: len(pool)]
    x_PF = np.concatenate([native_N2F[pool, 0], foreign_MF[foreign]])
    native_P, count = np.arange(len(x_PF)) < len(pool), len(pool)
    label_P = np.append(label_N[pool], np.full(len(foreign), -1))
    logits_PC = x_PF @ _head(native_N2F[known], label_N[known], classes, epochs, seed)
    centred_PC, by_head_P = logits_PC - logits_PC.mean(1, keepdims=True), logits_PC.argmax(1)
    labelled_photos = native_N2F[known, 0], label_N[known]
    once = {
        "probability": (
            by_head_P,
            np.exp(logits_PC - logits_PC.max(1, keepdims=True)).sum(1) ** -1,
        ),
        "logits' direction": (by_head_P, centred_PC.max(1) / np.linalg.norm(centred_PC, axis=1)),
        "likeness": nearest_class(x_PF, *labelled_photos, mean_of_all(x_PF, labelled_photos[0])),
    }
    for rule, bars in RULES.items():
        for least in (-1, *bars):
            answer_P, score_P = (
                once[rule] if rule in once else answer_twice(x_PF, *labelled_photos, least)
            )
            right_P = native_P & (answer_P == label_P)
            rank_P = rankdata(score_P)
            auc = (rank_P[native_P].sum() - count * (count + 1) / 2) / count / (~native_P).sum()
            taken_P = score_P >= least
            accuracy = right_P[taken_P & native_P].mean() if (taken_P & native_P).any() else 0
            purity = right_P[taken_P].mean() if taken_P.any() else 0
            shares = taken_P[native_P].mean(), taken_P[~native_P].mean()
            yield (rule, least), [auc, *shares, accuracy, purity]


def _head(
    x_N2F: np.ndarray, label_N: np.ndarray, classes: int, epochs: int, seed: int
) -> np.ndarray:
    """A linear head trained as `TeacherTask` does, without its bias, weight_FC."""
    weight_FC = torch.zeros(x_N2F.shape[-1], classes, requires_grad=True)
    optimiser = torch.optim.AdamW([weight_FC], lr=LR, weight_decay=WEIGHT_DECAY)
    random, per_epoch = np.random.default_rng(seed), -(-len(x_N2F) // BATCH)
    parts: list[np.ndarray] = []
    for step in range(epochs * per_epoch):
        if step % per_epoch == 0:
            parts = np.array_split(random.permutation(len(x_N2F)), per_epoch)
        rows = parts[step % per_epoch]
        done = (step - per_epoch) / max(1, (epochs - 1) * per_epoch)
        rate = (step + 1) / per_epoch if step < per_epoch else (1 + np.cos(np.pi * done)) / 2
        optimiser.param_groups[0]["lr"] = LR * rate
        x_BF = torch.from_numpy(x_N2F[rows, random.integers(0, 2, len(rows))])
        loss = F.cross_entropy(
            x_BF @ weight_FC, torch.from_numpy(label_N[rows]), label_smoothing=SMOOTHING
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return weight_FC.detach().numpy()


if __name__ == "__main__":
    main()
