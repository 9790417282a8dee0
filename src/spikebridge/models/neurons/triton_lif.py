"""The kernels of ``lif.c`` in Triton, for CUDA: `kernels.Kernels` says what they take and return.

Blocks of rows (positions: batch, height, width) by columns (channels) are carried through all time
steps, potentials in registers. Importing this imports Triton. Under TRITON_INTERPRET=1, set before
Triton is first imported, the kernels run on CPU tensors, slowly.
"""

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

if not hasattr(tl, "tuple"):
    raise ImportError("the neurons' kernels need Triton 3.3 or newer")

_TYPES = (torch.float32, torch.bfloat16, torch.float16)
_SURROGATES = ("qgate", "atan", "sigmoid")
_COLUMNS = 64
"""Most channels of a block."""
_BLOCK = 1024
"""Elements of a block."""
_KEPT_BLOCK = 512
"""The same where a block's potentials of many steps are kept."""
_KEPT_STEPS = 10
"""Most time steps whose potentials are kept: registers end, and compile time grows (4 s for 10).
Those of earlier steps are computed once more for each further part of a sequence."""
_GROUP = 16
"""Most blocks of rows whose sums by channel one program adds up."""
_PROGRAMS = 1024
"""No fewer programs for the sake of groups."""


@triton.jit
def _rows(program, ROWS: tl.constexpr):
    return program.to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]


@triton.jit
def _columns(COLUMNS: tl.constexpr):
    c = tl.arange(0, COLUMNS)[None, :]
    if COLUMNS > 1:  # else there is one channel, and c a constant: vector loads need to know
        c += tl.program_id(1) * COLUMNS
    return c


@triton.jit
def _by_channel(values, c, channels):
    return tl.load(values + c, c < channels, 0.0)


@triton.jit
def _charged(v, x, at, inside, scale, shift, w, threshold):
    """Potential after a step, from the one before it and before its reset."""
    v = tl.where(v >= threshold, 0.0, v)
    i = tl.load(x + at, inside, 0.0).to(tl.float32)
    if scale is not None:
        i = i * scale + shift
    # As torch.lerp rounds it.
    return tl.where(w < 0.5, v + w * (i - v), i - (i - v) * (1.0 - w))


@triton.jit
def _slope(x, alpha, SURROGATE: tl.constexpr):
    if SURROGATE == "qgate":
        y = tl.maximum(alpha - alpha * alpha * tl.abs(x), 0.0)
    elif SURROGATE == "atan":
        z = 1.5707963267948966 * alpha * x
        y = alpha / 2 / (1 + z * z)
    else:
        s = tl.sigmoid(alpha * x)
        y = alpha * s * (1 - s)
    return y


@triton.jit
def _forward(
    x, scale, shift, spikes, membrane, steps, places, channels, step, w, threshold,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    p, c = _rows(tl.program_id(0), ROWS), _columns(COLUMNS)
    at = p * channels + c
    inside = (p < places) & (c < channels)
    if scale is not None:
        scale = _by_channel(scale, c, channels)
        shift = _by_channel(shift, c, channels)
    v = tl.zeros((ROWS, COLUMNS), tl.float32)
    for _ in range(steps):
        v = _charged(v, x, at, inside, scale, shift, w, threshold)
        spike = tl.where(v >= threshold, 1.0, 0.0)
        tl.store(spikes + at, spike.to(spikes.dtype.element_ty), inside)
        if membrane is not None:
            tl.store(membrane + at, v, inside)
        at += step


@triton.jit(do_not_specialize=["group"])
def _backward(
    x, scale, shift, mean, spikes_grad, membrane_grad, grad, parts, steps, places, channels, step,
    w, threshold, alpha, group, SURROGATE: tl.constexpr, KEPT: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):  # fmt: skip
    """parts is programs × 2 × C: sums of grad, and of grad times x − mean."""
    program = tl.program_id(0)
    c = _columns(COLUMNS)
    if scale is not None:
        scale = _by_channel(scale, c, channels)
        shift = _by_channel(shift, c, channels)
        mean = _by_channel(mean, c, channels)
    segments = tl.cdiv(steps, KEPT)
    sums = tl.zeros((ROWS, COLUMNS), tl.float32)
    products = tl.zeros((ROWS, COLUMNS), tl.float32)
    for k in range(group):
        p = _rows(program * group + k, ROWS)
        inside = (p < places) & (c < channels)
        carried = tl.zeros((ROWS, COLUMNS), tl.float32)
        for s in range(segments):
            first = (segments - 1 - s) * KEPT
            at = p * channels + c
            v = tl.zeros((ROWS, COLUMNS), tl.float32)
            for _ in range(first):
                v = _charged(v, x, at, inside, scale, shift, w, threshold)
                at += step
            kept = ()
            time = first + tl.zeros((ROWS, 1), tl.int32)
            for t in tl.static_range(KEPT):  # pyright: ignore[reportGeneralTypeIssues]
                v = _charged(v, x, at, inside & (time + t < steps), scale, shift, w, threshold)
                kept = kept + (v,)
                at += step
            for back in tl.static_range(KEPT):  # pyright: ignore[reportGeneralTypeIssues]
                at -= step
                v = kept[KEPT - 1 - back]
                here = inside & (time + (KEPT - 1 - back) < steps)
                carried = tl.where(v < threshold, carried, 0.0)
                if membrane_grad is not None:
                    carried += tl.load(membrane_grad + at, here, 0.0)
                if spikes_grad is not None:
                    upstream = tl.load(spikes_grad + at, here, 0.0).to(tl.float32)
                    carried += upstream * _slope(v - threshold, alpha, SURROGATE)
                g = carried * w
                tl.store(grad + at, g.to(grad.dtype.element_ty), here)
                carried -= g
                if scale is not None:
                    sums += g
                    again = tl.load(x + at, here, 0.0).to(tl.float32)
                    products += g * (again - mean)
    if scale is not None:
        _store_parts(parts, program, sums, products, c, channels)


@triton.jit
def _store_parts(parts, program, first, second, c, channels):
    """Sums over a block's rows, to program × 2 × C."""
    at = parts + program.to(tl.int64) * 2 * channels + c
    tl.store(at, tl.sum(first, 0, keep_dims=True), c < channels)
    tl.store(at + channels, tl.sum(second, 0, keep_dims=True), c < channels)


@triton.jit(do_not_specialize=["group"])
def _moments(x, parts, rows, channels, group, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """parts is programs × 2 × C: sums of x − x[0] and of its square."""
    program = tl.program_id(0)
    c = _columns(COLUMNS)
    origin = _by_channel(x, c, channels).to(tl.float32)
    sums = tl.zeros((ROWS, COLUMNS), tl.float32)
    squares = tl.zeros((ROWS, COLUMNS), tl.float32)
    for k in range(group):
        p = _rows(program * group + k, ROWS)
        at = p * channels + c
        inside = (p < rows) & (c < channels)
        d = tl.where(inside, tl.load(x + at, inside, 0.0).to(tl.float32) - origin, 0.0)
        sums += d
        squares += d * d
    _store_parts(parts, program, sums, squares, c, channels)


@triton.jit
def _affine(
    grad, x, a, b, d, rows, channels, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    p, c = _rows(tl.program_id(0), ROWS), _columns(COLUMNS)
    at = p * channels + c
    inside = (p < rows) & (c < channels)
    y = tl.load(grad + at, inside, 0.0).to(tl.float32) * _by_channel(a, c, channels)
    y += tl.load(x + at, inside, 0.0).to(tl.float32) * _by_channel(b, c, channels)
    y += _by_channel(d, c, channels)
    tl.store(grad + at, y.to(grad.dtype.element_ty), inside)


INTERPRETED = not isinstance(_forward, triton.JITFunction)
"""Whether Triton's CPU interpreter runs the kernels."""


def takes(x: Tensor, surrogate: str) -> bool:
    """Whether the kernels can be used on a tensor of this kind."""
    known = (x.is_cuda or INTERPRETED) and x.dtype in _TYPES and surrogate in _SURROGATES
    return known and (x.dtype != torch.bfloat16 or INTERPRETED or _converts_bfloat16(x.device))


@cache
def _converts_bfloat16(device: torch.device) -> bool:
    """Whether a GPU has instructions for it: Ampere and later."""
    return torch.cuda.get_device_capability(device) >= (8, 0)


def moments(x_RC: Tensor) -> tuple[Tensor, Tensor]:
    """Sums by column of x − x[0] and of its square; see `Kernels`."""
    rows, channels = x_RC.shape
    blocks = _Blocks(rows, channels, _BLOCK, grouped=True)
    parts_G2C = x_RC.new_empty((blocks.grid[0], 2, channels), dtype=torch.float32)
    with torch.cuda.device_of(x_RC):
        _moments[blocks.grid](x_RC, parts_G2C, rows, channels, blocks.group, **blocks.sides)
    sum_C, square_C = parts_G2C.sum(0, dtype=torch.float64)
    return sum_C, square_C


def forward(
    x_TPC: Tensor,
    scale_C: Tensor | None,
    shift_C: Tensor | None,
    tau: float,
    threshold: float,
    *,
    membrane: bool,
) -> tuple[Tensor, Tensor | None]:
    """Spikes, and potentials before reset where asked for; see `Kernels`."""
    steps, places, channels = x_TPC.shape
    blocks = _Blocks(places, channels, _BLOCK)
    spikes_TPC = torch.empty_like(x_TPC)
    membrane_TPC = torch.empty_like(x_TPC, dtype=torch.float32) if membrane else None
    with torch.cuda.device_of(x_TPC):
        _forward[blocks.grid](
            x_TPC, scale_C, shift_C, spikes_TPC, membrane_TPC, steps, places, channels,
            places * channels, 1 / tau, threshold, **blocks.sides,
        )  # fmt: skip
    return spikes_TPC, membrane_TPC


def backward(
    x_TPC: Tensor,
    scale_C: Tensor | None,
    shift_C: Tensor | None,
    mean_C: Tensor | None,
    spikes_grad_TPC: Tensor | None,
    membrane_grad_TPC: Tensor | None,
    tau: float,
    threshold: float,
    surrogate: str,
    alpha: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient with respect to the neurons' input and its sums; see `Kernels`."""
    steps, places, channels = x_TPC.shape
    blocks = _Blocks(places, channels, _KEPT_BLOCK, grouped=scale_C is not None)
    kept = -(-steps // -(-steps // _KEPT_STEPS))
    grad_TPC = torch.empty_like(x_TPC)
    size = 0 if scale_C is None else blocks.grid[0]
    parts_G2C = x_TPC.new_empty((size, 2, channels), dtype=torch.float32)
    with torch.cuda.device_of(x_TPC):
        _backward[blocks.grid](
            x_TPC, scale_C, shift_C, mean_C, spikes_grad_TPC, membrane_grad_TPC, grad_TPC,
            parts_G2C, steps, places, channels, places * channels, 1 / tau, threshold, alpha,
            blocks.group, surrogate, kept, **blocks.sides,  # pyright: ignore[reportArgumentType]
        )  # fmt: skip
    sum_C, product_C = parts_G2C.sum(0, dtype=torch.float64)
    return grad_TPC, sum_C, product_C


def affine_(grad_RC: Tensor, x_RC: Tensor, a_C: Tensor, b_C: Tensor, d_C: Tensor) -> Tensor:
    """a·grad + b·x + d by channel, in place."""
    rows, channels = grad_RC.shape
    blocks = _Blocks(rows, channels, _BLOCK)
    with torch.cuda.device_of(grad_RC):
        _affine[blocks.grid](
            grad_RC, x_RC, a_C.float(), b_C.float(), d_C.float(), rows, channels, **blocks.sides
        )
    return grad_RC


class _Blocks:
    """How rows and columns are shared out: ``group`` blocks of rows a program, of columns one."""

    def __init__(self, rows: int, columns: int, size: int, *, grouped: bool = False) -> None:
        width = min(1 << (columns - 1).bit_length(), _COLUMNS)
        height = size // width
        # One way of rounding on all machines: no fused multiply-add.
        self.sides = {"ROWS": height, "COLUMNS": width, "enable_fp_fusion": False}
        down, across = -(-rows // height), -(-columns // width)
        self.group = min(max(1, down * across // _PROGRAMS), _GROUP) if grouped else 1
        self.grid: tuple[int, int] = -(-down // self.group), across
