"""Decides whether a change of the plan can hold in an experiment, and says its effect. Pure; standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from supervisor.domain.finalists import phase, search_trials
from supervisor.domain.lifecycle import AT_WORK, ENDED, TRIAL_ENDED, ProcessState
from supervisor.formatting import duration

ENQUEUED = "enqueued"
"""The source of a trial that tries a given point."""

MAX_TRIALS, MAX_EPOCHS = 100_000, 100_000
"""The most trials of an experiment, since lists of them are read as a whole; and the last epoch that one may have."""

Spec = Mapping[str, Any]
Trial = Mapping[str, Any]


def why_not_change(
    state: ProcessState, spec: Spec, changes: Spec, trials: Sequence[Trial], spent_s: float
) -> str | None:
    """Return why an experiment cannot take `changes` of its spec; None when it can.

    `spent_s` are the seconds for which it has run.
    """
    if state in ENDED:
        return f"it has ended ({state})"
    hours = changes.get("max_hours")
    if hours is not None and hours * 3600.0 <= spent_s:
        return f"{hours:g} h are too few: it has run for {duration(spent_s)}"
    return why_not_resize(spec, changes, trials) if "max_trials" in changes else None


def why_not_resize(spec: Spec, changes: Spec, trials: Sequence[Trial]) -> str | None:
    """Return why an experiment's search cannot have another number of trials now; None when it can."""
    begun = sum(phase(trial["source"]) == 0 for trial in trials)
    if spec.get("searched") is not None:
        return f"its search has ended after {begun} trials"
    if len(trials) > begun:
        return "its finalisation has begun; `supervisorctl extend` sets it aside and adds trials"
    if spec.get("finish_asked"):
        return "it finishes: its search ends now"
    wanted = search_trials({**spec, **changes})
    if wanted < begun:
        return f"{begun} trials of its search have begun, more than {wanted}; `supervisorctl finish` ends it"
    return None


def waiting_points(spec: Spec, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return the points that a person enqueued and no trial has tried yet, in order.

    They are tried after the plan's own, whose trials have the first numbers.
    """
    asked = list(spec.get("asked") or ())
    own = len(spec.get("enqueue") or ())
    given = sum(trial.get("source") == ENQUEUED and int(trial["number"]) >= own for trial in trials) if asked else 0
    return asked[given:]


def why_not_enqueue(state: ProcessState, spec: Spec, trials: Sequence[Trial], name: str) -> str | None:
    """Return why a point cannot be tried by the search of experiment `name` any more; None when it can."""
    more = f"`supervisorctl extend {name} --trials 1` adds a trial"
    if state in ENDED:
        return f"it has ended ({state}); {more}"
    begun = sum(phase(trial["source"]) == 0 for trial in trials)
    if spec.get("searched") is not None or spec.get("finish_asked") or len(trials) > begun:
        return "its search has ended"
    waiting = max(0, len(spec.get("enqueue") or ()) - begun) + len(waiting_points(spec, trials))
    if begun + waiting >= search_trials(spec):
        return f"its search has no trial left for it; {more}"
    return None


def why_not_extend(
    state: ProcessState, spec: Spec, trials: Sequence[Trial], more: int, hours: float, left_s: float | None,
    chooses_anew: str | None = None,
) -> str | None:  # fmt: skip
    """Return why the search of an experiment cannot get more trials; None when it can. It may have ended.

    `hours` come with the trials; `left_s` are the seconds that it has left, None without a limit. `chooses_anew` says
    why it cannot choose anew, where it has chosen; None when it can (early_ends.why_not_set_aside).
    """
    if chooses_anew is not None:
        return chooses_anew
    if state is ProcessState.SKIPPED:
        return "it was skipped; `supervisorctl retry` takes it in again"
    has_chosen = any(phase(trial["source"]) > 0 for trial in trials)
    ends_now = spec.get("searched") is not None or spec.get("finish_asked")
    if state not in ENDED and ends_now and not has_chosen:
        return "its search ends now; ask again once it has ended"
    if (total := extended(spec, trials, more)) > MAX_TRIALS:
        return f"expected at most {MAX_TRIALS} trials in all, found {total}"
    if spec.get("max_hours") is None and hours:
        return "it has no limit of hours"
    if left_s == 0.0 and not hours:
        return "its max_hours are used up; give it some more with --hours"
    return None


def extended(spec: Spec, trials: Sequence[Trial], more: int) -> int:
    """Return the `max_trials` with which a search tries `more` configurations than it had, or would have, tried."""
    begun = sum(phase(trial["source"]) == 0 for trial in trials)
    own = {**spec, "searched": None}
    missing = begun - search_trials(own) if spec.get("searched") is not None else 0
    return int(spec["max_trials"]) + missing + more


def effect(state: ProcessState, spec: Spec, changes: Spec, trials: Sequence[Trial]) -> str:
    """Return what `changes` of an experiment's spec mean, and from when on, as a sentence."""
    at_work = state in AT_WORK
    parts = []
    if "max_trials" in changes:
        parts.append(f"{changes['max_trials']} trials instead of {spec['max_trials']}")
    if "concurrency" in changes or "auto_concurrency" in changes:
        now = int(changes.get("concurrency", spec["concurrency"]))
        begins = f", {_begins(now, {**spec, **changes}, trials)}" if at_work else ""
        parts.append(f"{now} at once instead of {spec['concurrency']}{begins}")
    if "max_hours" in changes:
        before = "no limit" if spec.get("max_hours") is None else f"{spec['max_hours']:g}"
        parts.append(f"{changes['max_hours']:g} h instead of {before}")
    if "stop" in changes:
        parts.append(_stops(changes["stop"]))
    later = [f"{key} {changes[key]:g}" for key in ("max_failures", "checkpoint_every_s") if key in changes]
    if later:
        parts.append(f"{', '.join(later)}{' from its next driver on' if at_work else ''}")
    return "; ".join(parts)


def _stops(stop: Mapping[str, Any] | None) -> str:
    """Return when a search ends by its plan's `stop`."""
    if stop is None:
        return "no early stop"
    when = [f"at a value of {stop['value']:g}"] if stop["value"] is not None else []
    when += [f"after {stop['plateau']} trials without a better one"] if stop["plateau"] is not None else []
    return f"its search stops {' or '.join(when)}"


def _begins(now: int, spec: Spec, trials: Sequence[Trial]) -> str:
    """Return how many trials start when `now` may run at once."""
    live = sum(trial["state"] not in TRIAL_ENDED for trial in trials)
    room = search_trials(spec) - sum(phase(trial["source"]) == 0 for trial in trials)
    more = max(0, min(now - live, room))
    if more:
        return f"{more} more trial{'s' * (more > 1)} start{'s' * (more == 1)} now where cores are free"
    return f"no other starts before fewer than {now} run" if live > now else "none starts now"
