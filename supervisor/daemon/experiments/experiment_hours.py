"""Keeps the hours of experiments: counts down those of the one at work, and passes on what others left over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from statistics import mean
from typing import Any

from supervisor.clock import Clock
from supervisor.daemon.experiments.experiment_state import ExperimentState
from supervisor.domain.lifecycle import ENDED, ProcessState
from supervisor.domain.messages import TimeLeft
from supervisor.domain.search_time import Pace, SearchTime, longest_run, pace, search_time
from supervisor.formatting import duration
from supervisor.store import lookups
from supervisor.store.run_writer import RunWriter
from supervisor.store.steering.retry_writer import seconds_left

PERIOD_S = 1.0
WITHOUT_HOURS_PERIOD_S = 5.0
"""A person may set them meanwhile."""
TELL_EVERY_S = 60.0
"""The seconds that the driver knows to be left are at most so far from the right ones."""
WORTH_GIVING_S = 1.0

TrialSeconds = Callable[[dict[str, Any]], dict[int, float] | None]
"""From a spec to the seconds of all epochs of one trial, by shape rank; None where they are unknown."""


class Countdown:
    """Counts down the hours of the experiment at work, by the monotonic clock: a pause and a sleep do not count."""

    def __init__(self, state: ExperimentState, clock: Clock, trial_seconds: TrialSeconds) -> None:
        self._state, self._clock, self._trial_seconds = state, clock, trial_seconds
        self.left_s = state.seconds_left()
        self._hours = state.spec.get("max_hours")
        self._looked_s = clock.mono_s()
        self._costs: dict[int, dict[str, Any]] = {}
        self._seen = 0
        """The newest event of which the costs of trials are known."""
        self._pace: Pace | None = None
        self._guess_s: float | None = None
        self._told: TimeLeft | None = None
        self._spec, self._spec_of = state.spec, state.newest_event

    @property
    def period_s(self) -> float:
        """Return the seconds until the next look; also without hours, which a person may set meanwhile."""
        return WITHOUT_HOURS_PERIOD_S if self.left_s is None else min(PERIOD_S, self.left_s)

    def _spec_now(self) -> dict[str, Any]:
        """Return the spec; it is read anew only after an event, for nothing else changes it."""
        newest = self._state.newest_event
        if newest != self._spec_of:
            self._spec, self._spec_of = self._state.spec, newest
        return self._spec

    def look(self) -> float | None:
        """Count the time since the last look, if the experiment ran; return what is left, None without hours."""
        now, hours = self._clock.mono_s(), self._spec_now().get("max_hours")
        if hours != self._hours:
            if self.left_s is None or hours is None:
                self.left_s = self._state.seconds_left()
            else:
                self.left_s = max(0.0, self.left_s + (hours - self._hours) * 3600.0)
            self._hours = hours
        if self.left_s is not None and self._state.is_running():
            self.left_s = max(0.0, self.left_s - (now - self._looked_s))
        self._looked_s = now
        return self.left_s

    def message(self) -> TimeLeft:
        """Return what the driver needs to decide whether one more trial fits."""
        spec = self._spec_now()
        ended, self._seen = self._state.trial_costs(self._seen)
        if self._pace is None:
            known = self._trial_seconds(spec)
            self._guess_s = mean(known.values()) if known else None
        if ended or self._pace is None:
            self._costs |= {trial["number"]: trial for trial in ended}
            self._pace = pace(spec, self._costs.values(), self._guess_s)
        return TimeLeft(**asdict(search_time(spec, self._pace, self.left_s or 0.0)))

    def news(self) -> TimeLeft | None:
        """Return the message that the driver needs now; None while it decides by the last one as by this."""
        now, told = self.message(), self._told
        if told is not None and abs(now.left_s - told.left_s) < TELL_EVERY_S and decides_as(now, told):
            return None
        self._told = now
        return now


def decides_as(one: TimeLeft, other: TimeLeft) -> bool:
    """Return whether a driver decides the same by two messages: only the seconds left may differ."""
    times = [SearchTime(**asdict(message)) for message in (one, other)]
    first, second = ((replace(time, left_s=0.0), time.is_over, time.fits_another) for time in times)
    return first == second


def pass_on(writer: RunWriter, name: str) -> None:
    """Give an experiment the hours that the ones before it left over, once; none without hours of its own."""
    store, run_id = writer.store, writer.run_id
    if lookups.spec(store, run_id, name).get("max_hours") is None:
        return
    rows = lookups.experiments(store, run_id)
    events = lookups.newest_events(store, ["experiment.extended"], len(rows), run=run_id)
    given = {source for event in events for source in event.fields["sources"]}
    left: dict[str, float] = {}
    for row in rows:
        if row["name"] == name:
            break
        if ProcessState(row["state"]) in ENDED and row["name"] not in given:
            spec = lookups.spec(store, run_id, row["name"])
            left[row["name"]] = seconds_left(store, run_id, row["name"], spec.get("max_hours")) or 0.0
    sources = [source for source, seconds in left.items() if seconds >= WORTH_GIVING_S]
    if sources:
        hours = round(sum(left[source] for source in sources) / 3600.0, 6)
        writer.record("experiment.extended", experiment=name, hours=hours, sources=sources)


def narrow(writer: RunWriter, name: str, trial_seconds: TrialSeconds) -> str | None:
    """Leave out the shapes of which a single trial takes longer than the experiment's hours, before its first trial.

    The longest row of shapes that fit stays, so that their order still says something. Return why none fits; None when
    one does, or where the time is unknown.
    """
    spec = lookups.spec(writer.store, writer.run_id, name)
    if spec.get("max_hours") is None or lookups.trials(writer.store, writer.run_id, name):
        return None
    known, hours_s = trial_seconds(spec), float(spec["max_hours"]) * 3600.0
    if not known or all(seconds <= hours_s for seconds in known.values()):
        return None
    ranks, most = sorted(known), max(known.values())
    kept = longest_run([known[rank] <= hours_s for rank in ranks])
    if kept is None:
        least = min(known.values())
        return f"its hours are too short: a trial takes about {duration(least)} or more, {duration(hours_s)} are left"
    low, high = (ranks[place] for place in kept)
    writer.record(
        "experiment.narrowed", experiment=name, low=low, high=high, tried=kept[1] - kept[0] + 1, shapes=len(ranks),
        reason=f"a trial of the others takes up to {duration(most)}, {duration(hours_s)} are left",
    )  # fmt: skip
    return None
