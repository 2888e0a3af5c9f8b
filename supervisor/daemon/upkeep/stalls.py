"""Notices an experiment that stands still although nothing pauses it, and that it goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
MAX_EVENTS = 32
"""Stalls and their ends that are looked through for those that have not ended."""


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
    """Looks at the progress of the experiments at work."""

    def __init__(
        self, writer: RunWriter, clock: Clock, experiments: Callable[[], Sequence[str]], command: Callable[[], Command]
    ) -> None:
        """`experiments` returns those at work, `command` the one in force."""
        self._writer, self._clock, self._experiments, self._command = writer, clock, experiments, command
        self._last: dict[str, tuple[Progress, float]] = {}
        """The progress of each experiment at work, and since when it is as it is."""
        self._stalls = self._stalls_before()

    async def run(self) -> None:
        """Look for ever. Raises DiskFailed."""
        await keep_looking(self.look, self._clock, LOOK_PERIOD_S, "an experiment that stands still cannot be recorded")

    def look(self) -> None:
        """Look once; record an event when an experiment has stood still for too long, and when it goes on."""
        now_s = self._clock.mono_s()
        found = {name: progress for name in self._experiments() if (progress := self._progress(name)) is not None}
        self._end_stalls(found, now_s)
        last, self._last = self._last, {}
        for name, progress in found.items():
            before, since_s = last.get(name, (None, now_s))
            moves = progress.held or progress != before
            self._last[name] = progress, now_s if moves else since_s
            if not moves and name not in self._stalls:
                self._judge(progress, since_s, now_s - since_s)

    def _judge(self, progress: Progress, since_s: float, silent_s: float) -> None:
        """Record a stall when the silence is too long."""
        if silent_s < AT_LEAST_S:
            return
        longest = lookups.longest_epoch_s(self._writer.store, self._writer.run_id, progress.experiment)
        limit = limit_s(longest, self._command().throttle_share)
        if silent_s >= limit:
            self._writer.record(
                "experiment.stalled", experiment=progress.experiment, silent_s=round(silent_s), limit_s=round(limit)
            )
            self._stalls[progress.experiment] = Stall(progress.experiment, progress.seq, since_s)

    def _end_stalls(self, found: Mapping[str, Progress], now_s: float) -> None:
        """Forget the stalls of experiments after which others are at work; record their ends when there is progress."""
        for stall in list(self._stalls.values()) if found else []:
            progress = found.get(stall.experiment)
            if progress is not None and progress.seq <= stall.seq:
                continue
            if progress is not None:
                silent_s = round(now_s - stall.since_s)
                self._writer.record("experiment.stall_ended", experiment=stall.experiment, silent_s=silent_s)
            del self._stalls[stall.experiment]

    def _stalls_before(self) -> dict[str, Stall]:
        """Return the stalls that an earlier daemon recorded, without an end yet: their ends must be told, too."""
        names = ("experiment.stalled", "experiment.stall_ended")
        events = lookups.newest_events(self._writer.store, names, MAX_EVENTS, run=self._writer.run_id)
        newest = {str(event.experiment): event for event in events}
        now_s, now_wall = self._clock.mono_s(), self._clock.wall_s()
        return {
            name: Stall(name, event.seq, now_s - event.fields["silent_s"] - max(0.0, now_wall - event.wall_s))
            for name, event in newest.items()
            if event.name == names[0]
        }

    def _progress(self, name: str) -> Progress | None:
        """Return how far an experiment at work is; None while it has no trial that may run."""
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
        return Progress(name, lookups.last_progress(store, run_id, name), len(trials), held)
