"""Colours of the report: one per method, the same in every figure, table and legend.

Figures are drawn in the colours for a light page; `theme` replaces each by a CSS variable, whose
value `stylesheet` sets for light and for dark pages. Hues are Okabe and Ito's.
"""

import re
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


def style_of(method: str) -> Style:
    """The method's style; unknown methods share one."""
    return _STYLES.get(method, _OTHER)


def variable(method: str) -> str:
    """Name of the CSS variable that holds the method's colour."""
    return "--m-" + (re.sub(r"\W+", "-", method) if method in _STYLES else "other")


def theme(svg: str) -> str:
    """Colours as drawn replaced by CSS variables."""
    names = {INK: "currentColor", GRID: "var(--grid)", SHADE: "var(--shade)"}
    names |= {style.light: f"var({variable(m)})" for m, style in _STYLES.items()}
    names[_OTHER.light] = f"var({variable('')})"
    for colour, name in names.items():
        svg = svg.replace(colour, name)
    return svg


def stylesheet(scheme: str) -> str:
    """CSS declarations of the methods' colours for `light` or `dark` pages."""
    styles = {**_STYLES, "": _OTHER}
    return " ".join(f"{variable(m)}: {getattr(s, scheme)};" for m, s in styles.items())
