"""Says what is left of an experiment at a pace: its begin, its trials phase by phase, its end. Pure.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from supervisor.domain.eta.shown import Edges, Shares, end_s, max_epochs, since_s
from supervisor.domain.eta.trial_times import left_of, searched, share_left, together
from supervisor.domain.eta.trial_work import PHASES, believable, phase_of
from supervisor.domain.finalists import finalisation_trials, search_trials, set_aside_trials, walk_forward_trials
from supervisor.domain.lifecycle import ProcessState
from supervisor.domain.trials.extension import last_epoch, more_epochs

View = Mapping[str, Any]


@dataclass(frozen=True)
class WorkLeft:
    """Holds what is left of an experiment: seconds with trials at work, before and after them, and so many trials.

    `trial_s` are all epochs of a trial of the search. `shares_doubt` is the variance of `trained_s` by what is not
    known of the shares, `each` that of one trial's time beside its pace, both as a part of the square.
    """

    trained_s: float
    begin_s: float
    end_s: float
    trial_s: float
    trials: int
    at_once: int
    shares_doubt: float
    each: float


def work_left(experiment: View, pace: float, shares: Shares, edges: Edges, now_wall: float | None) -> WorkLeft:
    """Return what is left of an experiment at a pace, in seconds per work."""
    spec, found, at_once = experiment["spec"], experiment["measured"], _at_once(experiment)
    epoch_s = (pace * found["work"], pace * found["final_work"])
    running = _running(experiment, pace, shares, now_wall)
    waiting = _waiting(experiment, running)
    begun = found["trials"][0] + len(running[0])
    search_s = _search_s(
        spec, running[0], waiting[0], shares.of_waiting(spec, begun, waiting[0]), epoch_s[0], edges, at_once
    )
    after_s = sum(
        _round_s(running[phase], waiting[phase], shares.by_phase[phase], max_epochs(spec) * epoch_s[1], edges, at_once)
        for phase in (1, 2)
    )
    trained_s, trials = search_s + after_s, sum(map(len, running)) + sum(waiting)
    searching = search_s / trained_s if trained_s > 0.0 else 0.0
    return WorkLeft(
        trained_s=trained_s,
        begin_s=_begin_s(experiment, edges, now_wall),
        end_s=_end_left(experiment, trials, edges, epoch_s[1], now_wall),
        trial_s=max_epochs(spec) * epoch_s[0],
        trials=trials,
        at_once=at_once,
        shares_doubt=shares.doubt * searching**2,
        each=found["work_variance"] + shares.spread * searching,
    )


def _at_once(experiment: View) -> int:
    """Return how many trials run at once: as many as asked for, or as this machine has room for."""
    spec, room = experiment["spec"], experiment["measured"]["at_once"]
    asked = int(spec.get("concurrency", 1))
    if not spec.get("chosen") and room is not None:
        # Where the machine is to choose, the spec says 1 until it has.
        asked = int(room) if spec.get("auto_concurrency") else min(asked, int(room))
    return max(1, asked, len(experiment["running"]))


def _running(experiment: View, pace: float, shares: Shares, now_wall: float | None) -> list[list[float]]:
    """Return the seconds that the running trials have left, by phase."""
    found: list[list[float]] = [[] for _ in range(PHASES)]
    for trial in experiment["running"]:
        phase = phase_of(experiment["spec"], int(trial["number"]))
        found[phase].append(_trial_left(experiment["spec"], trial, pace, shares, now_wall))
    return found


def _trial_left(spec: View, trial: View, pace: float, shares: Shares, now_wall: float | None) -> float:
    """Return the seconds that a running trial has left; its own pace counts once it has one."""
    has_pace = trial["epoch"] and believable(trial["spent_s"] / trial["epoch"])
    epoch_s = float(trial["spent_s"] / trial["epoch"] if has_pace else pace * trial["work"])
    now_s, epochs = left_of(epoch_s, since_s(trial, now_wall)), max_epochs(spec)
    number = int(trial["number"])
    if more_epochs(spec, number) is not None:
        # An extension is not pruned.
        more = max(0, int(last_epoch(spec, number) or 0) - int(trial["epoch"]) - 1)
        return now_s + more * epoch_s
    if phase_of(spec, number) == 0 and spec.get("finish_asked"):
        return now_s
    after = share_left(shares.of(spec, number), min(1.0, (trial["epoch"] + 1) / epochs))
    return now_s + after * epochs * epoch_s


def _waiting(experiment: View, running: Sequence[Sequence[float]]) -> list[int]:
    """Return how many trials have not begun, by phase."""
    spec, ended = experiment["spec"], experiment["measured"]["trials"]
    planned = (search_trials(spec) - set_aside_trials(spec), finalisation_trials(spec), walk_forward_trials(spec))
    found = [max(0, planned[phase] - ended[phase] - len(running[phase])) for phase in range(PHASES)]
    if spec.get("finish_asked") and spec.get("searched") is None:
        found[0] = 0
    return found


def _search_s(
    spec: View, running: Sequence[float], waiting: int, share: float, epoch_s: float, edges: Edges, at_once: int
) -> float:
    """Return the seconds of the search that are left; waiting trials train `share` of their epochs in the mean."""
    whole_s = edges.start_s + max_epochs(spec) * epoch_s
    each_s = edges.start_s + share * max_epochs(spec) * epoch_s
    finalize = spec.get("finalize")
    # Certain finalists begin beside the last trials of the search, in the slots that these leave.
    idle_slots = at_once if finalize is None else max(1, at_once - int(finalize["top"]) + 1)
    return searched(running, waiting, each_s, at_once, idle_slots, whole_s)


def _round_s(running: Sequence[float], waiting: int, share: float, whole_s: float, edges: Edges, at_once: int) -> float:
    """Return the seconds of finalisation or walk-forward that are left: of each round the slowest trial counts."""
    slowest = share ** (1.0 / max(1, min(at_once, waiting)))
    return together(running, waiting, edges.start_s + slowest * whole_s, at_once)


def _begin_s(experiment: View, edges: Edges, now_wall: float | None) -> float:
    """Return the seconds until the first trial of an experiment runs, or runs again."""
    state = ProcessState(experiment["state"])
    if state in (ProcessState.RUNNING, ProcessState.PAUSED):
        if experiment["running"] or any(experiment["measured"]["trials"]):
            return 0.0
    elif state is not ProcessState.STARTING:
        return edges.begin_s
    started, first = experiment["started_wall"], experiment["driver_starts"] == 1
    if state is ProcessState.PAUSED or not first or started is None or now_wall is None:
        return edges.begin_s
    return left_of(edges.begin_s, max(0.0, now_wall - started))


def _end_left(experiment: View, trials: int, edges: Edges, epoch_s: float, now_wall: float | None) -> float:
    """Return the seconds of the experiment's end that are left: of its test, above all."""
    whole_s, last = end_s(experiment, epoch_s) * edges.end_ratio, experiment["measured"]["last_wall"]
    if trials or last is None or now_wall is None:
        return whole_s
    return left_of(whole_s, max(0.0, now_wall - last))
