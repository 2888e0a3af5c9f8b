"""Knows what ends before its last trial or epoch: the search, by its hours or a person, and trials, by a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actors.driver.process_local import PerProcess
from actors.driver.trial_registry import Entry, finite_or_none
from actors.trial.result_keys import END, LEFT
from supervisor.domain.lifecycle import FINISH, HOURS
from supervisor.domain.search_time import SearchTime


class SearchEnd(PerProcess):
    """Written by the thread of the daemon's link, read by Tune's."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = False
        """True: a person ends the search."""
        self.time: SearchTime | None = None
        """The time left, as the daemon last said; None without hours."""
        self.ending: frozenset[int] = frozenset()
        """The trials that a person ends, each at its next report."""

    def take(self, spec: Mapping[str, Any]) -> None:
        """Take what a person asked of the experiment, from its spec."""
        self.asked = bool(spec.get("finish_asked"))
        self.ending = frozenset(map(int, spec.get("ending") or ()))

    def before_another(self) -> str | None:
        """Return why the search gives no further trial; None while one more fits."""
        if self.asked:
            return FINISH
        return HOURS if self.time is not None and not self.time.fits_another else None

    def now(self, extension: Mapping[str, Any] | None = None) -> bool:
        """Return whether its running trials end, too, each at its next epoch with the best value that it has.

        One with an `extension` goes on where a person had asked for the end of its search before it.
        """
        asked = self.asked and not (extension is not None and extension["finishing"])
        return asked or (self.time is not None and self.time.is_over)

    def ends(self, entry: Entry, result: Mapping[str, Any], metric: str) -> bool:
        """Return whether this result is the last one of its trial: a person ends it, or the search ends now.

        With the search a trial ends only once it has a value to keep.
        """
        if entry.final or LEFT in result or END in result:
            return False
        if entry.number in self.ending:
            return True
        if not self.now(entry.extension):
            return False
        return entry.best is not None or finite_or_none(result.get(metric)) is not None
