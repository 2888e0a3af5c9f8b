"""Writes the daily digest from a run's view, and decides when it is due. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, time, timedelta
from typing import Any

from supervisor.domain.lifecycle import AT_WORK, ENDED, MAY_BE_RETRIED, ProcessState
from supervisor.domain.time_accounting import by_cause
from supervisor.formatting import duration, human

DAY_S = 86400.0
MAX_EXPERIMENTS, MAX_CAUSES = 24, 3

View = Mapping[str, Any]


def last_mark(at: time, now_wall_s: float) -> float:
    """Return the wall time of the last `at`, local time, that has passed."""
    now = datetime.fromtimestamp(now_wall_s).astimezone()
    # The offset is looked up for each day: the clocks may change between them.
    today = datetime.combine(now.date(), at).astimezone()
    mark = today if today <= now else datetime.combine(now.date() - timedelta(days=1), at).astimezone()
    return mark.timestamp()


def due(at: time, now_wall_s: float, since_wall_s: float) -> bool:
    """Return whether the time of a digest has passed since `since_wall_s`: the last digest, or the run's begin."""
    return last_mark(at, now_wall_s) > since_wall_s


def sentence(view: View, now_wall_s: float) -> str:
    """Return the digest's first line: the day, what is done, what failed."""
    run, experiments = view["run"], view["experiments"]
    day = int(max(0.0, now_wall_s - run["created_wall"]) // DAY_S) + 1
    trials, planned = (sum(int(one[key]) for one in experiments) for key in ("ended", "max_trials"))
    over = sum(ProcessState(one["state"]) in ENDED for one in experiments)
    failed = sum(_failed(one) for one in experiments)
    words = [f"day {day}", f"{trials} of {planned} trials", f"{over} of {len(experiments)} experiments ended"]
    return ", ".join([*words, *([f"{failed} trials failed"] if failed else [])])


def details(view: View, free_bytes: int | None) -> tuple[str, ...]:
    """Return the other lines: what each experiment has, lost time by cause, free space."""
    lost = list(by_cause(view["lost"]).items())[:MAX_CAUSES]
    causes = ", ".join(f"{cause} {duration(seconds)}" for cause, seconds in lost)
    more = [f"lost, over all trials: {causes}"] if causes else []
    space = [] if free_bytes is None else [f"free on the disk: {human(free_bytes)}"]
    return (*experiment_lines(view), *more, *space)


def experiment_lines(view: View) -> tuple[str, ...]:
    """Return a line for each experiment that has begun: its state, its trials, its best."""
    begun = [one for one in view["experiments"] if ProcessState(one["state"]) in (*AT_WORK, *ENDED)]
    lines = [_experiment(one) for one in begun[:MAX_EXPERIMENTS]]
    left_out = len(begun) - len(lines)
    return (*lines, *([f"and {left_out} more experiments"] if left_out else []))


def _experiment(one: View) -> str:
    best, failed = one["best"], _failed(one)
    parts = [f"{one['name']} {one['state']}", f"{one['ended']} of {one['max_trials']} trials"]
    if best is not None:
        parts.append(f"best {best['value']:.4g} (trial {best['trial']})")
    if failed:
        parts.append(f"{failed} failed")
    return ", ".join([*parts, *(["NO ANSWER"] if one["missing"] else [])])


def _failed(one: View) -> int:
    return sum(one["counts"].get(reason, 0) for reason in MAY_BE_RETRIED)
