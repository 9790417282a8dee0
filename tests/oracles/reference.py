"""The equations of docs/method.md written down once more, slowly and without spikebridge."""

import math

import numpy as np
import torch
from torch import Tensor


def cka_biased(x_BN: np.ndarray, y_BN: np.ndarray) -> float:
    """Linear CKA by the textbook HSIC tr(KHLH) with an explicit centring matrix H."""
    x_BN, y_BN = np.asarray(x_BN, np.float64), np.asarray(y_BN, np.float64)
    batch = len(x_BN)
    h_BB = np.eye(batch) - np.ones((batch, batch)) / batch
    k_BB, l_BB = x_BN @ x_BN.T, y_BN @ y_BN.T

    def hsic(a_BB: np.ndarray, b_BB: np.ndarray) -> float:
        return float(np.trace(a_BB @ h_BB @ b_BB @ h_BB))

    return hsic(k_BB, l_BB) / math.sqrt(hsic(k_BB, k_BB) * hsic(l_BB, l_BB))


def cka_debiased(x_BN: np.ndarray, y_BN: np.ndarray) -> float:
    """Linear CKA by the unbiased HSIC of Song et al. (JMLR 2012, equation 5)."""
    x_BN, y_BN = np.asarray(x_BN, np.float64), np.asarray(y_BN, np.float64)
    n = len(x_BN)
    k_BB, l_BB = x_BN @ x_BN.T, y_BN @ y_BN.T
    np.fill_diagonal(k_BB, 0)
    np.fill_diagonal(l_BB, 0)

    def hsic(a_BB: np.ndarray, b_BB: np.ndarray) -> float:
        first = np.trace(a_BB @ b_BB)
        second = a_BB.sum() * b_BB.sum() / ((n - 1) * (n - 2))
        third = 2 / (n - 2) * (a_BB.sum(0) @ b_BB.sum(1))
        return float((first + second - third) / (n * (n - 3)))

    return hsic(k_BB, l_BB) / math.sqrt(hsic(k_BB, k_BB) * hsic(l_BB, l_BB))


def softmax(z: np.ndarray) -> np.ndarray:
    """Softmax over the last axis."""
    e = np.exp(np.asarray(z, np.float64) - np.max(z, -1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def cross_entropy(z_BC: np.ndarray, label_B: np.ndarray) -> float:
    """Mean over the batch of −log softmax(z)[y]."""
    return float(np.mean([-math.log(softmax(z)[y]) for z, y in zip(z_BC, label_B, strict=True)]))


def tet(
    z_TBC: np.ndarray,
    label_B: np.ndarray,
    regularisation: float,
    target: float,
    weight_T: np.ndarray | None = None,
) -> float:
    """mean_t w_t [(1 − λ) CE(z_t, y) + λ MSE(z_t, θ)]."""
    z_TBC = np.asarray(z_TBC, np.float64)
    terms = [
        (1 - regularisation) * cross_entropy(z_BC, label_B)
        + regularisation * np.mean((z_BC - target) ** 2)
        for z_BC in z_TBC
    ]
    return float(np.mean(np.asarray(terms) * (1 if weight_T is None else weight_T)))


def kd(
    student_TBC: np.ndarray,
    teacher_BC: np.ndarray,
    temperature: float,
    *,
    per_step: bool = False,
    rows: np.ndarray | slice = slice(None),
) -> float:
    """τ² KL(softmax(teacher/τ) ‖ softmax(student/τ)), mean over the chosen rows."""
    student_TBC, teacher_BC = np.asarray(student_TBC, np.float64), np.asarray(teacher_BC)
    steps = student_TBC if per_step else student_TBC.mean(0, keepdims=True)
    p_BC = softmax(teacher_BC / temperature)
    divergences = []
    for student_BC in steps:
        q_BC = softmax(student_BC / temperature)
        divergences.append((p_BC * (np.log(p_BC) - np.log(q_BC))).sum(-1)[rows].mean())
    return temperature**2 * float(np.mean(divergences))


def alignment(
    x_TBN: np.ndarray, y_TBN: np.ndarray, coefficient_T: np.ndarray, *, debiased: bool = False
) -> float:
    """mean_t c_t (1 − |CKA_t|)."""
    cka = cka_debiased if debiased else cka_biased
    terms = [1 - abs(cka(x, y)) for x, y in zip(x_TBN, y_TBN, strict=True)]
    return float(np.mean(np.asarray(coefficient_T) * terms))


def dkd(
    student_TBC: np.ndarray,
    teacher_BC: np.ndarray,
    label_B: np.ndarray,
    temperature: float,
    *,
    alpha: float,
    beta: float,
    per_step: bool = False,
    weight_B: np.ndarray | None = None,
) -> float:
    """τ² (α KL(b_teacher ‖ b_student) + β KL(p̂_teacher ‖ p̂_student)), sample by sample."""
    student_TBC, teacher_BC = np.asarray(student_TBC, np.float64), np.asarray(teacher_BC)
    steps = student_TBC if per_step else student_TBC.mean(0, keepdims=True)
    weight_B = np.ones(len(label_B)) if weight_B is None else np.asarray(weight_B, np.float64)

    def kl(p: np.ndarray, q: np.ndarray) -> float:
        return float((p * np.log(p / q)).sum())

    total = 0.0
    for student_BC in steps:
        for b, right in enumerate(label_B):
            p, q = softmax(teacher_BC[b] / temperature), softmax(student_BC[b] / temperature)
            others = [c for c in range(len(p)) if c != right]
            pair = [np.array([z[right], z[others].sum()]) for z in (p, q)]
            rest = [z[others] / z[others].sum() for z in (p, q)]
            total += weight_B[b] * (alpha * kl(*pair) + beta * kl(*rest))
    return temperature**2 * total / len(steps) / weight_B.sum()


def dist(
    student_TBC: np.ndarray,
    teacher_BC: np.ndarray,
    temperature: float,
    *,
    beta: float = 1.0,
    gamma: float = 1.0,
    per_step: bool = False,
    rows: np.ndarray | slice = slice(None),
) -> float:
    """τ² (β mean_b (1 − ρ over classes) + γ mean_c (1 − ρ over samples)) of the chosen rows."""
    student_TBC = np.asarray(student_TBC, np.float64)[:, rows]
    steps = student_TBC if per_step else student_TBC.mean(0, keepdims=True)
    p_BC = softmax(np.asarray(teacher_BC)[rows] / temperature)
    losses = []
    for student_BC in steps:
        q_BC = softmax(student_BC / temperature)
        inter = [1 - np.corrcoef(p, q)[0, 1] for p, q in zip(p_BC, q_BC, strict=True)]
        intra = [1 - np.corrcoef(p, q)[0, 1] for p, q in zip(p_BC.T, q_BC.T, strict=True)]
        losses.append(beta * np.mean(inter) + gamma * np.mean(intra))
    return temperature**2 * float(np.mean(losses))


def spike(x: Tensor, surrogate: str, alpha: float) -> Tensor:
    """H(x) whose derivative is the surrogate's, by adding a primitive of it and its negative."""
    match surrogate:
        case "qgate":
            inside = x.clamp(-1 / alpha, 1 / alpha)
            primitive = alpha * inside - alpha**2 * inside * inside.abs() / 2
        case "atan":
            primitive = torch.atan(math.pi / 2 * alpha * x) / math.pi
        case "sigmoid":
            primitive = 1 / (1 + torch.exp(-alpha * x))
        case _:
            raise ValueError(surrogate)
    return (x >= 0).to(x.dtype).detach() + primitive - primitive.detach()


def eager_lif(
    current_TN: Tensor, tau: float, threshold: float, surrogate: str, alpha: float
) -> tuple[Tensor, Tensor]:
    """Spikes and potentials before reset of equation 1's LIF, differentiated by autograd."""
    v_N = torch.zeros_like(current_TN[0])
    spikes, membranes = [], []
    for current_N in current_TN:
        v_N = v_N + (current_N - v_N) / tau
        membranes.append(v_N)
        spikes.append(spike(v_N - threshold, surrogate, alpha))
        v_N = v_N * (1 - spikes[-1].detach())
    return torch.stack(spikes), torch.stack(membranes)
