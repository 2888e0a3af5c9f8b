"""Notices an experiment that stands still although nothing pauses it, and that it goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from supervisor.clock import Clock
from supervisor.domain.command import Action
from supervisor.errors import DiskFull
from supervisor.store import lookups
from supervisor.store.run_writer import RunWriter

log = logging.getLogger("supervisor")

LOOK_PERIOD_S = 60.0
AT_LEAST_S = 1800.0
"""A shorter silence is none."""
EPOCHS = 5.0
"""The silence is too long when it lasts for so many of the experiment's longest epochs."""
WITHOUT_EPOCH_S = 6 * 3600.0
"""The longest silence before the experiment's first epoch, whose length is unknown."""


@dataclass(frozen=True)
class Progress:
    """Describes the work at one look: `seq` is the last event of progress, `held` says that a command restrains it."""

    experiment: str
    seq: int
    trials: int
    held: bool


def limit_s(longest_epoch_s: float | None) -> float:
    """Return the silence that is too long."""
    return WITHOUT_EPOCH_S if longest_epoch_s is None else max(AT_LEAST_S, EPOCHS * longest_epoch_s)


class StallWatch:
    """Looks at the progress of the experiment at work."""

    def __init__(
        self, writer: RunWriter, clock: Clock, experiment: Callable[[], str | None], action: Callable[[], Action]
    ) -> None:
        """`experiment` returns the one at work, `action` that of the command in force."""
        self._writer, self._clock, self._experiment, self._action = writer, clock, experiment, action
        self._last: Progress | None = None
        self._since_s = 0.0
        self._said: str | None = None
        """The experiment of which it was said that it stands still."""

    async def run(self) -> None:
        """Look for ever. Raises DiskFailed."""
        while True:
            await self._clock.sleep(LOOK_PERIOD_S)
            try:
                self.look()
            except DiskFull as error:
                log.warning("an experiment that stands still cannot be recorded: %s", error)

    def look(self) -> None:
        """Look once; record an event when an experiment has stood still for too long, and when it goes on."""
        now_s, progress = self._clock.mono_s(), self._progress()
        if progress is None or progress.held or progress != self._last:
            self._begin(progress, now_s)
            return
        silent_s = now_s - self._since_s
        if self._said is not None or silent_s < AT_LEAST_S:
            return
        longest = lookups.longest_epoch_s(self._writer.store, self._writer.run_id, progress.experiment)
        limit = limit_s(longest)
        if silent_s >= limit:
            self._writer.record(
                "experiment.stalled", experiment=progress.experiment, silent_s=round(silent_s), limit_s=round(limit)
            )
            self._said = progress.experiment

    def _begin(self, progress: Progress | None, now_s: float) -> None:
        """Measure from now on; if it was said that the experiment stands still, say that it goes on."""
        silent_s, said = now_s - self._since_s, self._said
        moved = progress is not None and self._last is not None and progress.seq > self._last.seq
        self._last, self._since_s = progress, now_s
        if said is None or not (moved or progress is None or progress.experiment != said):
            return
        self._said = None
        if moved:
            self._writer.record("experiment.stall_ended", experiment=said, silent_s=round(silent_s))

    def _progress(self) -> Progress | None:
        """Return how far the experiment at work is; None while none is or none of its trials runs."""
        name = self._experiment()
        if name is None:
            return None
        store, run_id = self._writer.store, self._writer.run_id
        trials = len(lookups.unfinished_trials(store, run_id, name))
        if trials == 0:
            return None
        return Progress(name, lookups.last_progress(store, run_id), trials, self._action() is not Action.RUN)
