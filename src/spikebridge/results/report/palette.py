"""Colours of the report: one per method, the same in every figure, table and legend.

Figures are drawn in the colours for a light page; `theme` replaces each by a CSS variable, whose
value `stylesheet` sets for light and for dark pages. Hues are Okabe and Ito's.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

INK = "#010203"
"""Drawn for text and axes; becomes the page's text colour."""
GRID = "#040506"
"""Drawn for grid lines."""
SHADE = "#070809"
"""Drawn for shaded spans."""

ON_RGB = (230, 159, 0)
OFF_RGB = (86, 180, 233)
EMPTY_RGB = (38, 42, 47)


@dataclass(frozen=True)
class Style:
    """How a method is drawn."""

    light: str
    dark: str
    marker: str
    """Matplotlib's name."""
    glyph: str
    """The same sign as a character."""


_STYLES = {
    "teacher": Style("#222222", "#eeeeee", "s", "■"),
    "scratch": Style("#7a7f87", "#a3a9b2", "o", "●"),
    "scratch+tet": Style("#2b9bd6", "#56b4e9", "v", "▼"),
    "pretrain-finetune": Style("#e69f00", "#e69f01", "^", "▲"),
    "kt": Style("#0072b2", "#4aa3df", "D", "◆"),
    "naive-kd": Style("#cc79a7", "#cc79a8", "P", "✚"),
    "kd-no-replacement": Style("#009e73", "#1fb98d", "<", "◀"),
    "kd-no-alignment": Style("#a89a00", "#f0e442", ">", "▶"),
    "ckd": Style("#d55e00", "#ee7a20", "X", "✖"),
    "tmkt": Style("#7b5ea7", "#a98fd6", "*", "★"),
    "ann-on-frames": Style("#5f7f1f", "#a9cf5a", "h", "⬢"),
    "sim-only": Style("#0b8a8a", "#3fc8c8", "d", "⧫"),
    "sim-pretrain": Style("#3f3fbf", "#9a9cff", "H", "⬣"),
    "ckd-plus": Style("#8f0f8f", "#e57de5", "p", "⬟"),
}
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


@contextmanager
def names_styled(names: Iterable[str]) -> Iterator[None]:
    """Within it, names that are no method's have a style of their own each, as far as there are."""
    others = [name for name in dict.fromkeys(names) if name not in _STYLES]
    token = _spare.set({name: place for place, name in enumerate(others) if place < len(_SPARE)})
    try:
        yield
    finally:
        _spare.reset(token)


def style_of(method: str) -> Style:
    """The method's style; unknown ones share one, but within `names_styled`."""
    if (place := _spare.get({}).get(method)) is not None:
        return _SPARE[place]
    return _STYLES.get(method, _OTHER)


def variable(method: str) -> str:
    """Name of the CSS variable that holds the method's colour."""
    if (place := _spare.get({}).get(method)) is not None:
        return f"--m-spare-{place}"
    return "--m-" + (re.sub(r"\W+", "-", method) if method in _STYLES else "other")


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
    styles = {variable(method): style for method, style in _STYLES.items()}
    styles |= {f"--m-spare-{place}": style for place, style in enumerate(_SPARE)}
    return styles | {"--m-other": _OTHER}
