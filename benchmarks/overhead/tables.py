"""Puts the figures of benchmarks/overhead into two tables. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from benchmarks.overhead.timers import Between

BARE = "bare Optuna loop, journal"
"""The loop that the others are compared with: as durable as a file without a sync."""

Costs = Mapping[str, Mapping[int, float | None]]
"""Milliseconds a trial, by contender and trials at once; None where it was not measured."""


def steady_ms(ended_s: Sequence[float], left_out: int) -> float:
    """Return the milliseconds a trial from the end of trial `left_out` to the end of the last one.

    Raises ValueError unless more trials than that have ended.
    """
    if len(ended_s) <= left_out:
        raise ValueError(f"expected more than {left_out} trials, found {len(ended_s)}")
    ordered = sorted(ended_s)
    return 1e3 * (ordered[-1] - ordered[left_out - 1]) / (len(ordered) - left_out)


def costs(found: Costs) -> str:
    """Return the table of milliseconds a trial, and of those over BARE with as many trials at once."""
    at_once = sorted({number for row in found.values() for number in row})
    heads = [f"{number} at once" for number in at_once]
    lines = [
        "| ms a trial | " + " | ".join([*heads, *(f"over bare, {head}" for head in heads)]) + " |",
        "|---|" + "---:|" * (2 * len(at_once)),
    ]
    for name, row in found.items():
        plain = [row.get(number) for number in at_once]
        bare = [found[BARE].get(number) for number in at_once]
        over = [None if a is None or b is None or name == BARE else a - b for a, b in zip(plain, bare, strict=True)]
        lines.append(f"| {name} | " + " | ".join(map(_text, [*plain, *over])) + " |")
    return "\n".join(lines)


def pieces(found: Mapping[str, Mapping[int, Between | None]]) -> str:
    """Return the table of what a trial's milliseconds went to, by process and trials at once."""
    at_once = sorted({number for row in found.values() for number in row})
    lines = ["| ms a trial | " + " | ".join(f"{n} at once" for n in at_once) + " |", "|---|" + "---:|" * len(at_once)]
    for process, row in found.items():
        each = [row.get(number) for number in at_once]
        names = sorted({name for one in each if one for name in one.pieces_ms}, key=lambda name: -_most(each, name))
        lines += [
            f"| **{process}**, from trial to trial | " + _cells(each, lambda one: one.wall_ms, "**"),
            *(f"| … {name} | " + _cells(each, lambda one, name=name: one.pieces_ms.get(name)) for name in names),
            "| … the rest | " + _cells(each, lambda one: one.rest_ms),
            "| its time on a core | " + _cells(each, lambda one: one.cpu_ms),
        ]
    return "\n".join(lines)


def mean(workers: Sequence[Between]) -> Between | None:
    """Return the mean of several workers; None without any."""
    if not workers:
        return None
    count = len(workers)
    names = {name for worker in workers for name in worker.pieces_ms}
    return Between(
        sum(worker.wall_ms for worker in workers) / count,
        sum(worker.cpu_ms for worker in workers) / count,
        {name: sum(worker.pieces_ms.get(name, 0.0) for worker in workers) / count for name in names},
        {name: sum(worker.calls.get(name, 0.0) for worker in workers) / count for name in names},
    )


def _most(found: Sequence[Between | None], name: str) -> float:
    return max(one.pieces_ms.get(name, 0.0) for one in found if one is not None)


def _cells(found: Sequence[Between | None], read: Callable[[Between], float | None], mark: str = "") -> str:
    return " | ".join(f"{mark}{_text(None if one is None else read(one))}{mark}" for one in found) + " |"


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
