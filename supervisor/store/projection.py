"""Turns events into rows. No other module writes a row of a run, experiment, trial, attempt, result, command or test.

`Change.record` applies each event in the transaction that commits it; a rebuild and the checker apply the same events
again, from the log (replay.py). The readings by the minute are in no event (reading_rollup). Standard library only.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from supervisor.domain.checkpoint_name import checkpoint_step
from supervisor.domain.finalists import SET_ASIDE
from supervisor.domain.lifecycle import SUCCEEDED, Desired, EndReason, ProcessState, TrialState
from supervisor.domain.run_words import GIVEN_UP
from supervisor.domain.scope import SCHEDULE
from supervisor.domain.spec_changes import SPEC_CHANGES, changed
from supervisor.domain.trials.extension import end_before, extension_of, with_failed_extension
from supervisor.store.event import Event
from supervisor.store.projection_rows import Rows

_P = ProcessState
RUN_STATES = {"run.started": _P.RUNNING, "run.finished": _P.EXITED, "run.failed": _P.FATAL, "run.abandoned": _P.FATAL}
"""The state in which each of these events leaves the run; `run.moved` names its own."""
EXPERIMENT_STATES = {
    "experiment.started": _P.RUNNING, "experiment.resumed": _P.RUNNING, "experiment.paused": _P.PAUSED,
    "experiment.stopped": _P.STOPPED, "experiment.skipped": _P.SKIPPED, "experiment.finished": _P.EXITED,
    "experiment.failed": _P.FATAL, "driver.exited": _P.BACKOFF, "driver.stopped": _P.PAUSED,
}  # fmt: skip
"""The state in which each of these events leaves its experiment; `experiment.moved` names its own."""


def apply(connection: sqlite3.Connection, event: Event) -> None:
    """Insert `event` and change the rows that it changes."""
    insert(connection, event)
    change(connection, event)


def apply_each(connection: sqlite3.Connection, events: Sequence[Event]) -> None:
    """Do as `apply` for each of these events of one experiment; events that change only its spec do it in one pass."""
    connection.executemany(_INSERT, map(_values, events))
    if all(changes_spec_only(event.name) for event in events):
        _change_spec_by(Rows(connection, events[0]), events)
    else:
        for event in events:
            change(connection, event)


def changes_spec_only(name: str) -> bool:
    """Return whether an event of that name changes its experiment's spec and no other row."""
    return CHANGES.get(name) is _change_spec


def insert(connection: sqlite3.Connection, event: Event) -> None:
    """Insert `event` itself."""
    connection.execute(_INSERT, _values(event))


_INSERT = "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


def _values(event: Event) -> tuple[Any, ...]:
    return (
        event.seq, event.wall_s, event.name, event.run, event.experiment, event.trial, event.attempt,
        json.dumps(event.fields, allow_nan=False),
    )  # fmt: skip


def change(connection: sqlite3.Connection, event: Event) -> None:
    """Change the rows that `event` changes."""
    one = CHANGES.get(event.name)
    if one is not None:
        one(Rows(connection, event))


def opening_at(wall_s: float) -> str:
    """Return the time at which a test was opened, as its opening says it."""
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="seconds")


# The run


def _run_created(rows: Rows) -> None:
    event, fields = rows.event, rows.fields
    rows.execute(
        "INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?, NULL)",
        event.run, fields["plan"], fields["fingerprint"], fields["source"], fields["plan_text"],
        json.dumps(fields["hardware"]), json.dumps(fields["data"]), ProcessState.STOPPED, Desired.RUN, event.wall_s,
    )  # fmt: skip
    for ordinal, spec in enumerate(fields["specs"]):
        rows.execute(
            "INSERT INTO experiment (run, name, ordinal, spec, state) VALUES (?, ?, ?, ?, ?)",
            event.run, spec["name"], ordinal, json.dumps(spec), ProcessState.STOPPED,
        )  # fmt: skip


def _move_run(rows: Rows) -> None:
    state = RUN_STATES.get(rows.event.name) or rows.fields["state"]
    ended = rows.event.wall_s if state in (ProcessState.EXITED, ProcessState.FATAL) else None
    rows.set_run("state = ?, ended_wall = ?", state, ended)


def _run_abandoned(rows: Rows) -> None:
    _move_run(rows)
    rows.set_run("desired = ?, reason = ?", Desired.STOP, GIVEN_UP)


def _recover(rows: Rows) -> None:
    # A FATAL run was started again by a person.
    rows.execute(
        "UPDATE run SET state = 'STOPPED', ended_wall = NULL WHERE id = ? AND state != 'EXITED'", rows.event.run
    )
    rows.execute(
        "UPDATE experiment SET state = 'STOPPED', action = NULL, origin = NULL"
        " WHERE run = ? AND state NOT IN ('STOPPED', 'EXITED', 'FATAL', 'SKIPPED')",
        rows.event.run,
    )


def _put_command(rows: Rows) -> None:
    rows.execute(
        "INSERT INTO command VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET command = excluded.command",
        rows.event.run, rows.fields.get("scope", SCHEDULE), json.dumps(rows.fields["command"]),
    )  # fmt: skip


def _run_resumed(rows: Rows) -> None:
    rows.execute("DELETE FROM command WHERE run = ? AND scope = ?", rows.event.run, rows.fields["scope"])


def _plan_changed(rows: Rows) -> None:
    """Change specs, hardware policy and schedule: the run's plan is its frozen copy plus such changes."""
    event, fields = rows.event, rows.fields
    for name, changes in fields["specs"].items():
        where = "WHERE run = ? AND name = ?"
        (text,) = rows.execute(f"SELECT spec FROM experiment {where}", event.run, name).fetchone()  # noqa: S608 - ours
        spec = json.dumps({**json.loads(text), **changes})
        rows.execute(f"UPDATE experiment SET spec = ? {where}", spec, event.run, name)  # noqa: S608 - ours
    (text,) = rows.execute("SELECT hardware FROM run WHERE id = ?", event.run).fetchone()
    # Events of older versions have no schedule.
    given = {"schedule": fields.get("schedule"), **{key: fields[key] for key in ("policy", "source_sha256")}}
    hardware = {**json.loads(text), **{key: value for key, value in given.items() if value is not None}}
    rows.set_run(
        "hardware = ?, fingerprint = coalesce(?, fingerprint), plan_text = coalesce(?, plan_text)",
        json.dumps(hardware), fields["fingerprint"], fields["plan_text"],
    )  # fmt: skip
    if given["schedule"] == {}:
        # The last command of a schedule ends with it.
        rows.execute("DELETE FROM command WHERE run = ? AND scope = ?", event.run, SCHEDULE)


# An experiment


def _move_experiment(rows: Rows) -> None:
    name, fields = rows.event.name, rows.fields
    state = EXPERIMENT_STATES.get(name) or fields["state"]
    action, origin = (fields["action"], fields["origin"]) if name in _PAUSES else (None, None)
    rows.execute(
        "UPDATE experiment SET state = ?1, reason = ?2, action = ?3, origin = ?4,"
        " started_wall = CASE WHEN ?1 = 'STARTING' THEN coalesce(started_wall, ?5) ELSE started_wall END,"
        " ended_wall = CASE WHEN ?1 IN ('EXITED', 'FATAL', 'SKIPPED') THEN ?5 END,"
        " driver_starts = driver_starts + (?1 = 'STARTING')"
        " WHERE run = ?6 AND name = ?7",
        state, fields["reason"] if name in _WITH_REASON else None, action, origin, rows.event.wall_s,
        *rows.experiment_key,
    )  # fmt: skip


_PAUSES = ("experiment.paused", "driver.stopped")
_WITH_REASON = {"experiment.moved", *EXPERIMENT_STATES} - {
    "experiment.started", "experiment.resumed", "experiment.finished"
}  # fmt: skip


def _change_spec(rows: Rows) -> None:
    """Change the spec, so that every later driver works by the same one."""
    _change_spec_by(rows, [rows.event])


def _change_spec_by(rows: Rows, events: Sequence[Event]) -> None:
    known = [(event.name, {**event.fields, "trial": event.trial, "seq": event.seq}) for event in events]
    rows.set_spec(changed(rows.spec(), known))


# A trial


def _trial_added(rows: Rows) -> None:
    rows.execute(
        "INSERT INTO trial (run, experiment, number, state, params, source, added_wall)"
        " VALUES (?, ?, ?, 'PENDING', ?, ?, ?)",
        *rows.trial_key, json.dumps(rows.fields["params"]), rows.fields["source"], rows.event.wall_s,
    )  # fmt: skip


def _trial_started(rows: Rows) -> None:
    event, fields = rows.event, rows.fields
    rows.set_trial(
        "state = 'RUNNING', attempt = ?, started_wall = coalesce(started_wall, ?)", event.attempt, event.wall_s
    )
    rows.execute(
        "INSERT INTO attempt VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)",
        *rows.trial_key, event.attempt, fields["node"], fields["worker_pid"], fields["resumed_step"], event.wall_s,
    )  # fmt: skip


def _trial_reported(rows: Rows) -> None:
    event, fields = rows.event, rows.fields
    rows.execute(
        "INSERT INTO result VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        *rows.trial_key, fields["step"], event.attempt, fields["value"], json.dumps(fields["metrics"]), event.wall_s,
    )  # fmt: skip
    _keep_checkpoint(rows)


def _trial_repeated(rows: Rows) -> None:
    event, fields = rows.event, rows.fields
    rows.execute(
        "UPDATE result SET attempt = ?, value = ?, metrics = ?, wall = ?"
        " WHERE run = ? AND experiment = ? AND trial = ? AND step = ?",
        event.attempt, fields["value"], json.dumps(fields["metrics"]), event.wall_s, *rows.trial_key, fields["step"],
    )  # fmt: skip
    _keep_checkpoint(rows)


def _keep_checkpoint(rows: Rows) -> None:
    path = rows.fields["checkpoint"]
    if path is not None:
        # It may be of an earlier epoch: it is written while the trial goes on.
        step = checkpoint_step(path)
        rows.set_trial("checkpoint = ?, checkpoint_step = ?", path, rows.fields["step"] if step is None else step)


def _trial_requeued(rows: Rows) -> None:
    rows.set_trial("state = 'PENDING', held_for = NULL")
    rows.end_attempt(rows.fields["cause"])


def _trial_retried(rows: Rows) -> None:
    # It begins anew: what its failed attempts reported stays in the log, and counts no more.
    rows.execute("DELETE FROM result WHERE run = ? AND experiment = ? AND trial = ?", *rows.trial_key)
    rows.set_trial(
        "state = 'PENDING', end_reason = NULL, value = NULL, error = NULL, record = '{}', checkpoint = NULL,"
        " checkpoint_step = NULL, started_wall = NULL, ended_wall = NULL"
    )
    _change_spec(rows)


def _trial_extended(rows: Rows) -> None:
    fields = rows.fields
    if fields["anew"]:
        rows.execute("DELETE FROM result WHERE run = ? AND experiment = ? AND trial = ?", *rows.trial_key)
    rows.set_trial(
        "state = 'PENDING', end_reason = NULL, value = NULL, checkpoint = ?, checkpoint_step = ?, started_wall = NULL,"
        " ended_wall = NULL", fields["checkpoint"], fields["from_step"],
    )  # fmt: skip
    _change_spec(rows)


def _trial_failed(rows: Rows) -> None:
    spec, number = rows.spec(), rows.event.trial or 0
    extension = extension_of(spec, number)
    if extension is None:
        _trial_ended(rows)
        return
    # What failed is its extension: the trial keeps the end that it had.
    rows.set_spec(with_failed_extension(spec, number))
    kept = end_before(extension)
    rows.set_trial(
        "attempt = ?, state = ?, end_reason = ?, value = ?, ended_wall = ?, held_for = NULL",
        rows.event.attempt, kept["state"], kept["end_reason"], kept["value"], rows.event.wall_s,
    )  # fmt: skip
    rows.end_attempt(rows.fields["end_reason"])


def _trial_ended(rows: Rows) -> None:
    event, fields = rows.event, rows.fields
    good = EndReason(fields["end_reason"]) in SUCCEEDED
    # Events of older versions have no last lines.
    printed = {"printed": fields["printed"]} if fields.get("printed") else {}
    rows.set_trial(
        "attempt = ?, state = ?, end_reason = ?, value = ?, error = ?, record = ?, ended_wall = ?, held_for = NULL",
        event.attempt, TrialState.TERMINATED if good else TrialState.ERROR, fields["end_reason"],
        fields["value"] if good else None, fields["error"], json.dumps({**fields["record"], **printed}), event.wall_s,
    )  # fmt: skip
    rows.end_attempt(fields["end_reason"])


def _finalisation_set_aside(rows: Rows) -> None:
    # Its trials stay with their results; the log keeps how each ended, and what its value was.
    for number in rows.fields["trials"]:
        rows.execute(
            "UPDATE trial SET state = ?, end_reason = ?, source = ?, value = NULL"
            " WHERE run = ? AND experiment = ? AND number = ?",
            TrialState.TERMINATED, EndReason.SET_ASIDE, SET_ASIDE, *rows.experiment_key, number,
        )  # fmt: skip
    _change_spec(rows)


# The test of an experiment's answer


def _test_opened(rows: Rows) -> None:
    opening = {**rows.fields, "at": opening_at(rows.event.wall_s)}
    rows.execute(
        "INSERT INTO evaluation VALUES (?, ?, ?, 1, ?, NULL, NULL, ?) ON CONFLICT DO UPDATE SET"
        " openings = excluded.openings, tries = tries + 1, opening = excluded.opening, failure = NULL,"
        " wall = excluded.wall",
        *rows.experiment_key, rows.fields["openings"], json.dumps(opening), rows.event.wall_s,
    )  # fmt: skip


def _test_failed(rows: Rows) -> None:
    failure = {key: rows.fields[key] for key in ("error", "outside")}
    rows.execute(
        "UPDATE evaluation SET failure = ? WHERE run = ? AND experiment = ?", json.dumps(failure), *rows.experiment_key
    )


def _test_retried(rows: Rows) -> None:
    rows.execute("UPDATE evaluation SET tries = 0 WHERE run = ? AND experiment = ?", *rows.experiment_key)


def _test_scored(rows: Rows) -> None:
    rows.execute(
        "UPDATE evaluation SET result = ?, wall = ? WHERE run = ? AND experiment = ?",
        json.dumps(rows.fields["result"]), rows.event.wall_s, *rows.experiment_key,
    )  # fmt: skip


CHANGES: dict[str, Callable[[Rows], None]] = {
    "run.created": _run_created,
    **dict.fromkeys((*RUN_STATES, "run.moved"), _move_run),
    "run.abandoned": _run_abandoned,
    "run.stopped": lambda rows: rows.set_run("desired = ?", Desired.STOP),
    "run.wanted": lambda rows: rows.set_run("desired = ?", Desired.RUN),
    "run.reopened": _recover,
    "daemon.recovered": _recover,
    "plan.changed": _plan_changed,
    **dict.fromkeys(("run.paused", "schedule.changed"), _put_command),
    "run.resumed": _run_resumed,
    **dict.fromkeys((*EXPERIMENT_STATES, "experiment.moved"), _move_experiment),
    **dict.fromkeys(SPEC_CHANGES, _change_spec),
    "finalisation.set_aside": _finalisation_set_aside,
    "trial.added": _trial_added,
    "trial.started": _trial_started,
    "trial.reported": _trial_reported,
    "trial.repeated": _trial_repeated,
    "trial.paused": lambda rows: rows.set_trial("state = 'PAUSED', held_for = ?", rows.fields["reason"]),
    "trial.resumed": lambda rows: rows.set_trial("state = 'RUNNING', held_for = NULL"),
    "trial.requeued": _trial_requeued,
    "trial.retried": _trial_retried,
    "trial.extended": _trial_extended,
    "trial.finished": _trial_ended,
    "trial.failed": _trial_failed,
    "test.opened": _test_opened,
    "test.failed": _test_failed,
    "test.retried": _test_retried,
    "test.scored": _test_scored,
}
"""The change of each event that changes rows."""
