"""Forecasts the end of each experiment and of the run, from a run's view and the time now. Pure; standard library only.

An experiment is its begin, the trials of its search, those after it, and its test. A trial is epochs times work times
pace: the work by the dry run's figures (trial_work), the pace from all trials of the run (paces), the epochs from the
share that pruning and early stopping have left so far (shown). Experiments follow one another, so each end counts all
before it. The hours of an experiment bound it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from supervisor.domain.eta.log_normal import Moments, uncertain
from supervisor.domain.eta.paces import Paces, Weights, paces
from supervisor.domain.eta.shown import edges_shown, paces_shown, shares_shown, with_overdue
from supervisor.domain.eta.stalls import Stalls, stalls
from supervisor.domain.eta.trial_times import left_of
from supervisor.domain.eta.work_left import WorkLeft, work_left
from supervisor.domain.lifecycle import ENDED, ProcessState

REPORT_S, REPORT_TIMES = 5.0, 2.0
"""The seconds of a run's report, after its last experiment, and the factor by which they may differ."""
FIXED_SD = 0.4
"""The standard deviation of begins and ends, as a share of their mean."""
DRIFT = 0.24**2
"""The variance that a log pace gets by what the machine will do from now on: other programs come and go."""

View = Mapping[str, Any]
Eta = dict[str, float]


def with_eta(view: View, now_wall: float | None) -> dict[str, Any]:
    """Return a run's view with `eta` in it and in each experiment: seconds from now to the end of each.

    An `eta` has `median_s`, and `low_s` and `high_s` between which the end lies in four of five cases; it is None for
    all that has ended, and while nothing says how long an epoch takes. `now_wall` None: nothing is at work now.
    """
    experiments = view["experiments"]
    try:
        found = [_finite(eta) for eta in _forecast(experiments, now_wall, view)]
    except ArithmeticError:
        # Figures that a trainable made up: without an ETA the status is still right.
        found = [None] * len(experiments)
    shown = [{**one, "eta": eta} for one, eta in zip(experiments, found, strict=True)]
    ends = [eta for one, eta in zip(experiments, found, strict=True) if not _is_over(one)]
    return {**view, "experiments": shown, "eta": _with_report(ends[-1]) if ends else _report_left(view, now_wall)}


def _with_report(last: Eta | None) -> Eta | None:
    return None if last is None else {key: seconds + REPORT_S for key, seconds in last.items()}


def _report_left(view: View, now_wall: float | None) -> Eta | None:
    """Return the eta of a run of which only the report is left; None for one that is over."""
    ends = [one["ended_wall"] for one in view["experiments"] if one["ended_wall"] is not None]
    if now_wall is None or not ends or view.get("run", {}).get("state") != ProcessState.RUNNING:
        return None
    left_s = left_of(REPORT_S, max(0.0, now_wall - max(ends)))
    return {"median_s": left_s, "low_s": left_s / REPORT_TIMES, "high_s": left_s * REPORT_TIMES}


def _finite(eta: Eta | None) -> Eta | None:
    return eta if eta is not None and all(map(math.isfinite, eta.values())) else None


def _is_over(experiment: View) -> bool:
    return ProcessState(experiment["state"]) in ENDED


def _forecast(experiments: Sequence[View], now_wall: float | None, run: View) -> list[Eta | None]:
    """Return the eta of each experiment, in order."""
    shown = paces_shown(experiments)
    first = paces(shown)
    if first is None:
        return [None] * len(experiments)
    known = paces(with_overdue(experiments, shown, first.means, now_wall)) or first
    shares, edges = shares_shown(experiments), edges_shown(experiments)
    works = [
        None if _is_over(one) else work_left(one, math.exp(mean), share, edges, now_wall)
        for one, mean, share in zip(experiments, known.means, shares, strict=True)
    ]
    ahead = _stalls(experiments, works, run)
    lengths = [
        None if left is None else _length(left, known.variance(place), known.noise) for place, left in enumerate(works)
    ]
    return _ends(experiments, works, lengths, known, ahead)


def _stalls(experiments: Sequence[View], works: Sequence[WorkLeft | None], run: View) -> Stalls:
    """Return what pauses and lost attempts will take, as a share of the time of training."""
    done_s = sum(one["measured"]["seconds"] + sum(trial["spent_s"] for trial in one["running"]) for one in experiments)
    left_s = sum(left.trained_s * left.at_once for left in works if left is not None)
    return stalls(run["lost"], int(run["lost_times"]), float(done_s), left_s)


def _length(left: WorkLeft, pace_variance: float, noise: float) -> Moments:
    """Return the moments of the time that an experiment takes, its hours and stalls aside."""
    trials = uncertain(left.trained_s, pace_variance + DRIFT + left.shares_doubt)
    # Each trial differs, and the more of them follow one another in a slot the less that matters.
    each = math.expm1(noise) + left.each
    by_chance = trials.mean**2 * each * math.sqrt(left.at_once) / left.trials if left.trials else 0.0
    fixed_s = left.begin_s + left.end_s
    return Moments(trials.mean + fixed_s, trials.variance + by_chance + (FIXED_SD * fixed_s) ** 2)


def _ends(
    experiments: Sequence[View],
    works: Sequence[WorkLeft | None],
    lengths: Sequence[Moments | None],
    known: Paces,
    ahead: Stalls,
) -> list[Eta | None]:
    """Return the eta of each experiment, all before it counted; None for one that has ended."""
    found: list[Eta | None] = []
    before = Weights()
    mean, variance, bound, carried = 0.0, 0.0, 0.0, 0.0
    for place, (one, left, whole) in enumerate(zip(experiments, works, lengths, strict=True)):
        if left is None or whole is None:
            found.append(None)
            continue
        length, hours_s = whole, _hours_left(one, left)
        bound += math.inf if hours_s is None else hours_s + left.begin_s
        if hours_s is not None:
            # They count from the driver's start, and all that an experiment leaves of them goes to the next.
            hours_s += left.begin_s + carried
            length = _within(whole, hours_s, left.trial_s)
            carried = max(0.0, hours_s - left.begin_s - length.mean)
        # Lengths whose paces rest on the same trials err together, as far as no bound holds them.
        free = whole.mean * math.sqrt(length.variance / whole.variance) if whole.variance > 0.0 else 0.0
        mean, variance = mean + length.mean, variance + length.variance + 2.0 * free * known.shared(place, before)
        before = known.with_one(before, place, free)
        # Hours stand still in a pause.
        median, low, high = ahead.stretched(*Moments(mean, max(0.0, variance)).quantiles(bound))
        found.append({"median_s": median, "low_s": low, "high_s": min(high, ahead.latest(bound))})
    return found


def _hours_left(experiment: View, left: WorkLeft) -> float | None:
    """Return what is left of an experiment's hours: by the daemon's count where it works, else all of them.

    Where they are over, its end still takes its time.
    """
    hours, left_s = experiment["spec"].get("max_hours"), experiment.get("left_s")
    if hours is None:
        return None
    return max(left.end_s, float(hours) * 3600.0 if left_s is None else float(left_s))


def _within(whole: Moments, hours_s: float, trial_s: float) -> Moments:
    """Return the time that an experiment takes of its hours: a search ends when another trial does not fit."""
    length = whole.bounded(hours_s)
    if whole.mean <= hours_s:
        return length
    unused_s = min(trial_s, hours_s / 2.0)
    return Moments(max(0.0, length.mean - unused_s / 2.0), length.variance + unused_s**2 / 12.0)
