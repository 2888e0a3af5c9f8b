"""Turns a matplotlib figure into an SVG for the page and a PNG beside it. For the report's process only."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from supervisor.report.page import Drawing

INK = "#0b0c0e"
"""The colour of text and axes. In the SVG it becomes currentColor, so that a dark page has light text."""
BLUE, ORANGE, GREEN, PURPLE, GREY, RED = "#3d85c6", "#dd7a2e", "#3d9970", "#a277c4", "#8a8f98", "#cf4c56"
"""Middle tones: each has a contrast of at least 3 with the white and with the dark page."""
SERIES = (BLUE, ORANGE, GREEN, PURPLE, RED, GREY)

PNG_DPI = 140
UPPER_QUANTILE = 0.97
"""Values above it do not stretch an axis: one diverging trial would flatten all others to a line."""

_UNITS = ((1e9, "B"), (1e6, "M"), (1e3, "k"))
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "sweep",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    # A plain minus: viewers without the figure's font show the typographic one as a box.
    "axes.unicode_minus": False,
}


@contextmanager
def style() -> Iterator[None]:
    """Apply our matplotlib settings to the figures that are drawn inside."""
    with mpl.rc_context(_STYLE):
        yield


def new_figure(columns: int = 1, rows: int = 1, width: float = 8.4, height: float = 3.0) -> tuple[Figure, list[Axes]]:
    """Make a figure of `width` x `height` inches and its axes, row by row. Without pyplot, which keeps every figure."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, [axis for row in axes for axis in row]


def finish(figure: Figure, name: str, caption: str) -> Drawing:
    """Render the figure as SVG for the page and as PNG for slides."""
    svg, png = io.StringIO(), io.BytesIO()
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(svg, format="svg", metadata=no_metadata)
    # Both share the layout: computing it again would double the time.
    figure.set_layout_engine("none")
    figure.savefig(png, format="png", dpi=PNG_DPI, facecolor="white")
    # It becomes a file name and the start of ids: no slash, no quotation mark.
    name = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    return Drawing(name, caption, _for_page(svg.getvalue(), name), png.getvalue())


def robust_limits(values: Iterable[float], *, minimised: bool) -> tuple[float, float] | None:
    """Return axis limits that show all good values and cut off the far bad ones; None for no values."""
    ordered = sorted(value for value in values if math.isfinite(value))
    if not ordered:
        return None
    if not minimised:
        ordered = [-value for value in reversed(ordered)]
    best, worst = ordered[0], ordered[math.ceil(UPPER_QUANTILE * (len(ordered) - 1))]
    margin = 0.06 * (worst - best) or 0.02 * abs(best) or 1.0
    low, high = best - margin, worst + margin
    return (low, high) if minimised else (-high, -low)


def log_ticks(axis: Axis, text: Callable[[float], str]) -> None:
    """Label the powers of ten of a logarithmic axis, over a short range also their 3: few, so none overlap."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0, 3.0) if high / low < 30 else (1.0,), numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
    axis.set_minor_formatter(NullFormatter())


def size_text(params: float) -> str:
    """Write a number of parameters as a plan does: 20k, 2M, 2B."""
    unit, name = next(((unit, name) for unit, name in _UNITS if params >= unit), (1.0, ""))
    return f"{params / unit:g}{name}"


def _for_page(svg: str, name: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg.replace(INK, "currentColor")
    # A page has many figures: each id must be unique.
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{name}-", svg)
    # The page's width decides the size.
    return re.sub(r'<svg ([^>]*?)width="[^"]*" ', r"<svg \1", re.sub(r'height="[\d.]+pt" ', "", svg, count=1), count=1)
