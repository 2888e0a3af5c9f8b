"""One experiment's course as the store tells it: its progress, the time it has left, its back-off and its ends."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from supervisor.clock import Clock
from supervisor.domain.lifecycle import ProcessState
from supervisor.domain.time_accounting import STOPPED_BY_GOVERNOR, driven_seconds
from supervisor.home import Home
from supervisor.store import queries
from supervisor.store.run_writer import RunWriter

BACKOFF_BASE_S, BACKOFF_CAP_S = 1.0, 60.0
MAX_HOURS_REACHED = "max_hours reached"


class ExperimentState:
    """Reads and moves one experiment of the ledger's run; starts nothing and waits for nothing."""

    def __init__(self, name: str, ledger: RunWriter, clock: Clock, home: Home) -> None:
        self.name, self._ledger, self._clock = name, ledger, clock
        self.folder: Path = home.run_folder(ledger.run_id) / name
        self.spec = self._spec()

    def _spec(self) -> dict[str, Any]:
        row = self._ledger.store.row(
            "SELECT spec FROM experiment WHERE run = ? AND name = ?", self._ledger.run_id, self.name
        )
        assert row is not None
        spec: dict[str, Any] = json.loads(row["spec"])
        return spec

    def progress(self) -> int:
        """Results and ended trials: both only ever grow."""
        row = self._ledger.store.row(
            "SELECT (SELECT count(*) FROM result WHERE run = ?1 AND experiment = ?2)"
            " + (SELECT count(*) FROM trial WHERE run = ?1 AND experiment = ?2 AND end_reason IS NOT NULL) AS n",
            self._ledger.run_id, self.name,
        )  # fmt: skip
        assert row is not None
        return int(row["n"])

    def seconds_left(self) -> float | None:
        """Of the experiment's `max_hours`, which count while a driver is alive; None without such a limit."""
        max_hours: float | None = self.spec["max_hours"]
        if max_hours is None:
            return None
        events = self._ledger.store.rows(
            "SELECT name, wall, fields FROM event WHERE run = ?"
            " AND (experiment = ? OR name LIKE 'daemon.%' OR name IN ('machine.slept', 'clock.set')) ORDER BY seq",
            self._ledger.run_id, self.name,
        )  # fmt: skip
        spent_s = driven_seconds((row["name"], row["wall"], json.loads(row["fields"])) for row in events)
        return max(0.0, max_hours * 3600.0 - spent_s)

    # Moves

    def start(self) -> None:
        self._ledger.move_experiment(self.name, ProcessState.STARTING)

    def skip(self, reason: str) -> None:
        self._ledger.move_experiment(self.name, ProcessState.SKIPPED, "experiment.skipped", reason)

    def back_off(self, fruitless: int, status: str) -> float:
        """After a driver died; the seconds to wait before the next one.

        Exponential with full jitter and a cap (Brooker, "Exponential Backoff And Jitter", 2015).
        """
        wait_s = round(random.uniform(0.1, min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2**fruitless)), 2)
        self._ledger.requeue_live_trials(self.name, "driver_died")
        self._ledger.move_experiment(
            self.name, ProcessState.BACKOFF, "driver.exited", status,
            status=status, retry_in_s=wait_s, log=str(self.folder / "driver.log"),
        )  # fmt: skip
        return wait_s

    def await_operator(self, reason: str, drill: bool) -> None:
        """After the governor's STOP."""
        self._ledger.requeue_live_trials(self.name, "stopped by the governor")
        text = f"{STOPPED_BY_GOVERNOR}{reason}; `supervisorctl resume --force` goes on"
        self._ledger.move_experiment(self.name, ProcessState.BACKOFF, "experiment.paused", text, drill=drill)

    def end(self, error: str | None) -> None:
        """EXITED with its best trial; FATAL with `error`, or when no trial left a value."""
        if error is not None:
            # Its trials wait: `start --retry` goes on with them.
            self.fail(error)
            return
        self._ledger.end_unfinished_trials(self.name, MAX_HOURS_REACHED)
        trials = queries.trials_of(self._ledger.store.connection, self._ledger.run_id, self.name)
        best = queries.best_trial(trials, self.spec["mode"])
        if best is None:
            first = next((t["error"] or t["end_reason"] for t in trials if t["end_reason"]), "no trial was started")
            self.fail(f"no trial of {len(trials)} left a value; the first: {first}")
            return
        self._ledger.move_experiment(
            self.name, ProcessState.EXITED, "experiment.finished", best=best["value"], best_trial=best["number"],
            trials=len(trials), seconds=self._seconds(),
        )  # fmt: skip

    def fail(self, error: str) -> None:
        self._ledger.requeue_live_trials(self.name, "experiment_failed")
        self._ledger.move_experiment(
            self.name, ProcessState.FATAL, "experiment.failed", in_a_line(error), error=error, seconds=self._seconds()
        )

    def stop(self, reason: str) -> None:
        self._ledger.requeue_live_trials(self.name, "stopped")
        self._ledger.move_experiment(self.name, ProcessState.STOPPING)
        self._ledger.move_experiment(self.name, ProcessState.STOPPED, "experiment.stopped", reason)

    def _seconds(self) -> float:
        row = self._ledger.store.row(
            "SELECT started_wall FROM experiment WHERE run = ? AND name = ?", self._ledger.run_id, self.name
        )
        assert row is not None
        return max(0.0, round(self._clock.wall_s() - (row["started_wall"] or self._clock.wall_s()), 1))


def in_a_line(error: str) -> str:
    """The last line that says something: of a traceback, the exception itself."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return lines[-1] if lines else error
