"""The Tune callback that reports the life of each trial to the daemon."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from actors.driver import ray_private
from actors.driver.commands_in_force import CommandsInForce
from actors.driver.daemon_link import DaemonLink
from actors.driver.process_local import PerProcess
from actors.driver.trial_registry import Entry, TrialRegistry, Verdict
from actors.trial.memory_retry import ASKED_BACK, OOM, Offer, next_attempt
from actors.trial.result_keys import (
    CHECKPOINT,
    END,
    ERROR,
    FILLED_IN_BY_TUNE,
    LEFT,
    LEFT_OUT,
    MAX_ERROR_CHARACTERS,
    OWN_KEY,
    RECORD,
    failure_reason,
)
from actors.trial.worker_exit import HUNG, OOM_KILLED, Death
from supervisor.domain import messages
from supervisor.domain.lifecycle import EndReason, TrialState

Deaths = Callable[[str, int, int], Death]
"""(node, number, attempt) -> how that attempt's worker died; the node is empty if it is not known."""

END_REASONS = {HUNG: EndReason.HUNG, OOM_KILLED: EndReason.OOM}
"""End reason by the cause of a trial's last death; for other causes the error's text decides."""

MAX_TOLD = 200
_OWN = frozenset({END, ERROR, RECORD, CHECKPOINT, LEFT_OUT, OWN_KEY})


def metrics_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result's own metrics; its worker has made them plain (report_values)."""
    return {str(key): value for key, value in result.items() if key not in FILLED_IN_BY_TUNE | _OWN}


class Recorder(Callback, PerProcess):
    """Reports trials. Tune's thread runs its callbacks; threads that change commands also run `record_pauses`."""

    def __init__(
        self,
        link: DaemonLink,
        registry: TrialRegistry,
        in_force: CommandsInForce,
        deaths: Deaths = lambda node, *_: Death(node=node),
    ) -> None:
        PerProcess.__init__(self)
        self._link, self._registry, self._in_force, self._deaths = link, registry, in_force, deaths
        self._recording = threading.Lock()
        self._told: set[str] = set()
        in_force.on_change(self.record_pauses)

    def _send(self, kind: Callable[..., messages.Message], entry: Entry, *facts: Any) -> None:
        self._link.send(kind(entry.number, entry.attempt, *facts))

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        found = ray_private.whereabouts(trial)
        entry = self._registry.entry(trial.trial_id)
        resumed = found.resumed_step if found.pid is not None else entry.resumed_step
        if found.pid is not None:
            self._registry.resume(trial.trial_id, resumed)
        self._send(messages.TrialStarted, entry, trial.trial_id, found.node, found.pid, resumed)
        for path in found.unusable:
            self._send(messages.CheckpointUnusable, entry, path)
        if found.refused_device is not None:
            self._send(messages.DeviceRefused, entry, found.refused_device)
        with self._registry.lock:
            entry.node, entry.running, entry.held, entry.reported = found.node, True, False, False
            # Asked at its start: a worker that the kernel kills cannot answer any more.
            entry.offer = None if found.pid is None else Offer(found.smaller)
        self.record_pauses()

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        if LEFT in result:
            # Not in the scheduler: Tune flattens its results, and an offer is a dict.
            self._registry.note_left(trial.trial_id, result)
            return
        if END in result and self._registry.metric not in result:
            # It failed: there was no epoch.
            return
        entry, step, value = self._registry.note(trial.trial_id, result)
        self._send(messages.ResultReported, entry, step, value, metrics_of(result), result.get(CHECKPOINT))
        self._tell_left_out(entry, dict(result.get(LEFT_OUT, ())))

    def _tell_left_out(self, entry: Entry, left_out: dict[str, str]) -> None:
        """Report each name that is left out of reports once, whichever trial has it."""
        fresh = {name: what for name, what in left_out.items() if name not in self._told}
        if fresh and len(self._told) < MAX_TOLD:
            self._told |= fresh.keys()
            self._send(messages.ReportTrimmed, entry, fresh)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        last = trial.last_result or {}
        verdict = self._registry.verdict(trial.trial_id, last)
        self._tell_end(trial, verdict, last.get(RECORD) or {})

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Prepare the next attempt: Tune will start the trial again, because its worker died."""
        death = self._death_of(trial)
        self._try_again(trial, death.cause, death.text or _last_error(trial))

    def _death_of(self, trial: Trial) -> Death:
        """Return how the worker of a trial's attempt died; report it to the daemon if it hung."""
        entry = self._registry.entry(trial.trial_id)
        death = self._deaths(entry.node if entry.running else "", entry.number, entry.attempt)
        if not entry.running:
            # It died while it was being started. An attempt must begin before it can be lost.
            self._send(messages.TrialStarted, entry, trial.trial_id, death.node, death.pid, entry.resumed_step)
        if death.cause == HUNG and death.silent_s is not None:
            self._send(messages.TrialHung, entry, death.silent_s, death.median_s, death.dump)
        return death

    def release(self, trial: Trial) -> None:
        """Report that the trial leaves its worker; it will resume from its checkpoint, as a new attempt."""
        entry = self._registry.entry(trial.trial_id)
        drill = self._in_force.on_trial(entry.node, entry.number).drill
        asked_back = self._in_force.given_back(entry.number)
        if entry.ran_out is not None:
            self._try_again(trial, OOM, entry.ran_out)
        else:
            self._try_again(trial, ASKED_BACK if asked_back else "released", None, drill)

    def _try_again(self, trial: Trial, cause: str, error: str | None, drill: bool = False) -> None:
        entry = self._registry.entry(trial.trial_id)
        self._in_force.given_back(entry.number)
        with self._recording, self._registry.lock:
            after = next_attempt(cause, entry.memory, entry.offer, drill=drill)
            reduced = dict(after.memory) if after.memory is not None and after.memory != entry.memory else None
            entry.running, entry.memory, entry.offer, entry.ran_out = False, after.memory, None, None
            entry.anew = False
        self._send(messages.AttemptLost, entry, cause, error, drill, reduced)
        entry.attempt += 1
        own = {**trial.config[OWN_KEY], **entry.own_settings(spent=(error or cause) if after.spent else None)}
        trial.set_config({**trial.config, OWN_KEY: own})  # type: ignore[no-untyped-call]

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Report the trial's end: its worker died once too often, or Tune itself failed on it."""
        death = self._death_of(trial)
        text = death.text or _last_error(trial)
        reason = END_REASONS.get(death.cause) or failure_reason(text)
        self._tell_end(trial, Verdict(reason, None, text))

    def _tell_end(self, trial: Trial, end: Verdict, *record: Mapping[str, Any]) -> None:
        entry = self._end(trial)
        self._registry.look_at_end(entry, end.end_reason, end.error)
        self._send(messages.TrialEnded, entry, end.end_reason.value, end.value, end.error, *record)

    def _end(self, trial: Trial) -> Entry:
        entry = self._registry.entry(trial.trial_id)
        self._in_force.given_back(entry.number)
        with self._recording, self._registry.lock:
            entry.running = False
        self._registry.close(trial.trial_id)
        return entry

    def record_pauses(self) -> None:
        """Report the running trials that have stopped under a command, and those that move again.

        A trial has stopped when the scheduler holds it or its heartbeat says that it waits at its gate.
        """
        # One thread at a time: two that each saw a change could send the two in the wrong order. The end of an attempt
        # also waits for it: the daemon refuses a pause that comes later.
        with self._recording:
            for entry in self._registry.running():
                waits = self._waits(entry)
                must = self._in_force.must_wait(entry.node, entry.number, reported=entry.reported)
                if (must and waits and not entry.held) or (entry.held and not must and waits is False):
                    self._record_pause(entry, held=not entry.held)

    def _waits(self, entry: Entry) -> bool | None:
        """Return whether a trial has stopped; None while no watchdog of its node reports."""
        if entry.reported or not entry.node:
            # Of a worker that did not say where it runs only the scheduler's hold is known.
            return entry.reported
        return self._in_force.is_waiting(entry.node, entry.number, entry.attempt)

    def _record_pause(self, entry: Entry, *, held: bool) -> None:
        command = self._in_force.on_trial(entry.node, entry.number)
        # A pause that began by a drill also ends by it.
        drill = command.drill if held else entry.drilled
        entry.held, entry.drilled = held, held and command.drill
        state = TrialState.PAUSED if held else TrialState.RUNNING
        self._send(messages.TrialHeld, entry, state.value, command.reason, drill)


def _last_error(trial: Trial) -> str:
    error = trial.get_error() or "its worker process ended without an error: it was killed, or ended itself"
    return str(error)[-MAX_ERROR_CHARACTERS:]
