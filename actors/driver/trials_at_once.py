"""Knows how many trials of the search run at once; a number that the machine chose moves with the throughput."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from actors.driver.process_local import PerProcess
from actors.trial.result_keys import RECORD
from supervisor.domain.concurrency_walk import ConcurrencyWalk
from supervisor.domain.finalists import search_trials
from supervisor.domain.messages import ConcurrencyMoved

PARAMETERS = f"{RECORD}/param_count"
"""Its key in a result as Tune gives it to a searcher: nested dicts are flattened."""
PARTS = 10
"""The number moves after each tenth of the search."""


class TrialsAtOnce(PerProcess):
    """Measures the work a second of an experiment with `spec`; `held` says that a command holds work back now.

    Called from Tune's thread.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        send: Callable[[ConcurrencyMoved], object],
        held: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        at = int(spec["concurrency"])
        free = bool(spec.get("auto_concurrency")) and spec.get("chosen") is not None
        self._walk = ConcurrencyWalk(at, max(at, int(spec.get("most_at_once") or at)) if free else at)
        self._moves = free and self._walk.most > 1
        self._most = self._walk.most
        self._send, self._held, self._clock = send, held, clock
        self._part = math.ceil(search_trials(spec) / PARTS)
        self._settles = False
        """The number has just moved: until the next trial ends, the trials at work are those of before."""
        self._restart()

    @property
    def now(self) -> int:
        """Return how many trials may run at once."""
        return self._walk.at

    @property
    def most(self) -> int:
        """Return the largest number that `now` can get, or had: trials that have begun go on."""
        return self._most

    def take(self, spec: Mapping[str, Any]) -> None:
        """Take the number that a person has set in the spec of the experiment; it does not move any more then."""
        self._part = math.ceil(search_trials(spec) / PARTS)
        if not spec.get("auto_concurrency"):
            at = int(spec["concurrency"])
            self._walk, self._moves, self._most = ConcurrencyWalk(at, at), False, max(self._most, at)

    def _restart(self) -> None:
        self._ended, self._work, self._since_s = 0, 0.0, self._clock()

    def worked(self, result: Mapping[str, Any]) -> None:
        """Count the work of one epoch; a part in which a command held work back begins anew."""
        if self._moves:
            self._work += work_of(result)
            if self._held():
                self._restart()

    def ended(self) -> None:
        """Count the end of a trial of the search; after a tenth of them, move and tell the daemon."""
        if not self._moves:
            return
        if self._settles:
            self._settles = False
            self._restart()
            return
        self._ended += 1
        seconds = self._clock() - self._since_s
        if self._ended < self._part or seconds <= 0.0 or self._work <= 0.0:
            return
        before, self._walk = self._walk.at, self._walk.after(self._work / seconds)
        self._restart()
        if self._walk.at != before:
            self._settles = True
            self._send(ConcurrencyMoved(self._walk.at, before, self._walk.reason()))


def work_of(result: Mapping[str, Any]) -> float:
    """Return the parameters of the built-in trainable's model times the windows of an epoch; 0.0 for other results.

    Steps of a user's own trainable cannot be compared with one another.
    """
    return float(result.get(PARAMETERS) or 0) * float(result.get("samples") or 0)
