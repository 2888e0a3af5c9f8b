"""Which trials follow the search in this driver: the finalisation, chosen once the search has wholly ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actors.driver.process_local import PerProcess
from actors.driver.trial_registry import Entry, Verdict, ended
from supervisor.domain.finalists import finalists, is_final, search_trials
from supervisor.domain.lifecycle import EndReason, TrialState


class Finalisation(PerProcess):
    """Keeps what `domain.finalists` decides on: how each trial of the experiment stands, the daemon's and our own.

    Called from Tune's thread only.
    """

    def __init__(self, spec: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self._spec = spec
        self._trials: dict[int, Mapping[str, Any]] = {int(trial["number"]): trial for trial in trials if ended(trial)}
        own = [number for number in self._trials if not is_final(spec, number)]
        self._search_left = search_trials(spec) - len(own)
        self._taken = {number for number in self._trials if is_final(spec, number)}

    def search_gave(self) -> None:
        """The search has given one more of its trials to Tune."""
        self._search_left -= 1

    def search_is_given(self) -> bool:
        """Whether the search has given all its trials; without finalisation Tune's own count ends it before."""
        return self._search_left <= 0

    def search_goes_on(self) -> bool:
        """Whether a trial of the search has not ended."""
        return sum(not is_final(self._spec, number) for number in self._trials) < search_trials(self._spec)

    def note(self, entry: Entry, verdict: Verdict | None) -> None:
        """A trial has ended; `verdict` None: by an error of its worker or of Tune's."""
        succeeded = verdict is not None and verdict.succeeded
        self._trials[entry.number] = {
            "number": entry.number,
            "state": TrialState.TERMINATED if succeeded else TrialState.ERROR,
            "end_reason": EndReason.ERROR if verdict is None else verdict.end_reason,
            "params": entry.params,
            "value": verdict.value if verdict is not None and succeeded else None,
        }

    def take(self) -> tuple[int, dict[str, Any]] | None:
        """Number and params of the next trial; None when none is left."""
        for finalist in finalists(self._spec, list(self._trials.values())):
            for number, params in finalist.trials().items():
                if number not in self._taken:
                    self._taken.add(number)
                    return number, params
        return None
