"""Hooks: a user's own loss, schedule or teacher, named `module:name` in the settings.

A run records a hook as `module:name@hash`; the hash is the start of the SHA-256 of the module's
file, so that a changed source is another setting.
"""

import dataclasses
import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    TypeAlias,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

from spikebridge.base.errors import UserError
from spikebridge.base.files import file_sha256

if TYPE_CHECKING:
    Hook: TypeAlias = Any
else:
    Hook = str
"""Type of a setting that is text, for which Python code may give the callable that it names."""

_T = TypeVar("_T")

_PATH = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_HOOK = re.compile(rf"(?P<name>(?P<module>{_PATH}):(?P<attribute>{_PATH}))(?:@(?P<hash>\w{{12}}))?")
_folders: list[str] = []
"""Where recipes lie."""
_imported: dict[str, tuple[Any, str]] = {}
"""Module → its spec, which a reload replaces, and the hash of its file."""


def is_hook(value: Any) -> bool:
    """Whether a setting names a hook."""
    return isinstance(value, str) and _HOOK.fullmatch(value) is not None


def bare(setting: Any) -> Any:
    """The setting without the hash that a run records with a hook."""
    found = _HOOK.fullmatch(setting) if isinstance(setting, str) else None
    return found["name"] if found else setting


def look_in(folder: str | Path | None) -> None:
    """Find hooks in a folder, too: that of a recipe, or that in which a run's were found."""
    if folder is not None and (name := str(Path(folder).resolve())) not in _folders:
        _folders.append(name)


def folders() -> list[str]:
    """Where hooks are found beside where Python looks, for a process that has read no recipe."""
    return list(_folders)


def hook(default: str) -> Any:
    """Field of a dataclass, annotated with `Hook`, that may name a hook."""
    return dataclasses.field(default=default, metadata={"hook": True})


def check_hooks(part: Any, prefix: str) -> None:
    """Refuse what may name a hook and is neither one nor one of its `Literal` words, if any.

    A callable becomes the text that names it.

    Args:
        part: A dataclass, whose fields are looked at.
        prefix: What its settings' names begin with in messages.

    Raises:
        ValueError: another text.
        UserError: a callable that its import path does not give back.
    """
    for name in _may_name_hooks(part):
        value, label = getattr(part, name), f"{prefix}{name}"
        if callable(value):
            value = _text_of(value, label)
            object.__setattr__(part, name, value)
        kinds = get_args(get_type_hints(type(part))[name])
        words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
        if words and value not in words and not is_hook(value):
            raise ValueError(
                f"{label} must be one of {', '.join(words)}, or module:name of your own, "
                f"not {value}"
            )


def hooks_of(settings: Any, prefix: str = "") -> dict[str, str]:
    """The hooks that a dataclass names, and those within it, by dotted name."""
    found: dict[str, str] = {}
    for name in _may_name_hooks(settings):
        if is_hook(value := getattr(settings, name)):
            found[f"{prefix}{name}"] = value
    for name in _parts(settings):
        found |= hooks_of(getattr(settings, name), f"{prefix}{name}.")
    return found


def with_sources(settings: _T) -> _T:
    """A dataclass, each hook that it and those within it name with the hash of its source.

    Raises:
        UserError: a hook that cannot be imported.
    """
    changed = {name: recorded(getattr(settings, name)) for name in _may_name_hooks(settings)}
    changed |= {name: with_sources(getattr(settings, name)) for name in _parts(settings)}
    changed = {name: value for name, value in changed.items() if value != getattr(settings, name)}
    return dataclasses.replace(settings, **changed) if changed else settings  # pyright: ignore


def _may_name_hooks(settings: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(settings) if "hook" in field.metadata]


def _parts(settings: Any) -> list[str]:
    names = (field.name for field in dataclasses.fields(settings))
    return [name for name in names if dataclasses.is_dataclass(getattr(settings, name))]


def recorded(setting: str) -> str:
    """What a run records of a setting: a hook with the hash of its source as it is now.

    A hook that has a hash keeps it.

    Raises:
        UserError: as `resolve`, or the file has changed since it was imported.
    """
    found = _HOOK.fullmatch(setting)
    if found is None or found["hash"]:
        return setting
    resolve(setting)
    module = sys.modules[found["module"]]
    if _hash_of(module, setting) != (seen := _imported[found["module"]][1]):
        raise UserError(
            f"{setting}: {module.__file__} has changed since it was imported; start Python again, "
            "or importlib.reload the module"
        )
    return f"{setting}@{seen}"


def resolve(setting: str) -> Callable[..., Any]:
    """Import what a hook names.

    It is looked for where Python looks, in the folder of the recipe, and in the working directory.

    Raises:
        UserError: there is no such module or name, importing it fails, it cannot be called, or its
            source is not the recorded one.
    """
    found = _HOOK.fullmatch(setting)
    assert found is not None
    name = found["name"]
    module = _module(name, found["module"])
    target: Any = module
    for part in found["attribute"].split("."):
        if not hasattr(target, part):
            raise UserError(f"{name}: {module.__file__} has no {found['attribute']}; mend the name")
        target = getattr(target, part)
    if not callable(target):
        raise UserError(
            f"{name} is {type(target).__name__}, which cannot be called; name a function"
        )
    seen = _imported[found["module"]][1]
    if found["hash"] not in (None, seen):
        raise UserError(
            f"{name}: {module.__file__} is not the source that was recorded (SHA-256 "
            f"{found['hash']}… there, {seen}… now); restore it, or train the run again"
        )
    return target


def require_tensor(hook: str, found: Any, shape: tuple[int, ...]) -> None:
    """Refuse what is no tensor of floats of a shape; its values are not looked at, which waits.

    Raises:
        UserError: names the hook, what it returned and what it should.
    """
    is_tensor = hasattr(found, "is_floating_point")
    if not is_tensor or tuple(found.shape) != shape or not found.is_floating_point():
        got = f"{found.dtype} of shape {tuple(found.shape)}" if is_tensor else type(found).__name__
        raise UserError(
            f"{bare(hook)} returned {got}; it must return a floating-point tensor of shape {shape}"
        )


def folder_of(setting: str) -> str | None:
    """The folder from which a hook's module was imported, for who looks for it later."""
    found = _HOOK.fullmatch(setting)
    module = sys.modules.get(found["module"]) if found else None
    if module is None or module.__file__ is None:
        return None
    depth = module.__name__.count(".") + (Path(module.__file__).stem == "__init__")
    return str(Path(module.__file__).resolve().parents[depth])


def _text_of(target: Callable[..., Any], label: str) -> str:
    """The text that names a callable."""
    module = getattr(target, "__module__", None)
    name = getattr(target, "__qualname__", type(target).__qualname__)
    text = f"{module}:{name}"
    if module == "__main__" or not is_hook(text) or resolve(text) is not target:
        raise UserError(
            f"{label}: {text} cannot be imported by its name, so a run could not be repeated from "
            "its record; put it at the top of a module of its own"
        )
    return text


def _module(hook: str, name: str) -> ModuleType:
    module = sys.modules.get(name)
    if module is None:
        sys.path += [f for f in (*_folders, str(Path.cwd())) if f not in sys.path]
        importlib.invalidate_caches()  # The file may be younger than what Python knows of it.
        try:
            module = importlib.import_module(name)
        except (Exception, SystemExit) as error:
            if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
                raise UserError(
                    f"{hook}: no module {error.name} in {Path.cwd()}, beside the recipe or on "
                    "PYTHONPATH; call the command in its folder, or set PYTHONPATH"
                ) from error
            raise UserError(
                f"{hook}: importing {name} fails ({type(error).__name__}: {error}); mend it"
            ) from error
    if name not in _imported or _imported[name][0] is not module.__spec__:
        _imported[name] = module.__spec__, _hash_of(module, hook)
    return module


def _hash_of(module: ModuleType, hook: str) -> str:
    try:
        if module.__file__ is not None:
            return file_sha256(module.__file__)[:12]
    except (AttributeError, OSError):
        pass
    raise UserError(f"{hook}: module {module.__name__} has no file of its own; give it one")
