"""The driver's own list of trials: number, attempt, results and end of each Tune trial.

Search, scheduler and recorder each see a part of a trial's life through Tune's callbacks; they share it here.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from actors.driver.failure_check import FailureCheck
from actors.driver.metric_check import MetricCheck, Seen
from actors.driver.process_local import PerProcess
from actors.trial.memory_retry import ALONE, Memory, Offer
from actors.trial.result_keys import (
    CHECKPOINT,
    END,
    ERROR,
    MAX_ERROR_CHARACTERS,
    OUT_OF_MEMORY,
    SMALLER,
    STEP,
)
from actors.trial.worker_exit import DEATHS
from supervisor.domain.checkpoint_name import checkpoint_step
from supervisor.domain.lifecycle import SUCCEEDED, TRIAL_ENDED, EndReason

NOT_FINITE_IN_A_ROW = 3
"""A trial ends once so many of its numbers in a row are not finite: weights that are NaN stay NaN."""


@dataclass
class Entry:
    """One trial that is not over.

    `sent_steps` are the steps that the study has, `judged_step` is the last one that the pruner has. `best` is the best
    finite value so far. `diverged` says that the last number was not finite: of this driver's results, because the
    store keeps NaN and a missing value alike as None. `not_finite` are the steps of such numbers since the last finite.
    `held` says that the daemon has it as PAUSED, `drilled` that a drill was the cause; `reported` that the scheduler
    holds it at the end of a step. `deaths` counts its workers that died under earlier drivers. A `final` trial follows
    the search: sampler and pruner do not see it. `cut` says that it ends with its search or by a person, `asked` that
    it was a person, `anew` that no attempt of it counts yet: it was never tried, or is retried. `extension` is what a
    person asked of a trial that had ended (domain.trials.extension), None of any other.

    `memory` are settings with which its attempts take less memory, `offer` those for the next one; `ran_out` is the
    error of an attempt that left its work because memory ran out (memory_retry).
    """

    number: int
    params: dict[str, Any]
    attempt: int
    results: list[tuple[int, float | None]] = field(default_factory=list)
    checkpoint: str | None = None
    best: float | None = None
    diverged: bool = False
    not_finite: set[int] = field(default_factory=set)
    seen: Seen = field(default_factory=Seen)
    pruned: bool = False
    cut: bool = False
    asked: bool = False
    running: bool = False
    held: bool = False
    drilled: bool = False
    reported: bool = False
    node: str = ""
    sent_steps: set[int] = field(default_factory=set)
    judged_step: int = 0
    anew: bool = True
    final: bool = False
    deaths: int = 0
    memory: Memory | None = None
    offer: Offer | None = None
    ran_out: str | None = None
    extension: Mapping[str, Any] | None = None

    @property
    def apart(self) -> bool:
        """Return whether sampler and pruner do not see it: it follows the search, or trains on after its end."""
        return self.final or self.extension is not None

    @property
    def alone(self) -> bool:
        """Return whether it must have the machine to itself."""
        return self.memory is not None and bool(self.memory.get(ALONE))

    @property
    def is_saved(self) -> bool:
        """Return whether its checkpoint is of its last epoch: nothing is lost when it leaves its worker."""
        return self.checkpoint is not None and (not self.results or self.resumed_step == self.results[-1][0])

    @property
    def resumed_step(self) -> int | None:
        """Return the step of its checkpoint, by the file's name; None when it starts from scratch."""
        return checkpoint_step(self.checkpoint) if self.checkpoint else None

    @property
    def reported_step(self) -> int | None:
        """Return the last step that was reported; None for a trial that begins anew, whatever its folder holds."""
        return None if self.anew else max((step for step, _ in self.results), default=0)

    def own_settings(self, spent: str | None = None) -> dict[str, Any]:
        """Return its attempt's part of a config's OWN_KEY; `spent` is its error when nothing smaller can be tried."""
        longer = {} if self.extension is None else {"extended": True, "last_step": self.extension["last_step"]}
        return {
            "number": self.number, "attempt": self.attempt, "checkpoint": self.checkpoint,
            "reported": self.reported_step, "memory": self.memory, "spent": spent, "final": self.final,
            **longer,
        }  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """The end of a trial. `value` is its best finite value, None unless it succeeded."""

    end_reason: EndReason
    value: float | None
    error: str | None

    @property
    def succeeded(self) -> bool:
        return self.end_reason in SUCCEEDED


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def finite_or_none(value: Any) -> float | None:
    """Return a real number as a float; None for anything else, booleans and NaN included."""
    return float(value) if _is_number(value) and math.isfinite(value) else None


def ended(trial: Mapping[str, Any]) -> bool:
    """Return whether one of the trials of a Begin is over."""
    return trial["state"] in TRIAL_ENDED


class TrialRegistry(PerProcess):
    """All trials of one experiment, by number and by Tune's id. Every method may be called from any thread."""

    def __init__(
        self,
        metric: str,
        mode: str,
        trials: Iterable[Mapping[str, Any]],
        check: MetricCheck | None = None,
        failures: FailureCheck | None = None,
    ) -> None:
        super().__init__()
        self.metric, self.mode = metric, mode
        self.check = check or MetricCheck(metric, enough=1, at_end=True)
        self.failures = failures or FailureCheck(1, works=True)
        self.lock = threading.RLock()
        self.at_work: int | None = None
        """The trial of which Tune's thread handles something now: if the driver fails of it, the daemon is told."""
        self._by_id: dict[str, Entry] = {}
        self._unfinished = {int(trial["number"]): trial for trial in trials if not ended(trial)}
        self._alone_ahead = {
            number for number, trial in self._unfinished.items() if (trial.get("memory") or {}).get(ALONE)
        }

    def open(
        self,
        trial_id: str,
        number: int,
        params: dict[str, Any],
        *,
        final: bool = False,
        extension: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Add a trial that Tune will run: a new one, or one that an earlier driver left unfinished."""
        earlier = self._unfinished.get(number)
        attempt = 1 if earlier is None else int(earlier["attempt"]) + 1
        entry = Entry(number, params, attempt=attempt, final=final, extension=extension)
        if earlier is not None:
            entry.checkpoint, entry.memory = earlier["checkpoint"], earlier.get("memory")
            entry.anew = not (earlier["results"] or earlier["checkpoint"] or earlier.get("lost"))
            entry.deaths = sum(cause in DEATHS for cause in earlier.get("lost", ()))
            for step, value in earlier["results"]:
                self._note(entry, int(step), value)
        with self.lock:
            self._by_id[trial_id] = entry
            self._alone_ahead.discard(number)
        return entry

    def known(self, number: int) -> bool:
        """Return whether the daemon has this number already."""
        return number in self._unfinished

    @property
    def problem(self) -> str | None:
        """The reason to end the search before its last trial; None while there is none."""
        return self.check.problem or self.failures.problem

    def look_at_end(self, entry: Entry, reason: EndReason, error: str | None) -> None:
        """Look for an error that all trials have, at the end of one; those after the search say nothing about it."""
        if not entry.apart:
            with self.lock:
                self.failures.look(entry.number, reason, error, again=self.known(entry.number))

    def has_begun(self, number: int) -> bool:
        """Return whether an attempt of this number began under an earlier driver."""
        earlier = self._unfinished.get(number)
        return earlier is not None and int(earlier["attempt"]) > 0

    def entry(self, trial_id: str) -> Entry:
        with self.lock:
            return self._by_id[trial_id]

    def count(self) -> int:
        """Return how many trials are not over, paused ones included."""
        with self.lock:
            return len(self._by_id)

    def running(self) -> list[Entry]:
        with self.lock:
            return [entry for entry in self._by_id.values() if entry.running]

    def alone(self) -> list[Entry]:
        """Return the trials that must have the machine to themselves, now or later."""
        with self.lock:
            return [entry for entry in self._by_id.values() if entry.alone]

    def in_the_way(self) -> list[Entry]:
        """Return the trials beside which no other may be opened: those that must be alone.

        While such a trial of an earlier driver is not open yet, these are all.
        """
        with self.lock:
            return list(self._by_id.values()) if self._alone_ahead else self.alone()

    def close(self, trial_id: str) -> None:
        """Forget a trial that is over: the memory of a long search must not grow."""
        with self.lock:
            self._by_id.pop(trial_id, None)

    def look(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Look for the metric in a result; return whether its trial must end. A second look changes nothing.

        It ends without a metric, and after NOT_FINITE_IN_A_ROW numbers that are not finite.
        """
        with self.lock:
            entry = self._by_id[trial_id]
            if END in result:
                return False
            entry.seen.add(self.metric, result)
            value = result.get(self.metric)
            if finite_or_none(value) is not None:
                entry.not_finite.clear()
            elif _is_number(value):
                entry.not_finite.add(int(result.get(STEP, 0)))
            lost = len(entry.not_finite) >= NOT_FINITE_IN_A_ROW and not self.check.at_end
            return self.check.look(entry.number, entry.seen) or lost

    def note(self, trial_id: str, result: Mapping[str, Any]) -> tuple[Entry, int, float | None]:
        """Add a result to its trial; return trial, step and value."""
        with self.lock:
            entry = self._by_id[trial_id]
            step, value = int(result.get(STEP, 0)), finite_or_none(result.get(self.metric))
            self.look(trial_id, result)
            self._note(entry, step, value)
            if _is_number(result.get(self.metric)):
                entry.diverged = value is None
            entry.checkpoint = result.get(CHECKPOINT) or entry.checkpoint
        return entry, step, value

    def resume(self, trial_id: str, step: int | None) -> Entry:
        """Note that an attempt begins after `step`: what was reported beyond it runs again, and is reported again.

        A trial's value must be of weights that it has.
        """
        with self.lock:
            entry = self._by_id[trial_id]
            kept = [(at, value) for at, value in entry.results if at <= (step or 0)]
            if len(kept) < len(entry.results):
                entry.results, entry.best = [], None
                for at, value in kept:
                    self._note(entry, at, value)
            return entry

    def note_left(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Take the answer of a trial that left its work."""
        with self.lock:
            entry = self._by_id[trial_id]
            entry.ran_out = result.get(OUT_OF_MEMORY)
            entry.checkpoint = result.get(CHECKPOINT) or entry.checkpoint
            if SMALLER in result:
                entry.offer = Offer(result[SMALLER])

    def _note(self, entry: Entry, step: int, value: float | None) -> None:
        entry.results.append((step, value))
        if value is not None:
            better = min if self.mode == "min" else max
            entry.best = value if entry.best is None else better(entry.best, value)

    def verdict(self, trial_id: str, result: Mapping[str, Any]) -> Verdict:
        """Return the end of a trial that Tune calls complete, from its last result."""
        entry = self.entry(trial_id)
        if END in result:
            reason = EndReason(result[END])
            text = result.get(ERROR)
            value = self._value(entry) if reason in SUCCEEDED else None
            return Verdict(reason, value, text and text[-MAX_ERROR_CHARACTERS:])
        if entry.asked and entry.best is None:
            return Verdict(EndReason.OPERATOR, None, "a person ended it before it had a value")
        if entry.best is None and not entry.results:
            return Verdict(EndReason.ERROR, None, f"it ended without reporting {self.metric!r}")
        if entry.diverged:
            return Verdict(EndReason.DIVERGED, None, f"its last {self.metric!r} is not a finite number")
        if entry.best is None:
            self.check.look(entry.number, entry.seen, ended=True)
            return Verdict(EndReason.ERROR, None, entry.seen.problem(self.metric))
        ends = ((entry.pruned, EndReason.PRUNED), (entry.cut, EndReason.EARLY_STOPPED), (True, EndReason.FINISHED))
        return Verdict(next(reason for holds, reason in ends if holds), self._value(entry), None)

    def _value(self, entry: Entry) -> float | None:
        """Return the value of a trial that has succeeded: its best one; one before its extension counts, too."""
        before = None if entry.extension is None else entry.extension["value"]
        known = [value for value in (entry.best, before) if value is not None]
        return (min if self.mode == "min" else max)(known, default=None)
