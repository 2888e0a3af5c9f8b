"""Draw the use of the cores over a run under the bar of its stages: an SVG for light and dark pages."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from benchmarks.startup.picture import COLOURS, LEFT, STYLE, WIDTH
from benchmarks.utilisation.stages import STAGES, Sample, Span

RIGHT, TOP = 40.0, 44.0
BAR, GRAPH, GAP = 16.0, 90.0, 34.0
MAX_POINTS = 600
RUN_COLOUR, MACHINE_COLOUR = "#0969da", "#9198a1"

Run = tuple[Sequence[Sample], Sequence[Span]]


def picture(title: str, runs: Mapping[str, Run], cores: int) -> str:
    """Return the SVG: for each checkout the bar of its stages, below it busy cores by time, all on one scale."""
    longest = max([_seconds(spans) for _, spans in runs.values()] + [1e-9])
    per_second = (WIDTH - LEFT - RIGHT) / longest
    y, drawn = TOP, []
    for name, (samples, spans) in runs.items():
        drawn.append(_text(8, y + 12, name, "part"))
        drawn += _bar(spans, y, per_second)
        drawn += _graph(samples, spans, y + BAR + 6, per_second, cores)
        y += BAR + 6 + GRAPH + GAP
    drawn += _legend(y)
    height = y + 46
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" '
        f'aria-label="{html.escape(title, quote=True)}"><style>{STYLE}</style>'
        f'<rect class="page" width="{WIDTH:.0f}" height="{height:.0f}"/>{_text(8, 26, title, "title")}'
        f"{''.join(drawn)}</svg>\n"
    )


def _seconds(spans: Sequence[Span]) -> float:
    return spans[-1].to_s - spans[0].from_s if spans else 0.0


def _bar(spans: Sequence[Span], y: float, per_second: float) -> list[str]:
    drawn = []
    for span in spans:
        x, width = LEFT + (span.from_s - spans[0].from_s) * per_second, (span.to_s - span.from_s) * per_second
        drawn.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{BAR:.0f}" fill="{_colour(span.stage)}">'
            f"<title>{html.escape(span.stage)}: {span.to_s - span.from_s:.1f} s</title></rect>"
        )
    return drawn


def _graph(samples: Sequence[Sample], spans: Sequence[Span], y: float, per_second: float, cores: int) -> list[str]:
    """Return the areas of machine and run, with lines at none, half and all of the cores."""
    drawn = []
    for share in (0.0, 0.5, 1.0):
        at_y = y + GRAPH * (1 - share)
        drawn.append(
            f'<line x1="{LEFT:.0f}" x2="{WIDTH - RIGHT:.0f}" y1="{at_y:.1f}" y2="{at_y:.1f}" stroke="{MACHINE_COLOUR}" '
            'stroke-width="0.5"/>'
        )
        drawn.append(_text(LEFT - 42, at_y + 4, f"{share:.0%}", "soft"))
    if not spans:
        return drawn
    kept = thinned([sample for sample in samples if spans[0].from_s <= sample.from_s and sample.to_s <= spans[-1].to_s])
    for colour, opacity, values in (
        (MACHINE_COLOUR, 0.45, [sample.machine_cores for sample in kept]),
        (RUN_COLOUR, 0.6, [sample.run_cores for sample in kept]),
    ):
        points = _points(kept, values, spans[0].from_s, y, per_second, cores)
        if points:
            drawn.append(f'<polygon points="{points}" fill="{colour}" fill-opacity="{opacity}"/>')
    seconds = _seconds(spans)
    drawn.append(_text(LEFT, y + GRAPH + 16, "0 s", "soft"))
    drawn.append(_text(LEFT + seconds * per_second - 24, y + GRAPH + 16, f"{seconds:.0f} s", "soft"))
    return drawn


def thinned(samples: Sequence[Sample]) -> list[Sample]:
    """Return at most MAX_POINTS samples: neighbours are put together, by their means over time."""
    size = -(-len(samples) // MAX_POINTS) if samples else 1
    found = []
    for start in range(0, len(samples), size):
        group = samples[start : start + size]
        seconds = [sample.to_s - sample.from_s for sample in group]
        run, machine = (
            sum(second * value for second, value in zip(seconds, values, strict=True)) / sum(seconds)
            for values in ([one.run_cores for one in group], [one.machine_cores for one in group])
        )
        found.append(Sample(group[0].from_s, group[-1].to_s, run, machine))
    return found


def _points(
    samples: Sequence[Sample], values: Sequence[float], begun_s: float, y: float, per_second: float, cores: int
) -> str:
    """Return the corners of an area of steps, closed along the bottom; empty without a sample."""
    if not samples:
        return ""
    corners = []
    for sample, value in zip(samples, values, strict=True):
        height = y + GRAPH * (1 - min(1.0, value / cores))
        corners += [(LEFT + (moment - begun_s) * per_second, height) for moment in (sample.from_s, sample.to_s)]
    bottom = y + GRAPH
    corners = [(corners[0][0], bottom), *corners, (corners[-1][0], bottom)]
    return " ".join(f"{x:.1f},{height:.1f}" for x, height in corners)


def _legend(y: float) -> list[str]:
    drawn = []
    named = [(stage, _colour(stage)) for stage in STAGES]
    for number, (words, colour) in enumerate(
        [*named, ("cores busy: the run", RUN_COLOUR), ("the machine", MACHINE_COLOUR)]
    ):
        x, line = LEFT + 180 * (number % 4), y + 18 * (number // 4)
        drawn.append(f'<rect x="{x:.0f}" y="{line:.0f}" width="11" height="11" fill="{colour}"/>')
        drawn.append(_text(x + 17, line + 10, words, "soft"))
    return drawn


def _colour(stage: str) -> str:
    return COLOURS[1 + STAGES.index(stage)]


def _text(x: float, y: float, words: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.0f}" y="{y:.0f}">{html.escape(words)}</text>'
