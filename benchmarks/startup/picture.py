"""Draw seconds as bars of pieces: an SVG for light and dark pages. Standard library only."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

LEFT, WIDTH, ROW, TOP = 90.0, 860.0, 26.0, 44.0
SCALE_WIDTH = 620.0
COLOURS = ("#0969da", "#54aeff", "#8250df", "#c297ff", "#1a7f37", "#6fdd8b", "#9a6700", "#d4a72c")
STYLE = """
text { font-family: system-ui, 'DejaVu Sans', sans-serif; font-size: 12px; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 } .part { font-weight: 600 } .soft { fill: #57606a }
.page { fill: #ffffff }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .soft { fill: #9198a1 } .page { fill: #0d1117 } }
"""


@dataclass(frozen=True)
class Bar:
    """One bar: `part` is the heading that neighbours share, `pieces` are words and seconds from left to right."""

    part: str
    name: str
    pieces: Sequence[tuple[str, float]]

    @property
    def seconds(self) -> float:
        return sum(seconds for _, seconds in self.pieces)


def picture(title: str, bars: Sequence[Bar]) -> str:
    """Return the SVG of `bars` on one scale, with the words of each piece below its part."""
    per_second = SCALE_WIDTH / max([bar.seconds for bar in bars] + [1e-9])
    y, drawn, part = TOP, [], None
    for place, bar in enumerate(bars):
        if bar.part != part:
            part, y = bar.part, y + ROW
            drawn.append(_text(8, y, bar.part, "part"))
            y += 8
        drawn.append(_text(8, y + 16, bar.name, "soft"))
        drawn += _pieces(bar, y, per_second)
        y += ROW
        if place + 1 == len(bars) or bars[place + 1].part != part:
            legend, y = _legend(bar, y)
            drawn += legend
    height = y + 12
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" '
        f'aria-label="{html.escape(title, quote=True)}"><style>{STYLE}</style>'
        f'<rect class="page" width="{WIDTH:.0f}" height="{height:.0f}"/>{_text(8, 26, title, "title")}'
        f"{''.join(drawn)}</svg>\n"
    )


def _pieces(bar: Bar, y: float, per_second: float) -> list[str]:
    drawn, x = [], LEFT
    for number, (words, seconds) in enumerate(bar.pieces):
        width = seconds * per_second
        drawn.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{ROW - 6:.0f}" fill="{_colour(number)}">'
            f"<title>{html.escape(words)}: {seconds:.1f} s</title></rect>"
        )
        x += width
    return [*drawn, _text(x + 6, y + 15, f"{bar.seconds:.1f} s", "soft")]


def _legend(bar: Bar, y: float) -> tuple[list[str], float]:
    """Return the words of the pieces, two a line, and the height below them."""
    drawn = []
    for number, (words, _) in enumerate(bar.pieces):
        x, line = LEFT + 380 * (number % 2), y + 6 + 18 * (number // 2)
        drawn.append(f'<rect x="{x:.0f}" y="{line:.0f}" width="11" height="11" fill="{_colour(number)}"/>')
        drawn.append(_text(x + 17, line + 10, words, "soft"))
    return drawn, y + 10 + 18 * ((len(bar.pieces) + 1) // 2)


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _text(x: float, y: float, words: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.0f}" y="{y:.0f}">{html.escape(words)}</text>'
