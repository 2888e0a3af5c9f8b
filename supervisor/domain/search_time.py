"""Decides how long an experiment searches: which of its hours its trials may use, and which its answer needs.

The search ends when what is left of `max_hours`, less a reserve for the trials after it and the test, is too short for
one more trial; or when a person asks it to finish. The reserve is at most half of the hours: in a short time fewer
configurations are trained again, on fewer seeds. All times are seconds in which the experiment runs. Pure; standard
library only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from supervisor.domain.finalists import best_different, is_final, phase, search_trials, shrunk
from supervisor.domain.lifecycle import ENDED, TRIAL_ENDED, EndReason, ProcessState

TRIAL_OVERHEAD_S = 1.0
"""The time of a trial beside its epochs: it reads data and moves to its device."""
LONG_TRIALS, LONGER = 2, 1.5
"""Early stopping usually ends a trial long before its last epoch; with another seed it may come later."""
ENOUGH_TRIALS = 8
"""A search of fewer trials says little: a model-based sampler begins with ten random ones."""

_BY_THEMSELVES = (EndReason.FINISHED, EndReason.EARLY_STOPPED)

Spec = Mapping[str, Any]
Trial = Mapping[str, Any]


@dataclass(frozen=True)
class SearchTime:
    """Holds what is left of an experiment's hours, and what its next trial and its answer need.

    `trial_s` is None while nothing is known of a trial. `top` and `seeds` are those of the finalisation that fits the
    reserve; None without finalisation.
    """

    left_s: float
    trial_s: float | None
    reserve_s: float
    top: int | None
    seeds: int | None

    @property
    def is_over(self) -> bool:
        """Return whether the search's running trials must end, too: only the reserve is left."""
        return self.left_s <= self.reserve_s

    @property
    def fits_another(self) -> bool:
        """Return whether one more trial of the search fits before the reserve."""
        return not self.is_over and (self.trial_s is None or self.left_s - self.reserve_s >= self.trial_s)


@dataclass(frozen=True)
class Pace:
    """Holds the seconds of a trial: of an average one of the search, and of one with all its epochs. None: unknown."""

    searched_s: float | None
    whole_s: float | None


def pace(spec: Spec, trials: Iterable[Trial], guess_s: float | None) -> Pace:
    """Return the pace of an experiment's ended trials; `guess_s` for both before the first of them.

    Each of `trials` has number, value, end_reason, params, epochs and its seconds of training. An epoch after the
    search takes as long as that of the slowest configuration that may be trained again.
    """
    counting = [trial for trial in trials if trial["end_reason"] != EndReason.SET_ASIDE and trial["epochs"]]
    trained = [trial for trial in counting if not is_final(spec, int(trial["number"]))]
    top = int((spec.get("finalize") or {}).get("top", 1))
    epochs = _epochs_again(spec, trained)
    whole = [
        TRIAL_OVERHEAD_S + float(trial["seconds"]) / trial["epochs"] * (epochs or float(trial["epochs"]))
        for trial in best_different(trained, str(spec["mode"]), top)
    ]
    searched = [TRIAL_OVERHEAD_S + float(trial["seconds"]) for trial in trained]
    return Pace(sum(searched) / len(searched) if searched else guess_s, max(whole, default=guess_s))


def _epochs_again(spec: Spec, trained: Sequence[Trial]) -> float | None:
    """Return the epochs for which a trial after the search needs time; None without `max_epochs`.

    All of them, until LONG_TRIALS trials have ended by themselves: then LONGER times those of the longest one.
    """
    most = spec.get("max_epochs")
    if not most:
        return None
    own = [int(trial["epochs"]) for trial in trained if trial["end_reason"] in _BY_THEMSELVES]
    return float(most) if len(own) < LONG_TRIALS else min(float(most), LONGER * max(own))


def search_time(spec: Spec, known: Pace, left_s: float) -> SearchTime:
    """Weigh what is left of an experiment's hours."""
    half_s = float(spec["max_hours"]) * 1800.0
    _, _, reserve_s = answer(spec, half_s, known.whole_s)
    # A search that ends early leaves more; its running trials still need their time.
    top, seeds, _ = answer(spec, max(half_s, left_s - (known.searched_s or 0.0)), known.whole_s)
    return SearchTime(left_s, known.searched_s, reserve_s, top, seeds)


def answer(spec: Spec, most_s: float, whole_s: float | None) -> tuple[int | None, int | None, float]:
    """Return `top` and `seeds` of the finalisation for which `most_s` are enough, and the seconds of the answer.

    One of each at least: then the answer may take more. `whole_s` is a trial of all epochs; with None the answer counts
    nothing.
    """
    finalize = spec.get("finalize")
    if finalize is None:
        return None, None, 0.0
    top, seeds, folds = int(finalize["top"]), int(finalize["seeds"]), int(finalize.get("folds", 1))
    if whole_s is None:
        return top, seeds, 0.0
    fitting, needed_s = (top, seeds), 0.0
    for room in range(seeds * (top + folds - 1), 0, -1):
        fitting = shrunk(top, seeds, folds, room)
        needed_s = _answer_s(spec, *fitting, folds, whole_s)
        if needed_s <= most_s:
            break
    return _filled(spec, *fitting, top), fitting[1], needed_s


def _filled(spec: Spec, top: int, seeds: int, most: int) -> int:
    """Return how many configurations take no longer than `top` of them: places of the last round may be free."""
    at_once = int(spec["concurrency"])
    return max(top, min(most, math.ceil(top * seeds / at_once) * at_once // seeds))


def _answer_s(spec: Spec, top: int, seeds: int, folds: int, whole_s: float) -> float:
    """Return the seconds of finalisation, walk-forward and test; a test reads less days than an epoch."""
    at_once, epoch_s = int(spec["concurrency"]), whole_s / max(1, int(spec.get("max_epochs") or 1))
    rounds = math.ceil(top * seeds / at_once) + math.ceil(seeds * (folds - 1) / at_once)
    return rounds * whole_s + seeds * folds * epoch_s


def trials_that_fit(spec: Spec, hours_s: float, whole_s: float, searched_s: float) -> tuple[int, int]:
    """Return how many trials search, and how many follow, in `hours_s`; `searched_s` is an average trial's time."""
    top, seeds, reserve_s = answer(spec, hours_s / 2, whole_s)
    folds = int((spec.get("finalize") or {}).get("folds", 1))
    rounds = math.floor(max(0.0, hours_s - reserve_s) / searched_s)
    search = min(search_trials(spec), rounds * int(spec["concurrency"]))
    follow = 0 if top is None or seeds is None else min(top, search) * seeds + seeds * (folds - 1)
    return search, follow if search else 0


def longest_run(fits: Sequence[bool]) -> tuple[int, int] | None:
    """Return the first and the last place of the longest row of True; None without one."""
    best: tuple[int, int] | None = None
    begun: int | None = None
    for place, fit in enumerate([*fits, False]):
        if fit and begun is None:
            begun = place
        elif not fit and begun is not None:
            if best is None or place - 1 - begun > best[1] - best[0]:
                best = (begun, place - 1)
            begun = None
    return best


def why_no_trial(name: str, spec: Spec, *, out_of_time: bool) -> str:
    """Return why an experiment has ended before any trial of it began, and what to do."""
    if out_of_time:
        hours = float(spec["max_hours"])
        return (
            f"its max_hours ({hours:g}) ended before a trial began: they are too short, or something held its trials"
            f" all the time; `supervisorctl extend {name} --trials 1 --hours {max(1.0, hours):g}` gives it more"
        )
    if spec.get("finish_asked"):
        return (
            "it was asked to finish before a trial of it began, so it has no value;"
            f" `supervisorctl extend {name} --trials 1` lets it search on"
        )
    return f"no trial was started: its driver ended before the first; `supervisorctl retry {name}` starts another"


def why_not_finish(state: ProcessState, spec: Spec, trials: Sequence[Trial]) -> str | None:
    """Return why an experiment cannot finish its search now; None when it can."""
    if state in ENDED:
        return f"it has ended ({state})"
    if spec.get("finish_asked"):
        return "it finishes already: its running trials stop at their next epoch"
    own = [trial for trial in trials if phase(trial["source"]) == 0]
    live = [trial for trial in own if trial["state"] not in TRIAL_ENDED]
    if not live and len(own) >= search_trials(spec):
        return "its search has ended already"
    if not live and all(trial["value"] is None for trial in own):
        return "no trial of it has a value yet, and none is at work"
    return None
