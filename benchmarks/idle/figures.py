"""Compare two looks at a process, and hold each figure against its goal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

from supervisor.formatting import table

MIB = 2**20
GOALS = {"daemon": 0.2, "driver": 1.0, "watchdog": 0.5}
"""The most that a process may take while the run waits or its trials train, in percent of a core."""

COST_COLUMNS = ("state", "process", "number", "core, %", "goal, %", "wakes a second", "RSS, MB", "PSS, MB", "USS, MB")


@dataclass(frozen=True)
class Look:
    """Holds what one process has used up to a moment: seconds of CPU, voluntary switches of all its threads."""

    mono_s: float
    cpu_s: float
    switches: int | None


@dataclass(frozen=True)
class Memory:
    """Holds the memory of one process in bytes; None where the platform does not tell."""

    rss: int
    pss: int | None
    uss: int | None


@dataclass(frozen=True)
class Cost:
    """Holds what one process took over a window. `wakes_per_s` is None where the platform does not tell."""

    role: str
    core_percent: float
    wakes_per_s: float | None
    memory: Memory


def cost_of(role: str, before: Look, after: Look, memory: Memory) -> Cost:
    """Return what a process took between two looks at it. Raises ValueError when the second is not the later one."""
    seconds = after.mono_s - before.mono_s
    if seconds <= 0.0:
        raise ValueError(f"expected a second look after the first, found {seconds:g} s between them")
    known = before.switches is not None and after.switches is not None
    wakes = (after.switches or 0) - (before.switches or 0)
    return Cost(role, 100.0 * (after.cpu_s - before.cpu_s) / seconds, wakes / seconds if known else None, memory)


def cost_rows(state: str, costs: Sequence[Cost], order: Sequence[str]) -> list[tuple[str, ...]]:
    """Return a row for each role of `order` that has a process: the sums of its processes."""
    rows = []
    for role in order:
        same = [cost for cost in costs if cost.role == role]
        if same:
            rows.append((state, role, str(len(same)), *_figures(role, same)))
    return rows


def _figures(role: str, same: Sequence[Cost]) -> tuple[str, ...]:
    percent = sum(cost.core_percent for cost in same)
    goal = GOALS.get(role)
    said = "-" if goal is None else f"{goal:g} ({'kept' if percent <= goal else 'missed'})"
    wakes = _sum([cost.wakes_per_s for cost in same])
    sizes = [_sum([getattr(cost.memory, kind) for cost in same]) for kind in ("rss", "pss", "uss")]
    return (
        f"{percent:.2f}", said, "?" if wakes is None else f"{wakes:.1f}",
        *("?" if size is None else f"{size / MIB:.1f}" for size in sizes),
    )  # fmt: skip


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def cost_table(rows: Sequence[tuple[str, ...]]) -> str:
    """Return the table of costs."""
    return "\n".join(table([COST_COLUMNS, *rows], rule=True))


def imported(report: str) -> dict[str, float]:
    """Return the milliseconds that each top-level package took, from what `python -X importtime` wrote.

    The time of a package is that of its own modules, without what these import of others.
    """
    found: dict[str, float] = {}
    for line in report.splitlines():
        own, _, rest = line.removeprefix("import time:").partition("|")
        if line.startswith("import time:") and own.strip().isdecimal():
            package = rest.partition("|")[2].strip().partition(".")[0]
            found[package] = found.get(package, 0.0) + int(own) / 1e3
    return found


def package_rows(by_process: Mapping[str, Mapping[str, float | None]], own: Sequence[str]) -> list[tuple[str, ...]]:
    """Return a row for each package, and a column for each process: its import in ms, "-" where it is not loaded.

    "loaded" stands where only the living process shows the package. `own` are the packages of this project.
    """
    names = {name for packages in by_process.values() for name in packages} - set(own)
    slowest_first = sorted(names, key=lambda name: (-max(p.get(name) or 0.0 for p in by_process.values()), name))
    cells = [(name, *(_cell(packages, name) for packages in by_process.values())) for name in slowest_first]
    return [("package", *by_process), *cells]


def _cell(packages: Mapping[str, float | None], name: str) -> str:
    if name not in packages:
        return "-"
    taken_ms = packages[name]
    return "loaded" if taken_ms is None else f"{taken_ms:.0f}"


def memory_of(process: psutil.Process) -> Memory:
    """Return the memory of a process. Raises psutil.Error when it has ended."""
    full = process.memory_full_info()
    return Memory(full.rss, getattr(full, "pss", None), getattr(full, "uss", None))
