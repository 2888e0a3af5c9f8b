"""Events into tables: what the ledger writes beside an event, done again from the event alone.

So the audit log can give back a lost store, and so the checker can say whether log and store tell one story. What it
cannot give back: the readings by the minute, which no event carries. Standard library only.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Any

from supervisor.domain.lifecycle import SUCCEEDED, Desired, EndReason, ProcessState
from supervisor.store.database import Event
from supervisor.store.evaluation_writer import opening_at
from supervisor.store.queries import GIVEN_UP

_NONSENSE = (TypeError, ValueError, AttributeError, OverflowError)
"""What Python makes of a field of another type than the ledger would have written."""
LIVE = "('STARTING', 'RUNNING', 'PAUSED', 'BACKOFF', 'STOPPING')"


class CannotReplay(Exception):
    """An event lacks what would be needed; its message says which and what."""


class Projection:
    """Applies events, in the order of their seq, to the tables of `connection` (schema.STEPS, empty at first)."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._known: set[str] = set()

    def apply(self, event: Event) -> None:
        """Raises CannotReplay for an event of a run whose creation was not there, and for one that is not whole."""
        try:
            self._apply(event)
        except KeyError as error:
            raise CannotReplay(f"event {event.seq}: {event.name} was told without {error}") from error
        except sqlite3.IntegrityError as error:
            raise CannotReplay(f"event {event.seq}: {event.name} cannot follow what came before: {error}") from error
        except (*_NONSENSE, sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError) as error:
            raise CannotReplay(f"event {event.seq}: {event.name} holds what no such event does: {error}") from error

    def _apply(self, event: Event) -> None:
        self.connection.execute(
            "INSERT INTO event (seq, wall, name, run, experiment, trial, attempt, fields)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (event.seq, event.wall_s, event.name, event.run, event.experiment, event.trial, event.attempt,
             json.dumps(event.fields, allow_nan=False)),
        )  # fmt: skip
        if event.run is not None and event.run not in self._known and event.name != "run.created":
            raise CannotReplay(f"event {event.seq}: the log does not hold the beginning of {event.run}")
        handler = _HANDLERS.get(event.name)
        if handler is not None:
            handler(self, event)
        if event.name == "run.created" and event.run is not None:
            self._known.add(event.run)

    def _run(self, sql: str, *values: Any) -> None:
        self.connection.execute(sql, values)

    # The run

    def run_created(self, event: Event) -> None:
        said = event.fields
        self._run(
            "INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?, NULL)",
            event.run, said["plan"], said["fingerprint"], said["source"], said["plan_text"],
            json.dumps(said["hardware"]), json.dumps(said["data"]), ProcessState.STOPPED, Desired.RUN, event.wall_s,
        )  # fmt: skip
        for ordinal, spec in enumerate(said["specs"]):
            self._run(
                "INSERT INTO experiment (run, name, ordinal, spec, state) VALUES (?, ?, ?, ?, ?)",
                event.run, spec["name"], ordinal, json.dumps(spec), ProcessState.STOPPED,
            )  # fmt: skip

    def move_run(self, event: Event, state: str) -> None:
        ended = event.wall_s if state in (ProcessState.EXITED, ProcessState.FATAL) else None
        self._run("UPDATE run SET state = ?, ended_wall = ? WHERE id = ?", state, ended, event.run)

    def run_abandoned(self, event: Event) -> None:
        self.move_run(event, ProcessState.FATAL)
        self._run("UPDATE run SET desired = ?, reason = ? WHERE id = ?", Desired.STOP, GIVEN_UP, event.run)

    def desire(self, event: Event, desired: Desired) -> None:
        self._run("UPDATE run SET desired = ? WHERE id = ?", desired, event.run)

    def recover(self, event: Event) -> None:
        self._run(
            f"UPDATE run SET state = 'STOPPED', ended_wall = NULL WHERE id = ? AND state IN {LIVE[:-1]}, 'FATAL')",  # noqa: S608
            event.run,
        )
        self._run(f"UPDATE experiment SET state = 'STOPPED' WHERE run = ? AND state IN {LIVE}", event.run)  # noqa: S608

    def run_paused(self, event: Event) -> None:
        self._run(
            "INSERT INTO command VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET command = excluded.command",
            event.run, event.fields["scope"], json.dumps(event.fields["command"]),
        )  # fmt: skip

    def run_resumed(self, event: Event) -> None:
        self._run("DELETE FROM command WHERE run = ? AND scope = ?", event.run, event.fields["scope"])

    # Experiments

    def move_experiment(self, event: Event, state: str, reason: str | None) -> None:
        self._run(
            "UPDATE experiment SET state = ?1, reason = ?2,"
            " started_wall = CASE WHEN ?1 = 'STARTING' THEN coalesce(started_wall, ?3) ELSE started_wall END,"
            " ended_wall = CASE WHEN ?1 IN ('EXITED', 'FATAL', 'SKIPPED') THEN ?3 END,"
            " driver_starts = driver_starts + (?1 = 'STARTING')"
            " WHERE run = ?4 AND name = ?5",
            state, reason, event.wall_s, event.run, event.experiment,
        )  # fmt: skip

    def experiment_warmed(self, event: Event) -> None:
        (text,) = self.connection.execute(
            "SELECT spec FROM experiment WHERE run = ? AND name = ?", (event.run, event.experiment)
        ).fetchone()
        spec = json.loads(text)
        warmed = {**spec, "enqueue": [*spec["enqueue"], *event.fields["points"]]}
        self._run(
            "UPDATE experiment SET spec = ? WHERE run = ? AND name = ?", json.dumps(warmed), event.run, event.experiment
        )

    # Trials

    def _trial(self, event: Event, assignments: str, *values: Any) -> None:
        self._run(
            f"UPDATE trial SET {assignments} WHERE run = ? AND experiment = ? AND number = ?",  # noqa: S608 - ours
            *values, event.run, event.experiment, event.trial,
        )  # fmt: skip

    def _end_attempt(self, event: Event, cause: str) -> None:
        self._run(
            "UPDATE attempt SET ended_wall = ?, cause = ?"
            " WHERE run = ? AND experiment = ? AND trial = ? AND attempt = ? AND ended_wall IS NULL",
            event.wall_s, cause, event.run, event.experiment, event.trial, event.attempt,
        )  # fmt: skip

    def trial_added(self, event: Event) -> None:
        self._run(
            "INSERT INTO trial (run, experiment, number, state, params, source, added_wall)"
            " VALUES (?, ?, ?, 'PENDING', ?, ?, ?)",
            event.run, event.experiment, event.trial, json.dumps(event.fields["params"]), event.fields["source"],
            event.wall_s,
        )  # fmt: skip

    def trial_started(self, event: Event) -> None:
        said = event.fields
        self._trial(
            event, "state = 'RUNNING', attempt = ?, started_wall = coalesce(started_wall, ?)",
            event.attempt, event.wall_s,
        )  # fmt: skip
        self._run(
            "INSERT INTO attempt VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)",
            event.run, event.experiment, event.trial, event.attempt, said["node"], said["worker_pid"],
            said["resumed_step"], event.wall_s,
        )  # fmt: skip

    def trial_reported(self, event: Event) -> None:
        said = event.fields
        self._run(
            "INSERT INTO result VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            event.run, event.experiment, event.trial, said["step"], event.attempt, said["value"],
            json.dumps(said["metrics"]), event.wall_s,
        )  # fmt: skip
        self.trial_repeated(event)

    def trial_repeated(self, event: Event) -> None:
        if event.fields["checkpoint"] is not None:
            self._trial(event, "checkpoint = ?, checkpoint_step = ?", event.fields["checkpoint"], event.fields["step"])

    def trial_requeued(self, event: Event) -> None:
        self._trial(event, "state = 'PENDING', held_for = NULL")
        self._end_attempt(event, event.fields["cause"])

    def trial_ended(self, event: Event) -> None:
        said = event.fields
        good = EndReason(said["end_reason"]) in SUCCEEDED
        self._trial(
            event,
            "attempt = ?, state = ?, end_reason = ?, value = ?, error = ?, record = ?, ended_wall = ?, held_for = NULL",
            event.attempt, "TERMINATED" if good else "ERROR", said["end_reason"], said.get("value"), said.get("error"),
            json.dumps(said.get("record", {})), event.wall_s,
        )  # fmt: skip
        self._end_attempt(event, said["end_reason"])

    # The one test

    def test_opened(self, event: Event) -> None:
        self._run(
            "INSERT INTO evaluation VALUES (?, ?, ?, ?, NULL, ?) ON CONFLICT DO UPDATE SET"
            " openings = excluded.openings, opening = excluded.opening, wall = excluded.wall",
            event.run, event.experiment, event.fields["openings"],
            json.dumps({**event.fields, "at": opening_at(event.wall_s)}), event.wall_s,
        )  # fmt: skip

    def test_scored(self, event: Event) -> None:
        self._run(
            "UPDATE evaluation SET result = ?, wall = ? WHERE run = ? AND experiment = ? AND result IS NULL",
            json.dumps(event.fields["result"]), event.wall_s, event.run, event.experiment,
        )  # fmt: skip


_P = ProcessState
_HANDLERS: dict[str, Callable[[Projection, Event], None]] = {
    "run.created": Projection.run_created,
    "run.moved": lambda replay, event: replay.move_run(event, event.fields["state"]),
    "run.started": lambda replay, event: replay.move_run(event, _P.RUNNING),
    "run.finished": lambda replay, event: replay.move_run(event, _P.EXITED),
    "run.failed": lambda replay, event: replay.move_run(event, _P.FATAL),
    "run.abandoned": Projection.run_abandoned,
    "run.stopped": lambda replay, event: replay.desire(event, Desired.STOP),
    "run.wanted": lambda replay, event: replay.desire(event, Desired.RUN),
    "run.reopened": Projection.recover,
    "daemon.recovered": Projection.recover,
    "run.paused": Projection.run_paused,
    "run.resumed": Projection.run_resumed,
    "experiment.moved": lambda replay, event: replay.move_experiment(
        event, event.fields["state"], event.fields["reason"]
    ),
    "experiment.started": lambda replay, event: replay.move_experiment(event, _P.RUNNING, None),
    "experiment.finished": lambda replay, event: replay.move_experiment(event, _P.EXITED, None),
    "experiment.failed": lambda replay, event: replay.move_experiment(event, _P.FATAL, event.fields["error"]),
    "experiment.skipped": lambda replay, event: replay.move_experiment(event, _P.SKIPPED, event.fields["reason"]),
    "experiment.stopped": lambda replay, event: replay.move_experiment(event, _P.STOPPED, event.fields["reason"]),
    "experiment.paused": lambda replay, event: replay.move_experiment(event, _P.PAUSED, event.fields["reason"]),
    "experiment.resumed": lambda replay, event: replay.move_experiment(event, _P.RUNNING, None),
    "driver.exited": lambda replay, event: replay.move_experiment(event, _P.BACKOFF, event.fields["status"]),
    "experiment.warmed": Projection.experiment_warmed,
    "trial.added": Projection.trial_added,
    "trial.started": Projection.trial_started,
    "trial.reported": Projection.trial_reported,
    "trial.repeated": Projection.trial_repeated,
    "trial.paused": lambda replay, event: replay._trial(  # noqa: SLF001
        event, "state = 'PAUSED', held_for = ?", event.fields["reason"]
    ),
    "trial.resumed": lambda replay, event: replay._trial(event, "state = 'RUNNING', held_for = NULL"),  # noqa: SLF001
    "trial.requeued": Projection.trial_requeued,
    "trial.finished": Projection.trial_ended,
    "trial.failed": Projection.trial_ended,
    "test.opened": Projection.test_opened,
    "test.scored": Projection.test_scored,
}
"""What each event changed. An event that is not here changed nothing but the list of events."""
