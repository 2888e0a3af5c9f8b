"""Writes the daily digest from the view of a run that `status` shows, and decides when it is due. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, time, timedelta
from typing import Any

from supervisor.domain.command import Action
from supervisor.domain.command_text import eta_assumes
from supervisor.domain.lifecycle import AT_WORK, ENDED, MAY_BE_RETRIED, ProcessState
from supervisor.domain.time_accounting import by_cause
from supervisor.formatting import counted, duration, eta_short, human

DAY_S = 86400.0
MAX_EXPERIMENTS, MAX_CAUSES = 24, 3
MAX_END_S = 10 * 365 * DAY_S
"""A later end has no date: some trainable gave odd figures."""

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
    # A clock that was a year fast for a while must not silence the digest for that year.
    return last_mark(at, now_wall_s) > since_wall_s or since_wall_s > now_wall_s + DAY_S


def sentence(view: View, now_wall_s: float) -> str:
    """Return the digest's first line: the day, what is done, what failed, the ETA."""
    run, experiments = view["run"], view["experiments"]
    day = int(max(0.0, now_wall_s - run["created_wall"]) // DAY_S) + 1
    trials, planned = (sum(int(one[key]) for one in experiments) for key in ("ended", "max_trials"))
    over = sum(ProcessState(one["state"]) in ENDED for one in experiments)
    failed = sum(_failed(one) for one in experiments)
    words = [f"day {day}", f"{trials} of {counted(planned, 'trial')}"]
    words.append(f"{over} of {len(experiments)} experiments ended")
    words += [f"{counted(failed, 'trial')} failed"] if failed else []
    return ", ".join([*words, *([eta_short(view["eta"])] if over < len(experiments) else [])])


def details(view: View, now_wall_s: float) -> tuple[str, ...]:
    """Return the other lines: the end, what holds the work, what each experiment has, lost time, free space."""
    lost = list(by_cause(view["lost"]).items())[:MAX_CAUSES]
    causes = ", ".join(f"{cause} {duration(seconds)}" for cause, seconds in lost)
    more = [f"lost, over all trials: {causes}"] if causes else []
    free = view["disk"]["free_bytes"]
    space = [] if free is None else [f"free on the disk: {human(free)}"]
    return (
        *_end(view["eta"], now_wall_s, eta_assumes(view)),
        *_held(view["in_force"]),
        *experiment_lines(view),
        *more,
        *space,
    )


def _end(eta: Mapping[str, float] | None, now_wall_s: float, assumes: str) -> list[str]:
    """Return the day and time of the run's end, and what it assumes: a message may be read hours later."""
    if eta is None or eta["high_s"] > MAX_END_S:
        return []
    median, low, high = (_instant(now_wall_s + eta[key]) for key in ("median_s", "low_s", "high_s"))
    return [f"ends about {median}, 80 % likely from {low} to {high}{assumes}"]


def _instant(wall_s: float) -> str:
    """Return day and time where the daemon lives; days of the week alone would repeat."""
    return datetime.fromtimestamp(wall_s).astimezone().strftime("%a %d %b %H:%M")


def _held(command: Mapping[str, Any]) -> list[str]:
    """Return what holds the work now; nothing without a command that does."""
    if command["action"] == Action.RUN.name:
        return []
    return [f"now {command['action']} by the {command['origin']}: {command['reason']}"]


def experiment_lines(view: View) -> tuple[str, ...]:
    """Return a line for each experiment that has begun: its state, its trials, its best."""
    begun = [one for one in view["experiments"] if ProcessState(one["state"]) in (*AT_WORK, *ENDED)]
    lines = [_experiment(one) for one in begun[:MAX_EXPERIMENTS]]
    left_out = len(begun) - len(lines)
    return (*lines, *([f"and {counted(left_out, 'more experiment')}"] if left_out else []))


def _experiment(one: View) -> str:
    best, failed = one["best"], _failed(one)
    parts = [f"{one['name']} {one['state']}", f"{one['ended']} of {counted(one['max_trials'], 'trial')}"]
    if best is not None:
        parts.append(f"best {best['value']:.4g} (trial {best['trial']})")
    if failed:
        parts.append(f"{failed} failed")
    return ", ".join([*parts, *(["NO ANSWER"] if one["missing"] else [])])


def _failed(one: View) -> int:
    return sum(one["counts"].get(reason, 0) for reason in MAY_BE_RETRIED)
