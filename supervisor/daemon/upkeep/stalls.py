"""Notices an experiment that stands still although nothing pauses it, and that it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from supervisor.clock import Clock
from supervisor.daemon.upkeep.background import keep_looking
from supervisor.domain.command import Action, Command
from supervisor.domain.lifecycle import ProcessState
from supervisor.store import lookups
from supervisor.store.run_writer import RunWriter

LOOK_PERIOD_S = 60.0
AT_LEAST_S = 1800.0
"""A shorter silence is none."""
EPOCHS = 5.0
"""The silence is too long when it lasts for so many of the experiment's longest epochs."""
WITHOUT_EPOCH_S = 6 * 3600.0
"""The longest silence before the experiment's first epoch, whose length is unknown."""


@dataclass(frozen=True)
class Progress:
    """Describes the work at one look: `seq` is the last event of progress, `held` says that a command stops it."""

    experiment: str
    seq: int
    trials: int
    held: bool


@dataclass(frozen=True)
class Stall:
    """Describes a stall that was recorded: progress after event `seq` ends it, and it began at the monotonic time."""

    experiment: str
    seq: int
    since_s: float


def limit_s(longest_epoch_s: float | None, throttle_share: float = 0.0) -> float:
    """Return the silence that is too long while trials rest for `throttle_share` of the time."""
    limit = WITHOUT_EPOCH_S if longest_epoch_s is None else max(AT_LEAST_S, EPOCHS * longest_epoch_s)
    return limit / (1.0 - throttle_share)


class StallWatch:
    """Looks at the progress of the experiment at work."""

    def __init__(
        self, writer: RunWriter, clock: Clock, experiment: Callable[[], str | None], command: Callable[[], Command]
    ) -> None:
        """`experiment` returns the one at work, `command` the one in force."""
        self._writer, self._clock, self._experiment, self._command = writer, clock, experiment, command
        self._last: Progress | None = None
        self._since_s = 0.0
        self._stall = self._stall_before()

    async def run(self) -> None:
        """Look for ever. Raises DiskFailed."""
        await keep_looking(self.look, self._clock, LOOK_PERIOD_S, "an experiment that stands still cannot be recorded")

    def look(self) -> None:
        """Look once; record an event when an experiment has stood still for too long, and when it goes on."""
        now_s, progress = self._clock.mono_s(), self._progress()
        self._end_stall(progress, now_s)
        if progress is None or progress.held or progress != self._last:
            self._last, self._since_s = progress, now_s
            return
        silent_s = now_s - self._since_s
        if self._stall is not None or silent_s < AT_LEAST_S:
            return
        longest = lookups.longest_epoch_s(self._writer.store, self._writer.run_id, progress.experiment)
        limit = limit_s(longest, self._command().throttle_share)
        if silent_s >= limit:
            self._writer.record(
                "experiment.stalled", experiment=progress.experiment, silent_s=round(silent_s), limit_s=round(limit)
            )
            self._stall = Stall(progress.experiment, progress.seq, self._since_s)

    def _end_stall(self, progress: Progress | None, now_s: float) -> None:
        """Forget the stall when another experiment is at work; record its end when there is progress."""
        stall = self._stall
        if stall is None or progress is None:
            return
        if progress.experiment == stall.experiment:
            if progress.seq <= stall.seq:
                return
            silent_s = round(now_s - stall.since_s)
            self._writer.record("experiment.stall_ended", experiment=stall.experiment, silent_s=silent_s)
        self._stall = None

    def _stall_before(self) -> Stall | None:
        """Return the stall that an earlier daemon recorded, without an end yet: its end must be told, too."""
        names = ("experiment.stalled", "experiment.stall_ended")
        newest = lookups.newest_events(self._writer.store, names, 1, run=self._writer.run_id)
        if not newest or newest[0].name != names[0]:
            return None
        event = newest[0]
        silent_s = event.fields["silent_s"] + max(0.0, self._clock.wall_s() - event.wall_s)
        return Stall(str(event.experiment), event.seq, self._clock.mono_s() - silent_s)

    def _progress(self) -> Progress | None:
        """Return how far the experiment at work is; None while none is or it has no trial that may run."""
        name = self._experiment()
        if name is None:
            return None
        store, run_id = self._writer.store, self._writer.run_id
        one_by_one = {command.trial for command in self._writer.commands()}
        trials = [
            row for row in lookups.unfinished_trials(store, run_id, name) if (name, row["number"]) not in one_by_one
        ]
        if not trials:
            return None
        # Under a governor's SHED and THROTTLE, where a hot machine may stay for days, trials go on.
        paused = lookups.experiment(store, run_id, name)["state"] == ProcessState.PAUSED
        held = paused or self._command().action in (Action.HOLD, Action.PAUSE, Action.STOP)
        return Progress(name, lookups.last_progress(store, run_id), len(trials), held)
