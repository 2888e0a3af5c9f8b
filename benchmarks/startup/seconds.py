"""Read from a run's events what each second went to in which no trial trained, and put it into a table. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from benchmarks.startup.picture import Bar

Event = Mapping[str, Any]
Seconds = dict[str, dict[str, float]]
"""The seconds of each step, by its part of the run: the start, from one experiment to the next, the end."""


@dataclass(frozen=True)
class Step:
    """Ends with the first event of these names since the step before it."""

    words: str
    ends: tuple[str, ...]


BEGIN = (
    Step("a driver is started", ("driver.started",)),
    Step("the driver says hello", ("experiment.started",)),
    Step("the first trial starts", ("trial.started",)),
    Step("its first epoch is reported", ("trial.reported", "trial.finished", "trial.failed")),
)
START = (
    Step("`start` checks the plan; the daemon is up", ("daemon.started",)),
    Step("Ray is up", ("ray.started",)),
    *BEGIN,
)
FINISH = (
    Step("the driver ends", ("test.opened", "test.refused", "test.failed", "experiment.finished", "experiment.failed")),
    Step("the test, and the experiment's end", ("experiment.finished", "experiment.failed")),
)
NEXT = (*FINISH, *BEGIN)
END = (
    *FINISH,
    Step("the run is finished", ("run.finished",)),
    Step("the report is written", ("report.written", "report.failed")),
)
PARTS = {"start": START, "next": NEXT, "end": END}
GOALS = {
    "start": ("`start` to the first trial", "the first trial starts"),
    "next": ("last result to the next experiment's first trial", "the first trial starts"),
    "end": ("last trial to the report", "the report is written"),
}
"""The words of each part's sum, and the step up to which it counts."""


def at(event: Event) -> float:
    """Return an event's wall time, in seconds since the epoch."""
    return datetime.fromisoformat(event["ts"]).timestamp()


def steps_of(steps: Sequence[Step], begun_s: float, events: Sequence[Event]) -> dict[str, float]:
    """Return the seconds of each step from `begun_s` on, as far as `events` reach; 0 for one that its event shares."""
    found, left, last_s = {}, list(events), begun_s
    reached: Event | None = None
    for step in steps:
        if reached is not None and reached["event"] in step.ends:
            found[step.words] = 0.0
            continue
        place = next((i for i, event in enumerate(left) if event["event"] in step.ends), None)
        if place is None:
            break
        reached, left = left[place], left[place + 1 :]
        found[step.words], last_s = at(reached) - last_s, at(reached)
    return found


def ends_of_trials(events: Sequence[Event]) -> dict[str, int]:
    """Return the place of the last end of a trial of each experiment, in the order in which they ended."""
    last: dict[str, int] = {}
    for place, event in enumerate(events):
        if event["event"] in ("trial.finished", "trial.failed"):
            last[event["experiment"]] = place
    return dict(sorted(last.items(), key=lambda item: item[1]))


def seconds_of(typed_s: float, events: Sequence[Event]) -> Seconds:
    """Return what a run's events say about the time around its trials; `typed_s` is when `start` was called."""
    found: Seconds = {"start": steps_of(START, typed_s, events)}
    places = list(ends_of_trials(events).values())
    for number, place in enumerate(places):
        part, steps = ("end", END) if number == len(places) - 1 else (f"next {number + 1}", NEXT)
        found[part] = steps_of(steps, at(events[place]), events[place + 1 :])
    return found


def total(steps: Mapping[str, float], until: str) -> float | None:
    """Return the seconds to the end of the step `until`; None if the run did not get there."""
    if until not in steps:
        return None
    return sum(list(steps.values())[: list(steps).index(until) + 1])


def of_part(runs: Sequence[Seconds], part: str) -> list[dict[str, float]]:
    """Return the steps of a part of every run; for "next" those of every pair of experiments."""
    return [steps for run in runs for name, steps in run.items() if name.split()[0] == part]


def median(found: Sequence[float | None]) -> float | None:
    """Return the median of the seconds that are known; None without any."""
    known = [each for each in found if each is not None]
    return statistics.median(known) if known else None


def table(runs: Mapping[str, Sequence[Seconds]]) -> str:
    """Return the table of all steps, a column for each checkout, with the sums that have a goal."""
    lines = ["| seconds | " + " | ".join(runs) + " |", "|---|" + "---:|" * len(runs)]
    for part, steps in PARTS.items():
        words, until = GOALS[part]
        totals = [_text(median([total(each, until) for each in of_part(found, part)])) for found in runs.values()]
        lines.append(f"| **{words}** | " + " | ".join(f"**{text}**" for text in totals) + " |")
        for step in steps:
            cells = [_text(median([each.get(step.words) for each in of_part(found, part)])) for found in runs.values()]
            lines.append(f"| … {step.words} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _text(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:.1f}"


def bars(runs: Mapping[str, Sequence[Seconds]]) -> list[Bar]:
    """Return the bars of the picture: one for each part and checkout, a piece for each step."""
    return [
        Bar(
            GOALS[part][0],
            name,
            [(step.words, median([each.get(step.words) for each in of_part(found, part)]) or 0.0) for step in steps],
        )
        for part, steps in PARTS.items()
        for name, found in runs.items()
    ]
