"""Moves one experiment through its states: its progress, the time it has left, its back-off and its ends."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from supervisor.clock import Clock
from supervisor.domain.command import Command
from supervisor.domain.finalists import known_to_the_search, phase, planned_trials, search_trials, set_aside_trials
from supervisor.domain.lifecycle import FAILED, ProcessState, TrialState
from supervisor.domain.search_time import why_no_trial
from supervisor.formatting import error_sentence
from supervisor.home import Home
from supervisor.plan import warm_start
from supervisor.preflight.concurrency import Choice
from supervisor.store import lookups, queries
from supervisor.store.run_writer import RunWriter
from supervisor.store.steering.retry_writer import seconds_left

BACKOFF_BASE_S, BACKOFF_CAP_S = 1.0, 60.0
MAX_HOURS_REACHED = "max_hours reached"


class ExperimentState:
    """Reads and moves one experiment of a run; starts no process and waits for nothing."""

    def __init__(self, name: str, writer: RunWriter, clock: Clock, home: Home) -> None:
        self.name, self._writer, self._clock = name, writer, clock
        self._store, self._run_id = writer.store, writer.run_id
        self.folder: Path = home.run_folder(writer.run_id) / name

    @property
    def spec(self) -> dict[str, Any]:
        """Return the spec as the events since the run's start have changed it."""
        return lookups.spec(self._store, self._run_id, self.name)

    @property
    def newest_event(self) -> int:
        """The number of the store's newest event."""
        return lookups.last_seq(self._store)

    def progress(self) -> int:
        """Return how many results, ends and retries of trials were recorded: a number that only grows."""
        return lookups.progress(self._store, self._run_id, self.name)

    @property
    def trials_wait(self) -> bool:
        """Return whether a trial waits to be started, as one does that is tried again."""
        waiting = lookups.unfinished_trials(self._store, self._run_id, self.name)
        return any(TrialState(row["state"]) is TrialState.PENDING for row in waiting)

    @property
    def in_last_trials(self) -> bool:
        """Return whether all trials that it has at most have been started: those that have not ended are its last."""
        # Asked at each start of a trial: no row of them is read, and they are counted only where the last has begun.
        highest, planned = lookups.highest_trial(self._store, self._run_id, self.name), self.planned
        if highest is None or highest + 1 < planned:
            return False
        return lookups.count_of_trials(self._store, self._run_id, self.name) >= planned and not self.trials_wait

    @property
    def planned(self) -> int:
        """The number of trials that it has at most: a person may add some."""
        return planned_trials(self.spec)

    @property
    def search_goes_on(self) -> bool:
        """Return whether its search has trials that no driver has begun."""
        trials = lookups.trials(self._store, self._run_id, self.name)
        return sum(phase(row["source"]) == 0 for row in trials) < search_trials(self.spec)

    @property
    def set_aside(self) -> int:
        """The number of trials of its finalisations that were set aside: it grows when it is to choose anew."""
        return set_aside_trials(self.spec)

    def seconds_left(self) -> float | None:
        """Return what is left of `max_hours` before a driver starts; None without such a limit."""
        return seconds_left(self._store, self._run_id, self.name, self.spec["max_hours"])

    def is_running(self) -> bool:
        """Return whether it runs: its driver has said hello, and nothing pauses it."""
        return ProcessState(lookups.experiment(self._store, self._run_id, self.name)["state"]) is ProcessState.RUNNING

    @property
    def has_begun(self) -> bool:
        """Return whether its driver has said hello: another may follow it at once."""
        return self._writer.experiment_state(self.name) in (ProcessState.RUNNING, ProcessState.PAUSED)

    def is_left_out(self) -> bool:
        """Return whether a person leaves it out; it may change at any time."""
        return bool(self.spec.get("left_out"))

    def trial_costs(self, after: int) -> tuple[list[dict[str, Any]], int]:
        """Return the trials that ended after event `after` with their epochs and seconds, and the newest event."""
        newest = self.newest_event
        return lookups.trial_costs(self._store, self._run_id, self.name, after), newest

    # Moves

    def _record(self, event: str, **fields: Any) -> None:
        self._writer.record(event, experiment=self.name, **fields)

    def warm(self) -> list[dict[str, Any]]:
        """Add the best points of the next smaller budget to those that the plan enqueues; return the added ones.

        Only before the first trial. They become part of the spec, so every driver gets the same points.
        """
        spec, trials_of = self.spec, queries.trials_of
        if spec.get("warm_start") is None or trials_of(self._store.connection, self._run_id, self.name):
            return []
        names = [row["name"] for row in lookups.experiments(self._store, self._run_id)]
        donor = warm_start.donor(spec, [lookups.spec(self._store, self._run_id, name) for name in names])
        if donor is None:
            return []
        tried = known_to_the_search(donor, trials_of(self._store.connection, self._run_id, donor["name"]))
        points = warm_start.points(spec, donor, tried)
        if points:
            self._record("experiment.warmed", donor=donor["name"], count=len(points), points=points)
        return points

    def choose_resources(self, choice: Choice) -> None:
        """Record how many trials run at once, and with how many cores: it becomes part of the spec."""
        self._record(
            "experiment.resources_chosen", trials=choice.share.trials, threads=choice.share.threads,
            most=choice.most, reason=choice.reason, figures=choice.figures(),
        )  # fmt: skip

    def start(self) -> None:
        """Move to STARTING: a driver is about to be spawned."""
        self._writer.move_experiment(self.name, ProcessState.STARTING)

    def started(self) -> None:
        """Move to RUNNING: the driver has said hello."""
        self._record("experiment.started", max_trials=self.spec["max_trials"])

    def skip(self, reason: str) -> None:
        """Move to SKIPPED: this machine cannot run it."""
        self._record("experiment.skipped", reason=reason)

    def leave_out(self) -> None:
        """Move to SKIPPED: a person leaves it out. Its trials wait, and go on if it is taken in again."""
        reason = f"left out by {self.spec['left_out']}"
        if self._writer.experiment_state(self.name) is not ProcessState.STOPPED:
            self.stop(reason)
        self.skip(reason)

    def begin_anew(self) -> None:
        """Put its live trials back in the queue: their driver was asked to end, and the next one follows at once."""
        self._writer.requeue_live_trials(self.name, "driver_begins_anew")

    def back_off(self, fruitless: int, reason: str) -> float:
        """Move to BACKOFF after a driver died; return the seconds to wait before the next driver.

        Exponential with full jitter and a cap (Brooker, "Exponential Backoff And Jitter", 2015).
        """
        wait_s = round(random.uniform(0.1, min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2**fruitless)), 2)
        self._writer.requeue_live_trials(self.name, "driver_died")
        self._record("driver.exited", reason=reason, retry_in_s=wait_s, log=str(self.folder / "driver.log"))
        return wait_s

    def blame(self, number: int, error: str) -> None:
        """Take the attempt from a live trial of which a driver died; end the trial if it was the second one."""
        self._writer.blame(self.name, number, error)

    def await_operator(self, stop: Command) -> None:
        """Move to PAUSED without a driver: the governor's STOP ended it, and only an operator goes on from there."""
        self._writer.requeue_live_trials(self.name, "stopped by the governor")
        self._record("driver.stopped", **_why(stop), reason=f"{stop.reason}; `supervisorctl resume --force` goes on")

    def end(self, error: str | None, *, out_of_time: bool = False) -> None:
        """Move to EXITED with the best trial; to FATAL with `error`, or when no trial left a value.

        `out_of_time` says whether its `max_hours` have ended its driver.
        """
        if error is not None:
            # Its trials wait: `start --retry` goes on with them.
            self.fail(error)
            return
        self._writer.end_unfinished_trials(self.name, MAX_HOURS_REACHED)
        trials = queries.trials_of(self._store.connection, self._run_id, self.name)
        best = queries.best_trial(trials, self.spec)
        if not trials:
            self.fail(why_no_trial(self.name, self.spec, out_of_time=out_of_time))
            return
        if best is None:
            first = next(str(trial["error"] or trial["end_reason"]) for trial in trials)
            self.fail(f"no trial of {len(trials)} left a value; the first: {error_sentence(first)}")
            return
        self._record(
            "experiment.finished", best=best["value"], best_trial=best["number"], trials=len(trials),
            failed=sum(trial["end_reason"] in FAILED for trial in trials), seconds=self._seconds,
        )  # fmt: skip

    def fail(self, error: str) -> None:
        """Move to FATAL; the reason is `error` as one line for people."""
        self._writer.requeue_live_trials(self.name, "experiment_failed")
        self._record("experiment.failed", reason=error_sentence(error), error=error, seconds=self._seconds)

    def stop(self, reason: str) -> None:
        """Move to STOPPED: the run is to stop before the experiment has ended."""
        self._writer.requeue_live_trials(self.name, "stopped")
        self._writer.move_experiment(self.name, ProcessState.STOPPING)
        self._record("experiment.stopped", reason=reason)

    @property
    def _seconds(self) -> float:
        now = self._clock.wall_s()
        started: float | None = lookups.experiment(self._store, self._run_id, self.name)["started_wall"]
        return 0.0 if started is None else max(0.0, round(now - started, 1))


def _why(command: Command) -> dict[str, Any]:
    return {"action": command.action.name, "origin": command.origin.value, "drill": command.drill}
