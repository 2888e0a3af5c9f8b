"""Reads figures of growth from the ends of trials and from samples, and puts them into tables. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

MIB = 1 << 20
LEFT_OUT = 3
"""The first trials start the worker processes."""


@dataclass(frozen=True)
class Sample:
    """One look at a run at work: its ended trials, the resident bytes of its processes, the seconds of a `status`."""

    ended: int
    driver_bytes: int
    daemon_bytes: int
    status_s: float


@dataclass(frozen=True)
class Grown:
    """Holds what a run of so many trials showed; a pair is of the first tenth of its trials and of the last."""

    trials: int
    trial_s: tuple[float, float]
    driver_bytes: tuple[int, int]
    daemon_bytes: tuple[int, int]
    status_s: tuple[float, float]
    end_s: float
    """From the last trial's end to the experiment's."""
    store_bytes: int
    log_bytes: int


def tenths(ends_s: Sequence[float]) -> tuple[float, float]:
    """Return the seconds a trial in the first and in the last tenth, from the moments at which trials ended, in order.

    Raises ValueError for fewer trials than a tenth of two needs.
    """
    count = (len(ends_s) - LEFT_OUT) // 10
    if count < 2:
        raise ValueError(f"expected the ends of at least {20 + LEFT_OUT} trials, found {len(ends_s)}")
    first, last = ends_s[LEFT_OUT : LEFT_OUT + count + 1], ends_s[-count - 1 :]
    return (first[-1] - first[0]) / count, (last[-1] - last[0]) / count


def early_and_late(samples: Sequence[Sample], trials: int) -> tuple[list[Sample], list[Sample]]:
    """Return the samples of the first and of the last tenth of `trials`; the nearest one where a tenth has none."""
    working = [one for one in samples if one.ended > 0] or list(samples)
    early = [one for one in working if one.ended <= trials / 10] or working[:1]
    late = [one for one in working if one.ended >= trials * 9 / 10] or working[-1:]
    return early, late


def grown(
    trials: int, ends_s: Sequence[float], over_s: float, samples: Sequence[Sample], store_bytes: int, log_bytes: int
) -> Grown:
    """Return the figures of a run; `over_s` is when its experiment ended. Raises ValueError without samples."""
    if not samples:
        raise ValueError("expected at least one sample of the run, found none")
    early, late = early_and_late(samples, trials)
    return Grown(
        trials=trials,
        trial_s=tenths(ends_s),
        driver_bytes=(early[0].driver_bytes, late[-1].driver_bytes),
        daemon_bytes=(early[0].daemon_bytes, late[-1].daemon_bytes),
        status_s=(_median(early), _median(late)),
        end_s=over_s - ends_s[-1],
        store_bytes=store_bytes,
        log_bytes=log_bytes,
    )


def _median(samples: Sequence[Sample]) -> float:
    return statistics.median(one.status_s for one in samples)


COLUMNS = (
    "trials", "ms a trial", "driver, MiB", "daemon, MiB", "status, ms", "last trial to the end, s", "store, MiB",
    "log, MiB",
)  # fmt: skip


def row(found: Grown) -> tuple[str, ...]:
    """Return a row of the table with COLUMNS: of a pair the first tenth, then the last."""
    return (
        f"{found.trials:,}", _pair(found.trial_s, 1e3), _pair(found.driver_bytes, 1 / MIB),
        _pair(found.daemon_bytes, 1 / MIB), _pair(found.status_s, 1e3), f"{found.end_s:.1f}",
        f"{found.store_bytes / MIB:.1f}", f"{found.log_bytes / MIB:.1f}",
    )  # fmt: skip


def _pair(values: tuple[float, float], scale: float) -> str:
    return f"{values[0] * scale:.1f} → {values[1] * scale:.1f}"


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table for the docs: text on the left of its first column, numbers on the right of the others."""
    lines = ["| " + " | ".join(columns) + " |", "|---:" * len(columns) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(cells) + " |" for cells in rows)])
