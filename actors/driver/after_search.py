"""Counts the trials of a search, and chooses those that follow it; `domain.finalists` has the rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actors.driver.process_local import PerProcess
from actors.driver.trial_registry import Entry, Verdict, ended
from supervisor.domain.finalists import after_search, is_final, search_trials, trials_in_all
from supervisor.domain.lifecycle import ALL, EndReason, TrialState
from supervisor.domain.messages import SearchEnded
from supervisor.domain.search_stop import why_stop
from supervisor.domain.search_time import SearchTime
from supervisor.domain.spec_changes import with_search_ended
from supervisor.domain.trials.extension import end_before


class AfterSearch(PerProcess):
    """Chooses the trials that follow the search: finalisation, then walk-forward; `domain.finalists` has the rule.

    `trials` are the daemon's; later ends are noted here. Called from Tune's thread only.
    """

    def __init__(self, spec: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self._spec = spec
        self._trials: dict[int, Mapping[str, Any]] = {int(trial["number"]): trial for trial in trials if ended(trial)}
        own = [number for number in self._trials if not is_final(spec, number)]
        self._search_left = search_trials(spec) - len(own)
        self._given = {int(trial["number"]): trial for trial in trials if is_final(spec, int(trial["number"]))}
        self._taken = {number for number in self._trials if is_final(spec, number)}
        self._begun = sum(not is_final(spec, int(trial["number"])) for trial in trials)
        self._forget_answers()

    def _forget_answers(self) -> None:
        """Answer anew from now on: a trial has ended or begun, or the spec has changed.

        Tune's loop asks many times a second, and each answer looks at all trials.
        """
        self._in_all: int | None = None
        self._following: dict[int, tuple[str, dict[str, Any]]] | None = None
        self._stop: tuple[str | None] | None = None

    @property
    def begun(self) -> int:
        """The number of search trials that have begun: the next one has this number."""
        return self._begun

    def search_gave(self, number: int) -> None:
        """Note that the search has given trial `number` to Tune."""
        self._search_left -= 1
        self._begun = max(self._begun, number + 1)

    def end_search(self, reason: str, time: SearchTime | None) -> SearchEnded:
        """End the search after the trials that it has; return what to tell the daemon."""
        top, seeds = (None, None) if time is None else (time.top, time.seeds)
        self._search_left -= search_trials(self._spec) - self._begun
        self._spec = with_search_ended(self._spec, reason, self._begun, top, seeds)
        self._forget_answers()
        return SearchEnded(reason, self._begun, top, seeds)

    def take_spec(self, spec: Mapping[str, Any]) -> bool:
        """Take a spec that a person has changed; return False when its number of trials cannot hold here any more."""
        self._forget_answers()
        self._spec = {**self._spec, "stop": spec.get("stop")}
        sizes = ("max_trials", "finalize")
        if all(spec.get(key) == self._spec.get(key) for key in sizes) or self._spec.get("searched") is not None:
            return True
        wanted = search_trials(spec)
        if self._given or self._begun > wanted:
            # Said before the daemon had heard of the trials that have begun since.
            return False
        self._search_left += wanted - search_trials(self._spec)
        self._spec = {**self._spec, **{key: spec.get(key) for key in sizes}}
        return True

    def search_is_given(self) -> bool:
        """Return whether the search has given all its trials; without finalisation Tune's count ends it before."""
        return self._search_left <= 0

    def may_grow(self) -> bool:
        """Return whether a person may still add trials to the search."""
        return not self._given and self._spec.get("searched") is None

    def why_end(self, reason: str | None, time: SearchTime | None) -> str | None:
        """Return why the search ends now, to be recorded; None when it goes on, or ends as the spec says.

        Its first trial always fits, so that there is an answer. After its last one, the finalisation may be too long.
        """
        if 0 < self._begun < search_trials(self._spec):
            return reason
        finalize = self._spec.get("finalize")
        if time is None or finalize is None or not self.search_is_given() or self._spec.get("searched") is not None:
            return None
        if self._given:
            # Its numbers are those of the finalisation that has begun.
            return None
        return None if (time.top, time.seeds) == (finalize["top"], finalize["seeds"]) else ALL

    def why_stop(self) -> str | None:
        """Return why the search stops by its plan; None while it goes on."""
        if self._stop is None:
            self._stop = (why_stop(self._spec, self._trials.values()),)
        return self._stop[0]

    def waits(self) -> bool:
        """Return whether more trials follow once a running one has ended."""
        if self._in_all is None:
            self._in_all = trials_in_all(self._spec, list(self._trials.values()))
        return len(self._taken) < self._in_all - search_trials(self._spec)

    def note(self, entry: Entry, verdict: Verdict | None) -> None:
        """Note the end of a trial; `verdict` is None if its worker or Tune failed.

        A trial whose extension failed keeps the end that it had.
        """
        self._forget_answers()
        succeeded = verdict is not None and verdict.succeeded
        if entry.extension is not None and not succeeded:
            kept = end_before(entry.extension)
            self._trials[entry.number] = {"number": entry.number, "params": entry.params, **kept}
            return
        self._trials[entry.number] = {
            "number": entry.number,
            "state": TrialState.TERMINATED if succeeded else TrialState.ERROR,
            "end_reason": EndReason.ERROR if verdict is None else verdict.end_reason,
            "params": entry.params,
            "value": verdict.value if verdict is not None and succeeded else None,
        }

    def note_duplicate(self, number: int, of: int) -> None:
        """Note that trial `number` has the end of trial `of`."""
        self._trials[number] = {**self._trials[of], "number": number}

    def take(self) -> tuple[int, str, dict[str, Any]] | None:
        """Return number, source and params of the next trial; None when all that are known are given."""
        # By number, so that those that have begun have no gap: they may be set aside, and keep their numbers.
        if self._following is None:
            self._following = dict(sorted(after_search(self._spec, self._known()).items()))
        for number, (source, params) in self._following.items():
            if number not in self._taken:
                self._forget_answers()
                self._taken.add(number)
                unended = {"state": TrialState.PENDING, "end_reason": None, "value": None}
                self._given[number] = {"number": number, "params": params, **unended}
                return number, source, params
        return None

    def _known(self) -> list[Mapping[str, Any]]:
        """Return the trials that have ended, and those after the search that have begun: they keep their numbers."""
        return list({**self._given, **self._trials}.values())
