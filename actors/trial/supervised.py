"""Makes any Ray trainable fit for supervision: gives it a gate, a heartbeat, checkpoints, and errors as results.

An exception becomes a last result with a reason instead of reaching Tune: Tune would end the actor, and could not
tell a bug, which another attempt repeats, from a worker that died.
"""

from __future__ import annotations

import copy
import inspect
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.result import RESULT_DUPLICATE

from actors.trial.checkpoints import CheckpointFolders, Checkpoints
from actors.trial.function_trial import FunctionTrial, trial_class
from actors.trial.gate import Gate, Leave
from actors.trial.heartbeat import Heartbeat, Phase, Worker
from actors.trial.memory_retry import Memory
from actors.trial.node_files import flag_path, heartbeats_folder
from actors.trial.prints import PRINTS
from actors.trial.result_keys import (
    CHECKPOINT,
    END,
    ERROR,
    LEFT,
    MAX_ERROR_CHARACTERS,
    OUT_OF_MEMORY,
    OWN_KEY,
    SECONDS,
    SMALLER,
    STEP,
    Whereabouts,
    failed,
    failure_reason,
)
from actors.trial.user_class import USER, keeps_checkpoints, own_result, user_class
from actors.trial.user_code import error_text
from actors.trial.worker_process import dump_on_signal, prefer_for_oom
from supervisor.domain.checkpoint_schedule import Schedule
from supervisor.domain.lifecycle import EndReason
from supervisor.errors import PlanError
from supervisor.processes.identity import started_at
from supervisor.processes.print_file import print_path

LOG = logging.getLogger("trainable")
EXITED: Mapping[str, Any] = {RESULT_DUPLICATE: True, "done": True}
"""The answer of a trial that ended itself by exit status 0: its last result is its end."""


def supervise(user: Any, prepare_worker: Callable[[], object] = int) -> type[tune.Trainable]:
    """Return the class that Tune runs for a user's function or Trainable class. Raises PlanError for others.

    `prepare_worker` is called in a trial's worker before its code.
    """
    if not inspect.isclass(user):
        try:
            user = trial_class(user)
        except ValueError as error:
            text = f"the trainable must take one argument, config; this one takes {inspect.signature(user)}"
            raise PlanError(text, key="trainable", remedy="put the rest into the plan's config") from error
    elif not issubclass(user, tune.Trainable):
        raise PlanError(f"trainable {user.__name__} is a class, but not a ray.tune.Trainable", key="trainable")
    bases = (SupervisedTrainable, user, CheckpointFolders)
    own = {"sweep_prepare_worker": staticmethod(prepare_worker), USER: user}
    made: type[tune.Trainable] = type(user)(f"Supervised{user.__name__}", bases, own)
    return made


class SupervisedTrainable(tune.Trainable):
    """The first base of a user's class."""

    sweep_gate: Gate
    """Open while trials of this node may work; a class that works in batches waits at it between them."""

    sweep_batches: bool
    """A class sets True when it waits at its gate before every batch, those of validation too. Then a hang is noticed
    by its batches, in minutes; that of other code is noticed by its steps, in hours."""

    sweep_prepare_worker: Callable[[], object] = int

    sweep_own_keys: bool
    """A class of ours sets True: its results may hold an end, an error and a record."""

    sweep_checkpoints: Checkpoints
    """The trial's checkpoints; a class that works in batches asks it before every batch whether one is due."""

    sweep_memory: Memory | None = None
    """Settings with which this attempt takes less memory than an earlier one: what `sweep_smaller` returned then."""

    def setup(self, config: dict[str, Any]) -> None:
        if OWN_KEY not in config:
            # The usual reset_config() of a user's class calls it; Tune always passes our settings.
            super().setup(config)
            return
        self._begin(config, super().setup)

    def reset(self, *arguments: Any, **named: Any) -> Any:
        """Take this worker over for another trial; return where it runs instead of True: the driver need not ask.

        False if it cannot be used again.
        """
        taken: bool = super().reset(*arguments, **named)  # type: ignore[no-untyped-call]
        return self.sweep_whereabouts() if taken else False

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        if OWN_KEY not in new_config:
            # A user's setup() may call it; Tune always passes our settings.
            return bool(super().reset_config(new_config))
        self.sweep_gate.close()
        self._begin(new_config, self._reset)
        return True

    def _reset(self, config: dict[str, Any]) -> None:
        if not super().reset_config(config):
            # reset_config() returned False: this worker cannot be reused. The new trial gets a worker of its own.
            os._exit(1)

    def _begin(self, config: dict[str, Any], prepare: Callable[[dict[str, Any]], object]) -> None:
        own = config.pop(OWN_KEY)
        if hasattr(self, "sweep_checkpoints"):
            self.sweep_checkpoints.settle()
        self.sweep_prepare_worker()
        # setup() gets a copy of self.config, and users read either.
        self.config.pop(OWN_KEY, None)
        self.sweep_number, self.sweep_seed, self.sweep_final = int(own["number"]), int(own["seed"]), bool(own["final"])
        self.sweep_metric, self.sweep_extended = str(own["metric"]), bool(own.get("extended"))
        self._step, self.sweep_memory = 0, own["memory"]
        self._failure: Mapping[str, Any] | None = None
        folder, node = Path(own["folder"]) / str(own["number"]), ray.get_runtime_context().get_node_id()
        PRINTS.begin(print_path(folder, int(own["attempt"])))
        self._heartbeat = self._begin_heartbeat(own, folder, heartbeats_folder(own["gate"], node))
        self.sweep_gate = Gate(
            flag_path(own["gate"], node, own["experiment"]),
            trial=self.sweep_number,
            heartbeat=self._heartbeat,
            # A trial that leaves in its first epoch is saved too.
            may_be_released=keeps_checkpoints(type(self)),
        )
        self._last_step, self._leaves = own["last_step"], False
        self.sweep_checkpoints = self._checkpoints_in(folder, float(own["checkpoint_every_s"]))
        if own["spent"] is not None:
            self._failure = failed(EndReason.OOM, own["spent"])
        else:
            self._failure = self._prepared(own, lambda: prepare(copy.deepcopy(config)))
        self._heartbeat.phase(Phase.IDLE)

    def _begin_heartbeat(self, own: Mapping[str, Any], folder: Path, heartbeats: Path) -> Heartbeat:
        """Let the node's watchdog see this attempt's progress and get its stacks, from now on."""
        prefer_for_oom()
        dump_on_signal(heartbeats)
        pid = os.getpid()
        worker = Worker(own["experiment"], self.sweep_number, int(own["attempt"]), str(folder), pid, started_at(pid))
        return Heartbeat(heartbeats, worker, in_batches=bool(getattr(user_class(type(self)), "sweep_batches", False)))

    def _checkpoints_in(self, folder: Path, every_s: float) -> Checkpoints:
        gate = self.sweep_gate
        return Checkpoints(folder, self, self._heartbeat, Schedule(every_s), lambda: time.monotonic() - gate.waited_s)

    def _prepared(self, own: Mapping[str, Any], prepare: Callable[[], object]) -> Mapping[str, Any] | None:
        """Prepare the trial, from its newest checkpoint if it has one; return its answer if that failed."""
        try:
            prepare()
            named = None if own["checkpoint"] is None else Path(own["checkpoint"])
            if isinstance(self, FunctionTrial):
                # A function's checkpoints are always named; a later one is of a life that it did not read.
                self._step = self.sweep_checkpoints.resume(named, None if own["reported"] is None else 0, int)
            elif keeps_checkpoints(type(self)):
                self._step = self.sweep_checkpoints.resume(named, own["reported"], prepare)
            # Checked now: when memory has run out it is too late to find that the offer is of no use.
            self._smaller()
        except BaseException as error:  # noqa: BLE001 - whatever ends a user's code ends its trial, and nothing else
            text = error_text(error)
            PRINTS.settle()
            return EXITED if text is None else self._stopped_by(text)
        return None

    def step(self) -> dict[str, Any]:
        if self._failure is not None:
            return dict(self._failure)
        try:
            answer = self._answer(self._one_step_or_leave)
            if answer is None:
                # Once Leave was handled: its traceback keeps every tensor of the step in memory.
                answer = self._answer(self._left)
            return self._stopped_by(answer) if isinstance(answer, str) else dict(answer or EXITED)
        finally:
            self._heartbeat.phase(Phase.IDLE)

    def _answer(self, work: Callable[[], dict[str, Any] | None]) -> Mapping[str, Any] | str | None:
        """Return the result of `work`, or the text of its error, which ends the trial and nothing else."""
        try:
            return work()
        except BaseException as error:  # noqa: BLE001 - a user's code may also exit, or raise KeyboardInterrupt
            text = error_text(error)
            PRINTS.settle()
            return EXITED if text is None else text

    def sweep_leave(self) -> None:
        """Leave at the next step, before it begins."""
        self._leaves = True

    def _one_step_or_leave(self) -> dict[str, Any] | None:
        """Return a step's result; None when the trial must leave."""
        try:
            return None if self._leaves else self._one_step()
        except Leave:
            return None

    def _left(self) -> dict[str, Any]:
        """Save the trial in the middle of its epoch and free its memory; the answer holds no epoch."""
        self._heartbeat.phase(Phase.PREPARING)
        # With the step: Tune would count this answer as one more.
        left: dict[str, Any] = {LEFT: True, STEP: self._step, SMALLER: self._smaller()}
        if keeps_checkpoints(type(self)):
            # It replaces the last epoch's own checkpoint: nothing that was trained since is lost.
            left[CHECKPOINT] = str(self.sweep_checkpoints.save(self._step))
        self._release()
        return left

    def _stopped_by(self, text: str) -> dict[str, Any]:
        """Return the answer after an error: the trial's end, unless memory ran out and an attempt can take less."""
        reason = failure_reason(text)
        smaller = _smaller_or_none(self) if reason is EndReason.OOM else None
        if smaller is None:
            return failed(reason, text)
        self._release()
        return {LEFT: True, STEP: self._step, OUT_OF_MEMORY: text[-MAX_ERROR_CHARACTERS:], SMALLER: smaller}

    def _release(self) -> None:
        self.sweep_checkpoints.settle()
        self.sweep_release()  # type: ignore[attr-defined]  # of CheckpointFolders
        self._heartbeat.drop()

    def _smaller(self) -> Memory | None:
        """Return the trainable's offer for less memory. Raises TypeError if it cannot travel as JSON."""
        offer = self.sweep_smaller()  # type: ignore[attr-defined]  # of CheckpointFolders
        if offer is not None and not isinstance(offer, dict):
            raise TypeError(f"sweep_smaller() returned {offer!r}: it must be a dict or None")
        taken: Memory | None = json.loads(json.dumps(offer))
        return taken

    def _one_step(self) -> dict[str, Any]:
        PRINTS.mend()
        self.sweep_gate.wait()
        began = time.monotonic()
        self._heartbeat.begin_step()
        given: Any = super().step()
        self._heartbeat.end_step()
        elapsed_s = time.monotonic() - began
        # A function's report is plain already, in the function's thread: its errors name the function's line.
        result = dict(given) if isinstance(self, FunctionTrial) else own_result(type(self), given, self.sweep_metric)
        if END in result and STEP not in result and result[END] == EndReason.OOM:
            # Caught by the class of a function.
            return self._stopped_by(result[ERROR])
        if RESULT_DUPLICATE in result or (END in result and STEP not in result):
            return result
        if isinstance(self, FunctionTrial):
            if self.sweep_began_anew():
                # Its epochs run again from the first, and so are numbered from the first.
                self._step = 0
            # Tune would count from report to report, pauses included.
            result.pop(SECONDS, None)
        result.setdefault(SECONDS, elapsed_s)
        self._step = result[STEP] = max(self._step + 1, result.get(STEP, 0))
        return self._saved(result, float(result[SECONDS]))

    def _saved(self, result: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Return the result of a step with the path of the newest checkpoint, if that was not reported before."""
        path: Path | None = None
        if isinstance(self, FunctionTrial):
            if self.sweep_offers_checkpoint():
                path = self.sweep_checkpoints.save(self._step)
                self.sweep_hand_back(path)
        elif keeps_checkpoints(type(self)):
            ended = bool(result.get("done")) or (self._last_step is not None and self._step >= self._last_step)
            path = self.sweep_checkpoints.end_step(self._step, seconds, ended=ended)
        return result if path is None else {**result, CHECKPOINT: str(path)}

    def get_auto_filled_metrics(self, *arguments: Any, **named: Any) -> dict[str, Any]:
        # Tune would send the config with each result, and a user's code may have put anything into it.
        filled: dict[str, Any] = super().get_auto_filled_metrics(*arguments, **named)
        return {key: value for key, value in filled.items() if key != "config"}

    def sweep_whereabouts(self) -> Whereabouts:
        node, kept = str(ray.get_runtime_context().get_node_id()), self.sweep_checkpoints
        refused, smaller = getattr(self, "sweep_refused_device", None), _smaller_or_none(self)
        return Whereabouts(node, os.getpid(), kept.resumed_step, tuple(kept.unusable), smaller, refused)


def _smaller_or_none(trial: SupervisedTrainable) -> Memory | None:
    """Return the offer of a trial for less memory; the trainable may be half built: None if it raises."""
    try:
        return trial._smaller()  # noqa: SLF001 - a part of this class
    except Exception:
        # The trial stopped for another reason, which must not be hidden by this error.
        LOG.exception("trial %s cannot say how to take less memory", trial.sweep_number)
        return None
