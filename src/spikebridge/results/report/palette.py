"""Colours of the report: one per method, the same in every figure, table and legend.

Figures are drawn in the colours for a light page; `theme` replaces each by a CSS variable, whose
value `stylesheet` sets for light and for dark pages. A method's colours stand in its preset; hues
are Okabe and Ito's.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

from spikebridge.settings.presets import Style, methods

INK = "#010203"
"""Drawn for text and axes; becomes the page's text colour."""
GRID = "#040506"
"""Drawn for grid lines."""
SHADE = "#070809"
"""Drawn for shaded spans."""

ON_RGB = (230, 159, 0)
OFF_RGB = (86, 180, 233)
EMPTY_RGB = (38, 42, 47)


_TEACHER = Style("#222222", "#eeeeee", "s", "■")
_OTHER = Style("#8c6d46", "#b8956a", "8", "⬤")
_SPARE = tuple(
    Style(light, dark, marker, glyph)
    for light, dark, marker, glyph in (
        ("#8b1e4b", "#e0709c", "o", "○"),
        ("#3b3b98", "#8f8fe6", "^", "△"),
        ("#00818a", "#39bcc4", "s", "□"),
        ("#6b8e23", "#a3c765", "D", "◇"),
        ("#a0522d", "#d98f6c", "v", "▽"),
    )
)
"""For names that are no method's, as those of methods with changed settings, in their order."""
_spare: ContextVar[dict[str, int]] = ContextVar("_spare")


@cache
def _styles() -> dict[str, Style]:
    """Those of the teacher and of the method presets."""
    own = {name: method.style for name, method in methods().items() if method.style}
    return {"teacher": _TEACHER, **own}


@contextmanager
def names_styled(names: Iterable[str]) -> Iterator[None]:
    """Within it, names that are no method's have a style of their own each, as far as there are."""
    others = [name for name in dict.fromkeys(names) if name not in _styles()]
    token = _spare.set({name: place for place, name in enumerate(others) if place < len(_SPARE)})
    try:
        yield
    finally:
        _spare.reset(token)


def style_of(method: str) -> Style:
    """The method's style; unknown ones share one, but within `names_styled`."""
    if (place := _spare.get({}).get(method)) is not None:
        return _SPARE[place]
    return _styles().get(method, _OTHER)


def variable(method: str) -> str:
    """Name of the CSS variable that holds the method's colour."""
    if (place := _spare.get({}).get(method)) is not None:
        return f"--m-spare-{place}"
    return "--m-" + (re.sub(r"\W+", "-", method) if method in _styles() else "other")


def theme(svg: str) -> str:
    """Colours as drawn replaced by CSS variables."""
    names = {INK: "currentColor", GRID: "var(--grid)", SHADE: "var(--shade)"}
    names |= {style.light: f"var({name})" for name, style in _by_variable().items()}
    for colour, name in names.items():
        svg = svg.replace(colour, name)
    return svg


def stylesheet(scheme: str) -> str:
    """CSS declarations of the methods' colours for `light` or `dark` pages."""
    return " ".join(f"{name}: {getattr(s, scheme)};" for name, s in _by_variable().items())


def _by_variable() -> dict[str, Style]:
    styles = {variable(method): style for method, style in _styles().items()}
    styles |= {f"--m-spare-{place}": style for place, style in enumerate(_SPARE)}
    return styles | {"--m-other": _OTHER}
