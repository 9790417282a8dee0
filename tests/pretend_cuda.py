"""CPU tensors that pass for CUDA ones: a machine without a GPU notices what a GPU refuses.

Within `pretend`, a tensor moved to "cuda" is a wrapper whose device Python sees as cuda:0, and
whose values are computed by the CPU's kernels: a run on it must equal the CPU's bit for bit. As
CUDA does, it refuses to mix with host tensors, to be read as NumPy, and, while a graph is captured,
to be read at all or to be copied from the host. Captured graphs are emulated: what happens during
the capture leaves no trace, and a replay computes the recorded operations again, in the same memory
and with the same Python numbers. Outside a capture every wait for the device is noted with its
line.

What it cannot see: Triton, cuDNN, NCCL and their numbers, streams, memory that graphs share,
threads' contexts. docs/architecture.md says so.
"""

import contextlib
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.optimizer import Optimizer
from torch.utils._python_dispatch import return_and_correct_aliasing

CUDA = torch.device("cuda", 0)
_MIXES = {"copy_", "index", "index_put_", "_index_put_impl_", "_to_copy", "set_"}
_READS = {"_unique2", "nonzero", "_local_scalar_dense", "masked_select", "equal"}
_INDEXES = {"index", "index_put_", "_index_put_impl_"}
_READERS = tuple(getattr(Tensor, n) for n in ("item", "tolist", "__bool__", "__float__", "__int__"))

waits: list[str] = []
"""Where the host waited for the device: what, and the line of ours that did it."""
_capturing: "list[Graph]" = []


def _wait(what: str) -> None:
    frame: Any = sys._getframe(1)
    while frame and ("/torch/" in frame.f_code.co_filename or frame.f_globals is globals()):
        frame = frame.f_back
    if _capturing:
        raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing ({what})")
    place = f"{frame.f_code.co_filename.split('/')[-1]}:{frame.f_lineno}" if frame else "?"
    waits.append(f"{what} at {place}")


def _cuda(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def inner(x: Any) -> Any:
    """The CPU tensor inside, or what else it is."""
    return x.inner if isinstance(x, OnCuda) else x


def _mapped(act: Callable[[Any], Any], value: Any) -> Any:
    """A tree of lists, tuples and dicts with its leaves mapped; faster than PyTorch's own."""
    if isinstance(value, tuple | list):
        return type(value)([_mapped(act, x) for x in value])
    if isinstance(value, dict):
        return {key: _mapped(act, x) for key, x in value.items()}
    return act(value)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    found = isinstance(value, tuple | list | dict)
    return [x for part in parts for x in _tensors(part)] if found else []


def _wrapped(x: Any) -> Any:
    return OnCuda(x) if isinstance(x, Tensor) and not isinstance(x, OnCuda) else x


class OnCuda(torch.Tensor):
    """A CPU tensor that passes for a CUDA one."""

    inner: Tensor

    @staticmethod
    def __new__(cls, x: Tensor, requires_grad: bool = False) -> "OnCuda":
        made = torch.Tensor._make_wrapper_subclass(
            cls, x.size(), strides=x.stride(), storage_offset=x.storage_offset(), dtype=x.dtype,
            device="cpu", requires_grad=requires_grad,
        )  # fmt: skip
        made.inner = x
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.inner.__reduce_ex__(protocol)

    def __repr__(self, **_: Any) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return f"cuda({self.inner})"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, x = kwargs or {}, args[0] if args else None
        here = isinstance(x, OnCuda)
        if func == Tensor.device.__get__:  # pyright: ignore[reportAttributeAccessIssue]
            return CUDA if here else torch.device("cpu")
        if func == Tensor.is_cuda.__get__:  # pyright: ignore[reportAttributeAccessIssue]
            return here
        if func == Tensor.is_cpu.__get__:  # pyright: ignore[reportAttributeAccessIssue]
            return not here
        if here and func in (Tensor.numpy, Tensor.data_ptr, Tensor.__array__):
            raise TypeError(f"{func.__name__}: can't convert cuda:0 device type tensor")
        if here and func in _READERS:
            _wait(func.__name__)
            return func(x.inner, *args[1:], **kwargs)
        if here and func is Tensor.cpu:
            _wait("cpu")
            return x.inner.detach().clone()
        if func is Tensor.backward:  # It runs Python, which must see the devices.
            from torch.autograd.graph import _engine_run_backward

            grads = (torch.ones_like(x),)
            return _engine_run_backward(
                (x,), grads, False, False, (), allow_unreachable=True, accumulate_grad=True
            )
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket._qualified_op_name.split("::")[1]
        tensors = _tensors((args, kwargs))
        host = [a for a in tensors if not isinstance(a, OnCuda) and a.dim() > 0]
        if host and name not in _MIXES:
            raise RuntimeError(
                f"{name}: Expected all tensors to be on the same device, but found at least two "
                "devices, cuda:0 and cpu"
            )
        if name in _READS or (
            name in _INDEXES and any(x.dtype == torch.bool for x in _tensors(args[1]))
        ):
            _wait(name)
        if name == "copy_" and not isinstance(args[0], OnCuda):
            _wait("copy to the host")
            func(*_mapped(inner, args), **_mapped(inner, kwargs))
            return args[0]
        if host and _capturing:
            raise RuntimeError(f"{name}: copied from the host while a graph is captured")
        plain_args, plain_kwargs = _mapped(inner, args), _mapped(inner, kwargs)
        if _capturing:
            out = _capturing[0].record(func, plain_args, plain_kwargs)
        else:
            out = func(*plain_args, **plain_kwargs)
        return return_and_correct_aliasing(func, args, kwargs, _mapped(_wrapped, out))


POOL = 2**20


class Graph:
    """A captured graph: operations in their order, with their memory."""

    captured = 0
    """Graphs so far, each of which takes `POOL` bytes."""

    def __init__(self) -> None:
        self._acts: list[Callable[[], Any]] = []
        self._made: set[int] = set()
        self._before: dict[int, tuple[Tensor, Tensor]] = {}
        self.replays = 0

    def replay(self) -> None:
        """Compute all once more."""
        self.replays += 1
        for act in self._acts:
            act()

    def record(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Call an operation of ATen, which a replay calls again."""
        schema = func._schema
        for argument, value in zip(schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                self._keep(value)
        for argument in schema.arguments:
            if argument.name in kwargs and argument.alias_info and argument.alias_info.is_write:
                self._keep(kwargs[argument.name])
        if schema.name == "aten::native_batch_norm":  # It does not say what it writes.
            self._keep(args[3:5])
        out = func(*args, **kwargs)
        writes = any(a.alias_info and a.alias_info.is_write for a in schema.arguments)
        aliases = any(r.alias_info for r in schema.returns)
        if writes:
            self.again(lambda: func(*args, **kwargs))
        elif not aliases:
            self.made(lambda: func(*args, **kwargs), out)
        return out

    def made(self, make: Callable[[], Any], out: Any) -> Any:
        """Note new tensors, which a replay makes again in their places."""
        places = _tensors(out)
        self._made |= {x.untyped_storage().data_ptr() for x in places}

        def remade() -> None:
            found = _tensors(make())
            for place, x in zip(places, found, strict=True):
                place.copy_(x)

        self._acts.append(remade)
        return out

    def again(self, act: Callable[[], Any]) -> None:
        """Have a replay call what changes memory in place."""
        self._acts.append(act)

    def _keep(self, value: Any) -> None:
        for x in _tensors(value):
            key = x.untyped_storage().data_ptr()
            if key not in self._made and key not in self._before:
                whole = torch.empty(0, dtype=x.dtype).set_(x.untyped_storage())
                self._before[key] = whole, whole.clone()

    def undo(self) -> None:
        """Leave no trace of the capture in memory that was there before it."""
        for place, value in self._before.values():
            place.copy_(value)


@contextlib.contextmanager
def _capture(
    graph: Graph, pool: Any = None, stream: Any = None, capture_error_mode: str = "global"
) -> Iterator[None]:
    _capturing.append(graph)
    try:
        yield
        Graph.captured += 1
    except RuntimeError as error:
        raise RuntimeError("operation failed due to a previous error during capture") from error
    finally:
        _capturing.pop()
        graph.undo()


_to, _module_to, _autocast = Tensor.to, nn.Module.to, torch.autocast


def _fake_to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    device = kwargs.get("device")
    rest = {n: kwargs[n] for n in ("dtype", "memory_format") if kwargs.get(n) is not None}
    if kwargs.get("copy"):
        rest["copy"] = True
    for x in args:
        if isinstance(x, Tensor):
            device, rest["dtype"] = x.device, x.dtype
        elif isinstance(x, str | torch.device | int) and not isinstance(x, bool):
            device = x
        elif isinstance(x, torch.dtype):
            rest["dtype"] = x
    if device is None or _cuda(device) == isinstance(self, OnCuda):
        return _to(self, **rest) if rest else self
    if _cuda(device):
        if _capturing:
            raise RuntimeError("copied from the host while a graph is captured")
        return OnCuda(_to(self.detach(), **rest).clone())
    _wait("to the host")
    return _to(inner(self).detach(), **rest).clone()


def _fake_module_to(self: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    if not (args and isinstance(args[0], torch.device | str) and _cuda(args[0])):
        return _module_to(self, *args, **kwargs)
    for module in self.modules():
        for name, x in module._parameters.items():
            if x is not None and not isinstance(x, OnCuda):
                moved = OnCuda(x.detach().clone())
                module._parameters[name] = nn.Parameter(moved, x.requires_grad)
        for name, x in module._buffers.items():
            if x is not None and not isinstance(x, OnCuda):
                module._buffers[name] = OnCuda(x.detach().clone())
    return self


def pin(self: Tensor) -> Tensor:
    """Pin as torch does it: stride by stride."""
    assert not isinstance(self, OnCuda), "cannot pin a cuda tensor"
    return torch.empty_strided(self.size(), self.stride(), dtype=self.dtype).copy_(self)


def _factory(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def act(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        if not _cuda(device):
            return make(*args, **kwargs) if device is None else make(*args, device=device, **kwargs)
        x = make(*args, **kwargs)
        if _capturing:
            _capturing[0].made(lambda: make(*args, **kwargs), x)
        return OnCuda(x)

    return act


def _kernels(native: types.ModuleType) -> types.ModuleType:
    """A stand-in for `triton_lif`, which takes nothing of the host's."""
    module: Any = types.ModuleType("triton_lif")

    def checked(name: str) -> Callable[..., Any]:
        run = getattr(native, name)

        def act(*args: Any, **kwargs: Any) -> Any:
            if not all(isinstance(x, OnCuda) for x in _tensors((args, kwargs))):
                raise ValueError(f"Pointer argument of {name} cannot be accessed from Triton")
            plain, more = _mapped(inner, args), _mapped(inner, kwargs)
            if name == "affine_":
                run(*plain, **more)
                if _capturing:
                    _capturing[0].again(lambda: run(*plain, **more))
                return args[0]
            out = run(*plain, **more)
            if _capturing:
                _capturing[0].made(lambda: run(*plain, **more), out)
            return _mapped(_wrapped, out)

        return act

    module.takes = lambda x, s: (
        x.is_cuda and x.dtype in (torch.float32, torch.bfloat16) and s in native.SURROGATES
    )
    for name in ("moments", "forward", "backward", "affine_"):
        setattr(module, name, checked(name))
    return module


class _Stream:
    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def wait_stream(self, other: Any) -> None:
        assert isinstance(other, _Stream)


def _one_hot(x: Tensor, classes: int) -> Tensor:
    return (x[..., None] == torch.arange(classes, device=x.device)).long()


def _capturable(self: Optimizer) -> None:
    if _capturing and not all(group["capturable"] for group in self.param_groups):
        raise RuntimeError("Attempting CUDA graph capture of step() for an optimizer of the host's")


@contextlib.contextmanager
def pretend(memory: int = 2**34) -> Iterator[None]:
    """A machine with a GPU, as far as Python code can tell.

    Args:
        memory: Free bytes of the GPU.
    """
    from spikebridge.models.neurons import kernels, native

    fake, state = _kernels(native), torch.zeros(16, dtype=torch.uint8)
    grouped = Optimizer._group_tensors_by_device_and_dtype
    autocasts, autocast_to = torch.is_autocast_enabled, torch.get_autocast_dtype
    cuda = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "device_of": lambda _: contextlib.nullcontext(),
        "set_device": lambda _: None,
        "get_rng_state": lambda _=None: state.clone(),
        "set_rng_state": lambda *_: None,
        "synchronize": lambda _=None: _wait("synchronize"),
        "mem_get_info": lambda _=None: (memory, memory),
        "get_device_capability": lambda _=None: (9, 0),
        "is_bf16_supported": lambda including_emulation=True: True,
        "Stream": _Stream,
        "current_stream": lambda _=None: _Stream(),
        "stream": lambda _: contextlib.nullcontext(),
        "set_stream": lambda _: None,
        "empty_cache": lambda: None,
        "memory_reserved": lambda _=None: Graph.captured * POOL,
        "graph_pool_handle": lambda: (0, 0),
        "set_sync_debug_mode": lambda _: None,
        "CUDAGraph": Graph,
        "graph": _capture,
    }
    with contextlib.ExitStack() as stack:

        def patch(where: Any, name: str, value: Any) -> None:
            stack.enter_context(mock.patch.object(where, name, value))

        for name, value in cuda.items():
            patch(torch.cuda, name, value)
        for name in ("eye", "empty", "zeros", "ones", "full", "arange", "tensor", "empty_strided"):
            patch(torch, name, _factory(getattr(torch, name)))
        patch(Tensor, "to", _fake_to)
        patch(nn.Module, "to", _fake_module_to)
        patch(Tensor, "pin_memory", pin)
        patch(Tensor, "is_pinned", lambda _: False)
        patch(F, "one_hot", _one_hot)  # Whose own would make a tensor of the host's.
        patch(torch, "autocast", lambda kind, *a, **k: _autocast("cpu", *a, **k))
        patch(torch, "is_autocast_enabled", lambda kind=None: autocasts("cpu"))
        patch(torch, "get_autocast_dtype", lambda kind: autocast_to("cpu"))
        patch(Optimizer, "_accelerator_graph_capture_health_check", _capturable)
        patch(
            Optimizer,
            "_group_tensors_by_device_and_dtype",
            staticmethod(
                lambda *a, **k: {(CUDA, key[1]): v for key, v in grouped(*a, **k).items()}
            ),
        )
        # The device of what checkpointing keeps is told by C++.
        checks = torch.utils.checkpoint._allowed_determinism_checks_to_fns
        stack.enter_context(mock.patch.dict(checks, default=lambda x: x.shape))
        patch(kernels, "_triton", lambda _: kernels._Triton(fake))
        yield
