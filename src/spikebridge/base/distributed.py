"""Several processes that train one model, as torchrun starts them; without it, nothing is shared.

The processes share every batch, and each trains on its part. What one of them decides, or all have
to agree on, goes over the CPU, so that no GPU is waited for.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

from spikebridge.base.console import console
from spikebridge.base.errors import UserError

_T = TypeVar("_T")

_PATIENCE = timedelta(hours=12)
"""While rank 0 prepares data or evaluates, the others wait."""


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def share() -> slice:
    """The rows of a batch that this process takes."""
    return slice(rank(), None, size())


@contextmanager
def processes(device: str) -> Iterator[None]:
    """Connect the processes that torchrun started, each with a GPU of its own.

    Only rank 0 shows progress and notes.

    Args:
        device: ``train.device``.

    Raises:
        UserError: fewer GPUs than processes, or one GPU for all of them.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or "RANK" not in os.environ:
        yield
        return
    gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if gpu:
        _take_gpu(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo", timeout=_PATIENCE)
    console.quiet = rank() > 0
    failed = True
    try:
        if gpu:
            _require_own_gpus()
        yield
        failed = False
    finally:
        console.quiet = False
        if gpu and failed:
            # To destroy it, NCCL would wait for collectives that other processes may never join.
            with suppress(Exception):
                dist.distributed_c10d._abort_process_group()
        else:
            dist.destroy_process_group()


def _take_gpu(device: str) -> None:
    """The GPU of this process's number, or the only one that it sees."""
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
    if device not in ("auto", "cuda"):
        raise UserError(f"train.device {device!r} is one GPU for all processes; use auto or cuda")
    if gpus != 1 and here > gpus:
        raise _too_many(here, gpus)
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) if gpus > 1 else 0)


def _require_own_gpus() -> None:
    """Refuse processes that see one GPU each where it is the same.

    Under ``srun --gpus-per-task=1`` each sees its own, under the same number.
    """
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
    mine = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
    only = [gpu for gpu, is_only in each_ones((mine, gpus == 1 < here)) if is_only]
    if len(set(only)) < len(only):
        raise _too_many(here, gpus)


def _too_many(processes: int, gpus: int) -> UserError:
    return UserError(f"{processes} processes for {gpus} GPUs; start torchrun with fewer a machine")


def on_main(act: Callable[[], _T]) -> _T:
    """What a function returns that rank 0 runs while the others wait; its failure fails all.

    Args:
        act: Its result and its exceptions must be picklable.
    """
    if size() == 1:
        return act()
    outcome: list[Any] = [None, None]
    try:
        if rank() == 0:
            outcome[0] = act()
    except BaseException as error:
        outcome[1] = error
        raise
    finally:
        dist.broadcast_object_list(outcome, device=torch.device("cpu"))
    if rank() and outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def main_first(act: Callable[[], _T]) -> _T:
    """What a function returns in each process, when rank 0 is done with it, and its files written.

    Its failure at rank 0 fails all.
    """
    kept: list[_T] = []
    on_main(lambda: kept.append(act()))
    return kept[0] if kept else act()


def any_of(*flags: bool) -> list[bool]:
    """Each flag, true where it is in any process."""
    if size() == 1:
        return list(flags)
    raised = torch.tensor(flags, dtype=torch.uint8)
    dist.all_reduce(raised, dist.ReduceOp.MAX)
    return raised.bool().tolist()


def each_ones(value: Any) -> list[Any]:
    """The value of every process, by rank."""
    values: list[Any] = [value] * size()
    if size() > 1:
        dist.all_gather_object(values, value)
    return values


def broadcast_(module: nn.Module) -> None:
    """Give all processes the parameters and buffers of rank 0."""
    if size() > 1:
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, 0)


def sum_gradients_(parameters: Iterable[nn.Parameter]) -> None:
    """Add up the gradients of all processes; None stays where no process has one."""
    if size() == 1:
        return
    parameters = list(parameters)
    present = any_of(*(p.grad is not None for p in parameters))
    shared = [p for p, anywhere in zip(parameters, present, strict=True) if anywhere]
    if not shared:
        return
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in shared]
    flat = torch.cat([grad.reshape(-1) for grad in grads])
    dist.all_reduce(flat)
    parts = flat.split([grad.numel() for grad in grads])
    for parameter, grad, part in zip(shared, grads, parts, strict=True):
        parameter.grad = grad.copy_(part.view(grad.shape))


def total(x: Tensor) -> Tensor:
    """Sum over all processes, with gradient: each one's counts for all."""
    return _Total.apply(x) if size() > 1 else x  # pyright: ignore[reportReturnType]


def gather(x: Tensor, dim: int, batch: int) -> Tensor:
    """A whole batch from every process's share, rank after rank, with gradient.

    Args:
        x: This process's rows, along ``dim``.
        dim: Which dimension the batch is.
        batch: Number of rows in the whole batch.
    """
    return _Gather.apply(x, dim, batch) if size() > 1 else x  # pyright: ignore[reportReturnType]


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _summed(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _summed(grad)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, batch: int) -> Tensor:
        rows = [len(range(batch)[r :: size()]) for r in range(size())]
        ctx.dim, ctx.rows = dim, rows
        # All must send as many rows as the first has.
        sent = x.movedim(dim, 0).contiguous()
        if len(sent) < rows[0]:
            sent = torch.cat([sent, sent[:1]])
        received = [torch.empty_like(sent) for _ in rows]
        dist.all_gather(received, sent)
        whole = torch.cat([part[:count] for part, count in zip(received, rows, strict=True)])
        return whole.movedim(0, dim)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        own = _summed(grad).split(ctx.rows, ctx.dim)[rank()]
        return own, None, None


def _summed(x: Tensor) -> Tensor:
    x = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(x)
    return x
