"""Records what a driver says about trials, each message in one transaction.

Each message names the attempt that it is about. Only a trial's current attempt may speak for it; a late message is
refused (the fence), and the refusal is an event.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from supervisor.domain import messages
from supervisor.domain.finalists import after_search, is_final, phase
from supervisor.domain.lifecycle import SUCCEEDED, TRIAL_ENDED, EndReason, TrialState, check_trial_move
from supervisor.domain.scope import trial_scope
from supervisor.domain.trials.duplicates import DUPLICATE_OF, may_be_repeated
from supervisor.store import lookups, queries
from supervisor.store.database import Change, Store
from supervisor.store.run_writer import drop_command, requeue


@dataclass(frozen=True)
class TrialWriter:
    """Checks and records the messages about the trials of one run."""

    store: Store
    run_id: str

    def handle(self, name: str, message: messages.Message) -> bool:
        """Commit a message about a trial of experiment `name`; return False when it is refused.

        Raises ValueError for a message that is not about a trial.
        """
        record = _RECORD.get(type(message))
        if record is None:
            raise ValueError(f"expected a message about a trial, found a {type(message).__name__}")
        number = message.number  # type: ignore[union-attr]  # each message in the table has one
        with self.store.change(self.run_id) as change:
            row = lookups.trial(self.store, self.run_id, name, number)
            refusal = why_refused(row, message) or self._too_early(name, message)
            recording = _Recording(self.store, change, self.run_id, name, number, row, message)
            if refusal is None:
                record(recording)
            else:
                recording.record("result.refused", message=type(message).__name__, reason=refusal)
        return refusal is None

    def _too_early(self, name: str, message: Any) -> str | None:
        """Return why a trial after the search may not be added yet; None when it may.

        A driver that has not heard of a retried trial would choose without it. A finalist that is certain may begin.
        """
        if not isinstance(message, messages.TrialAdded | messages.TrialDuplicated):
            return None
        spec, follows = lookups.spec(self.store, self.run_id, name), phase(message.source) > 0
        if follows != is_final(spec, message.number):
            return "the number of trials was changed meanwhile, and this one has another part now"
        if not follows:
            return None
        waiting = lookups.unfinished_trials(self.store, self.run_id, name)
        before = [row["number"] for row in waiting if phase(row["source"]) < phase(message.source)]
        # A driver at work that has not heard of these yet chooses as it would without them.
        changed = spec.get("set_aside") or spec.get("discarded")
        if not (before or changed) or self._is_certain(name, message):
            return None
        return (
            f"trial {before[0]} has not ended, and the choice needs it" if before else "the choice is another one now"
        )

    def _is_certain(self, name: str, message: messages.TrialAdded | messages.TrialDuplicated) -> bool:
        spec = lookups.spec(self.store, self.run_id, name)
        trials = queries.trials_of(self.store.connection, self.run_id, name)
        return after_search(spec, trials).get(message.number) == (message.source, message.params)


def why_refused(row: Any, message: Any) -> str | None:
    """Return why `message` is not believed, given the row of its trial (None: no such trial); None when it is."""
    if isinstance(message, messages.TrialAdded):
        return None
    if isinstance(message, messages.TrialDuplicated):
        return None if row is None or (row["end_reason"] is None and not row["attempt"]) else "it has begun"
    if row is None:
        return "there is no such trial"
    state, attempt = TrialState(row["state"]), row["attempt"]
    if state in TRIAL_ENDED:
        return "it has ended"
    if isinstance(message, messages.TrialStarted):
        return None if message.attempt > attempt else "an attempt of that number was started before"
    if message.attempt < attempt:
        return f"attempt {attempt} speaks for it now"
    if message.attempt > attempt:
        # Only an end may come first: that of a trial that could not be built.
        unbuilt = isinstance(message, messages.TrialEnded) and state is TrialState.PENDING
        return None if unbuilt else "that attempt has not started"
    return "that attempt was lost" if state is TrialState.PENDING else None


@dataclass(frozen=True)
class _Recording:
    """A message that is being recorded, with the row of its trial."""

    store: Store
    change: Change
    run_id: str
    name: str
    number: int
    row: Any
    message: Any

    def record(self, event: str, **fields: Any) -> None:
        """Record an event about the message's trial and attempt."""
        attempt = getattr(self.message, "attempt", None)
        self.change.record(event, experiment=self.name, trial=self.number, attempt=attempt, **fields)

    def record_fields(self, event: str, *names: str) -> None:
        """Record an event with these fields of the message."""
        self.record(event, **{name: getattr(self.message, name) for name in names})


def _added(recording: _Recording) -> None:
    # An adopted trial is added again by its new driver; the first time counts.
    if recording.row is None:
        recording.record_fields("trial.added", "params", "source")


def _duplicated(recording: _Recording) -> None:
    """Record that a trial has the end of an earlier one; where that does not hold now, the next driver trains it."""
    _added(recording)
    message, place = recording.message, (recording.store, recording.run_id, recording.name)
    row = lookups.trial(*place, message.of)
    before = None if row is None else {**dict(row), "params": json.loads(row["params"])}
    if before is None or not may_be_repeated(lookups.spec(*place), before, message.params):
        return
    recording.record("trial.duplicated", of=message.of)
    recording.change.record(
        "trial.finished", experiment=recording.name, trial=recording.number, attempt=0,
        end_reason=before["end_reason"], value=before["value"], error=None, record={DUPLICATE_OF: message.of},
        seconds=0.0, epochs=0,
    )  # fmt: skip


def _started(recording: _Recording) -> None:
    if TrialState(recording.row["state"]) is not TrialState.PENDING:
        requeue(recording.change, recording.row, "superseded")
    recording.record_fields("trial.started", "node", "worker_pid", "ray_trial_id", "resumed_step")


def _reported(recording: _Recording) -> None:
    message = recording.message
    counts = lookups.attempt_of(recording.store, recording.run_id, recording.name, recording.number, message.step)
    if counts is None:
        recording.record_fields("trial.reported", "step", "value", "metrics", "checkpoint")
    elif counts < message.attempt:
        # Trained again from an older checkpoint: the trial's weights are those of this attempt, so is its result.
        recording.record_fields("trial.repeated", "step", "value", "metrics", "checkpoint")


def _held(recording: _Recording) -> None:
    state, before = TrialState(recording.message.state), TrialState(recording.row["state"])
    if state is not before:
        check_trial_move(before, state)
        event = "trial.paused" if state is TrialState.PAUSED else "trial.resumed"
        recording.record_fields(event, "reason", "drill")


def _ended(recording: _Recording) -> None:
    message, now = recording.message, recording.change.wall_s
    facts: dict[str, Any] = {
        "end_reason": message.end_reason, "error": message.error, "record": message.record,
        "seconds": max(0.0, round(now - (recording.row["started_wall"] or now), 3)),
    }  # fmt: skip
    if EndReason(message.end_reason) in SUCCEEDED:
        epochs = lookups.epochs(recording.store, recording.run_id, recording.name, recording.number)
        recording.record("trial.finished", **facts, value=message.value, epochs=epochs)
    else:
        recording.record("trial.failed", **facts, printed=message.printed)
    scope = trial_scope(recording.name, recording.number)
    drop_command(recording.store, recording.change, recording.run_id, scope, "the end of the trial")


def _lost(recording: _Recording) -> None:
    message = recording.message
    requeue(recording.change, recording.row, message.cause, message.error, drill=message.drill, printed=message.printed)
    if message.memory is not None:
        # In no table: queries.for_begin reads it from the event.
        recording.record_fields("trial.reduced", "memory")


_RECORD: dict[type, Callable[[_Recording], None]] = {
    messages.TrialAdded: _added,
    messages.TrialDuplicated: _duplicated,
    messages.TrialStarted: _started,
    messages.ResultReported: _reported,
    messages.TrialHeld: _held,
    messages.TrialEnded: _ended,
    messages.AttemptLost: _lost,
    messages.TrialHung: lambda recording: recording.record_fields("trial.hung", "silent_s", "median_s", "dump"),
    messages.ReportTrimmed: lambda recording: recording.record_fields("report.trimmed", "left_out"),
    messages.CheckpointUnusable: lambda recording: recording.record_fields("checkpoint.rejected", "path"),
    messages.DeviceRefused: lambda recording: recording.record_fields("device.refused", "why"),
    messages.WorkerStuck: lambda recording: recording.record_fields("worker.stuck", "node", "pid", "why"),
}
"""The function that records each kind of message about a trial."""
