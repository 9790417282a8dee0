"""Matplotlib figures as SVG: inside an HTML page, or files of their own."""

import io
import re
from contextlib import AbstractContextManager
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from spikebridge.base.files import write_text
from spikebridge.results.report.palette import GRID, INK, theme

WIDTH = 4.6
"""Width of every figure in inches: 331 units of the SVG, about a phone's width."""

PALE = "#dfe2e6"
"""Grid lines where no page gives them a colour."""
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10.0,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.0,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.0,
    "lines.markeredgewidth": 0.0,
}


def drawing() -> AbstractContextManager[None]:
    """Context in which figures are made: the report's settings, on top of Matplotlib's defaults."""
    return matplotlib.rc_context({**matplotlib.rcParamsDefault, **_SETTINGS})


def new_figure(height: float) -> Figure:
    """An empty figure of the report's width and the given height in inches."""
    return Figure(figsize=(WIDTH, height), layout="constrained")


def inline(figure: Figure, name: str, label: str) -> Markup:
    """The figure as an SVG element that scales with the page and follows its colours.

    Args:
        figure: The figure, made within `drawing`.
        name: Prefix of all its ids, unique on the page.
        label: What it shows, for those who do not see it.
    """
    buffer = io.StringIO()
    no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r" font-family: [^;\"]*;?", "", svg)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-").replace('xlink:href="#', f'href="#{name}-')
    svg = svg.replace("xlink:href=", "href=")
    view = re.search(r'viewBox="[^"]*"', svg)
    opening = f'<svg {view.group() if view else ""} role="img" aria-label="{escape(label)}">'
    return Markup(theme(re.sub(r"<svg[^>]*>", lambda _: opening, svg, count=1)))


def save(figure: Figure, path: Path, title: str) -> Path:
    """Write a figure that stands alone: on white, alike whenever it is drawn."""
    text = io.StringIO()
    metadata: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": path.stem, "font.family": "sans-serif"}):
        figure.savefig(text, format="svg", facecolor="white", metadata=metadata | {"Title": title})
    write_text(path, text.getvalue().replace(GRID, PALE))
    return path
