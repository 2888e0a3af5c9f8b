"""Any Ray trainable, made fit for supervision: its gate, its checkpoints, its errors.

An exception becomes a last result with a reason instead of reaching Tune: Tune would throw the actor away, and could
not tell a bug, which another attempt repeats, from a worker that died.
"""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
import json
import logging
import os
import pickle
import re
import shutil
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.result import RESULT_DUPLICATE
from ray.tune.trainable.function_trainable import FunctionTrainable, wrap_function

from actors.driver.trial_registry import (
    CHECKPOINT,
    END,
    ERROR,
    LEFT,
    MAX_ERROR_CHARACTERS,
    OUT_OF_MEMORY,
    OWN_KEY,
    SMALLER,
    STEP,
    failure_reason,
)
from actors.trial.full_disk import when_there_is_space
from actors.trial.gate import Gate, Leave, flag_path, trials_folder
from actors.trial.heartbeat import Beat, Whose, beats_folder
from actors.trial.memory_retry import Memory, once_alone
from actors.trial.worker_process import dump_on_signal, prefer_for_oom
from actors.watchdog.hang_detection import Phase
from supervisor.domain.lifecycle import EndReason
from supervisor.errors import PlanError
from supervisor.processes.identity import started_at
from supervisor.sensors.trial_memory import drop_note, note_trial

KEEP_CHECKPOINTS = 2
"""The newest, and the one before it in case the newest was lost with the page cache."""

LOG = logging.getLogger("trainable")
_NAME = re.compile(r"checkpoint-(\d+)(\.pt)?")
_STATE = "state.pickle"


def resolve(name: str) -> Any:
    """What `package.module:attribute` names. Raises PlanError that says which part is missing."""
    module_name, _, attribute = name.partition(":")
    cure = "put the module's folder beside the plan, or install its package in this environment"
    if not module_name or not attribute:
        raise PlanError(f"trainable {name!r} is not of the form package.module:attribute", key="trainable")
    try:
        found = importlib.import_module(module_name)
    except ImportError as error:
        raise PlanError(
            f"trainable {name!r}: cannot import {module_name}: {error}", key="trainable", remedy=cure
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise PlanError(f"trainable {name!r}: {module_name} has no {attribute!r}", key="trainable")
        found = getattr(found, part)
    if not callable(found):
        raise PlanError(
            f"trainable {name!r} is a {type(found).__name__}, neither a function nor a class", key="trainable"
        )
    return found


def supervise(user: Any) -> type[tune.Trainable]:
    """The class that Tune runs for a user's function or Trainable class. Raises PlanError for anything else."""
    if not inspect.isclass(user):
        try:
            user = wrap_function(_reporting_errors(user))
        except ValueError as error:
            raise PlanError(f"trainable {user!r} must take one argument, config: {error}", key="trainable") from error
    elif not issubclass(user, tune.Trainable):
        raise PlanError(f"trainable {user.__name__} is a class, but no ray.tune.Trainable", key="trainable")
    bases = (SupervisedTrainable, user, CheckpointFolders)
    made: type[tune.Trainable] = type(user)(f"Supervised{user.__name__}", bases, {})
    return made


def can_be_reused(trainable: type[tune.Trainable]) -> bool:
    """Whether a worker may take the next trial: 20 ms instead of 2 to 5 s. A class must say so by `reset_config`."""
    return bool(_user_class(trainable).reset_config is not tune.Trainable.reset_config)


def keeps_checkpoints(trainable: type[tune.Trainable]) -> bool:
    """Whether its trials can leave their work and go on from there: a class that says how to save and to load."""
    user = _user_class(trainable)
    return not issubclass(user, FunctionTrainable) and (
        user.save_checkpoint is not tune.Trainable.save_checkpoint
        and user.load_checkpoint is not tune.Trainable.load_checkpoint
    )


def _user_class(trainable: type) -> Any:
    order = trainable.__mro__
    return order[order.index(SupervisedTrainable) + 1]


def failed(reason: str, text: str) -> dict[str, Any]:
    """The last result of a trial that failed."""
    return {END: reason, ERROR: text[-MAX_ERROR_CHARACTERS:], "done": True}


def _reporting_errors(function: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    @functools.wraps(function)
    def wrapped(config: dict[str, Any]) -> Any:
        try:
            return function(config)
        except Exception:  # noqa: BLE001 - whatever a user's code raises is its trial's end, and nothing else's
            text = traceback.format_exc()
            tune.report(failed(failure_reason(text).value, text))
            return None

    return wrapped


class SupervisedTrainable(tune.Trainable):
    """Stands before a user's class in the order of inheritance."""

    sweep_gate: Gate
    """Open while trials of this node may work; a class that works in batches waits at it between them."""

    sweep_batches: bool
    """A class says True when it waits at its gate before every batch, those of validation too: then a hang is noticed
    by its batches, in minutes, where that of other code is noticed by its steps, in hours."""

    sweep_memory: Memory | None = None
    """What this attempt is given to take less memory than an earlier one: what `sweep_smaller` said then."""

    def setup(self, config: dict[str, Any]) -> None:
        if OWN_KEY not in config:
            # The usual reset_config() of a user's class calls it; Tune always passes ours.
            super().setup(config)
            return
        self._begin(config, super().setup)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        if OWN_KEY not in new_config:
            # A user's setup() may well call it; Tune always passes ours.
            return bool(super().reset_config(new_config))
        self.sweep_gate.close()
        self._begin(new_config, self._reset)
        return True

    def _reset(self, config: dict[str, Any]) -> None:
        if not super().reset_config(config):
            # It clings to the trial before. In a worker of its own the new trial is not to blame for that.
            os._exit(1)

    def _begin(self, config: dict[str, Any], prepare: Callable[[dict[str, Any]], object]) -> None:
        own = config.pop(OWN_KEY)
        # setup() gets a copy of self.config; users read either.
        self.config.pop(OWN_KEY, None)
        self._folder = Path(own["folder"]) / str(own["number"])
        self.sweep_number, self.sweep_seed, self.sweep_final = int(own["number"]), int(own["seed"]), bool(own["final"])
        self._step, self.sweep_memory = 0, own["memory"]
        self._resumed_step: int | None = None
        self._unusable: list[str] = []
        self._failure: dict[str, Any] | None = None
        node = ray.get_runtime_context().get_node_id()
        self._beat = self._begin_beat(own, beats_folder(own["gate"], node))
        self.sweep_gate = Gate(flag_path(own["gate"], node), trial=self.sweep_number, beat=self._beat)
        self._notes = trials_folder(own["gate"], node)
        note_trial(self._notes, os.getpid(), Path(own["folder"]).name, self.sweep_number)
        # What is left in its first epoch, too, is saved.
        self.sweep_gate.may_be_released = self._keeps_checkpoints()
        if own["spent"] is not None:
            self._failure = failed(EndReason.OOM.value, own["spent"])
        elif (text := self._prepared(own["checkpoint"], lambda: prepare(copy.deepcopy(config)))) is not None:
            self._failure = self._stopped_by(text)
        self._beat.phase(Phase.IDLE)

    def _prepared(self, checkpoint: str | None, prepare: Callable[[], object]) -> str | None:
        """Get ready, from the checkpoint where there is one; the traceback where that failed."""
        try:
            prepare()
            if checkpoint is not None and self._keeps_checkpoints():
                self._resume(Path(checkpoint), prepare)
            # Now rather than when memory has run out: what it offers must be of use then.
            self._smaller()
        except Exception:  # noqa: BLE001 - whatever a user's code raises is its trial's end, and nothing else's
            return traceback.format_exc()
        return None

    def _begin_beat(self, own: Mapping[str, Any], beats: Path) -> Beat:
        """From here on the node's watchdog sees how this attempt gets on, and can have its stacks."""
        prefer_for_oom()
        dump_on_signal(beats)
        pid = os.getpid()
        experiment = Path(own["folder"]).name
        whose = Whose(experiment, self.sweep_number, int(own["attempt"]), str(self._folder), pid, started_at(pid))
        # Of the user's class, which may never have heard of it.
        return Beat(beats, whose, in_batches=bool(getattr(_user_class(type(self)), "sweep_batches", False)))

    def step(self) -> dict[str, Any]:
        if self._failure is not None:
            return self._failure
        try:
            result, text = self._step_or_text()
            if result is not None:
                return result
            # Not while the exception is handled: its traceback holds on to every tensor of the step.
            left, text = self._left_or_text() if text is None else (None, text)
            return self._stopped_by(text) if left is None else left
        finally:
            self._beat.phase(Phase.IDLE)

    def _step_or_text(self) -> tuple[dict[str, Any] | None, str | None]:
        """A step's result, or the traceback that ended it; neither when the gate wants the work to be left."""
        try:
            return self._one_step(), None
        except Leave:
            return None, None
        except Exception:  # noqa: BLE001 - whatever a user's code raises is its trial's end, and nothing else's
            return None, traceback.format_exc()

    def _left_or_text(self) -> tuple[dict[str, Any] | None, str]:
        """The answer of a trial that leaves its work, or the traceback of why it could not be saved."""
        try:
            return self._left(), ""
        except Exception:  # noqa: BLE001 - whatever a user's code raises is its trial's end, and nothing else's
            return None, traceback.format_exc()

    def _left(self) -> dict[str, Any]:
        """Stand still where the gate said so, without the model: the answer is no epoch."""
        self._beat.phase(Phase.PREPARING)
        # The step is said, since Tune would count this as one more.
        left: dict[str, Any] = {LEFT: True, STEP: self._step, SMALLER: self._smaller()}
        if self.sweep_gate.may_be_released:
            # In place of the last epoch's own: what was trained since is not lost.
            left[CHECKPOINT] = str(self._save())
        self._let_go()
        return left

    def _stopped_by(self, text: str) -> dict[str, Any]:
        """The answer after an error: the trial's end, unless memory ran out and there is a way to take less."""
        reason = failure_reason(text)
        smaller = self._smaller_or_none() if reason is EndReason.OOM else None
        if smaller is None:
            return failed(reason.value, text)
        self._let_go()
        return {LEFT: True, STEP: self._step, OUT_OF_MEMORY: text[-MAX_ERROR_CHARACTERS:], SMALLER: smaller}

    def _let_go(self) -> None:
        self.sweep_release()  # type: ignore[attr-defined]  # of CheckpointFolders
        drop_note(self._notes, os.getpid())
        self._beat.drop()

    def _smaller(self) -> Memory | None:
        """What the trainable offers. Raises TypeError for what can be no offer: it goes by JSON."""
        offer = self.sweep_smaller()  # type: ignore[attr-defined]  # of CheckpointFolders
        if offer is not None and not isinstance(offer, dict):
            raise TypeError(f"sweep_smaller() returned {offer!r}: it must be a dict or None")
        taken: Memory | None = json.loads(json.dumps(offer))
        return taken

    def _smaller_or_none(self) -> Memory | None:
        """Of one that may be half built, or half torn down: what it cannot say it does not offer."""
        try:
            return self._smaller()
        except Exception:
            # Whatever a user's code raises then, it is not why this trial stands still.
            LOG.exception("trial %s cannot say how to take less memory", self.sweep_number)
            return None

    def _one_step(self) -> dict[str, Any]:
        self.sweep_gate.wait()
        began = time.monotonic()
        self._beat.begin_step()
        result = dict(super().step())
        self._beat.end_step()
        elapsed_s = time.monotonic() - began
        if END in result and STEP not in result and result[END] == EndReason.OOM:
            # A function's, which caught it itself.
            return self._stopped_by(result[ERROR])
        if RESULT_DUPLICATE in result or (END in result and STEP not in result):
            return result
        result.setdefault(STEP, self._step + 1)
        self._step = int(result[STEP])
        if "time_this_iter_s" not in result or isinstance(self, FunctionTrainable):
            # Tune counts from report to report, pauses included.
            result["time_this_iter_s"] = elapsed_s
        if self._keeps_checkpoints():
            result[CHECKPOINT] = str(self._save())
        return result

    def sweep_whereabouts(self) -> tuple[str, int, int | None, tuple[str, ...], Memory | None]:
        """As ray_private.Whereabouts."""
        node = str(ray.get_runtime_context().get_node_id())
        return node, os.getpid(), self._resumed_step, tuple(self._unusable), self._smaller_or_none()

    def _keeps_checkpoints(self) -> bool:
        return keeps_checkpoints(type(self))

    def _kept(self) -> list[tuple[int, Path]]:
        """The trial's checkpoints on disk, by step."""
        if not self._folder.is_dir():
            return []
        named = ((_NAME.fullmatch(entry.name), entry) for entry in self._folder.iterdir())
        return sorted((int(found[1]), entry) for found, entry in named if found)

    def _save(self) -> Path:
        """The checkpoint of this step; on a full disk once there is space again."""
        return when_there_is_space(self._save_now, self._folder.parent, lambda: self._beat.phase(Phase.WAITING))

    def _save_now(self) -> Path:
        """One checkpoint, written aside and then named; older ones beyond KEEP_CHECKPOINTS go."""
        # Each time anew: only who waits for space may be silent for ever.
        self._beat.phase(Phase.PREPARING)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path: Path = self.sweep_save(self._folder, self._step)  # type: ignore[attr-defined]  # of CheckpointFolders
        for _, old in self._kept()[:-KEEP_CHECKPOINTS]:
            shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
        return path

    def _resume(self, newest: Path, begin_anew: Callable[[], object]) -> None:
        """Go on from that checkpoint; from the one before it, or from nothing, where it cannot be read.

        A torn file costs epochs, which run again, and not the trial.
        """
        limit = _step_of(newest)
        kept = [(step, path) for step, path in self._kept() if step <= limit]
        if limit not in dict(kept):
            self._unusable.append(str(newest))
        for step, path in reversed(kept):
            try:
                self.sweep_load(path)  # type: ignore[attr-defined]  # of CheckpointFolders
            except Exception:
                # Whatever a damaged file makes a user's code raise. Half loaded is worse than not at all.
                LOG.exception("trial %s: %s cannot be used", self.sweep_number, path)
                self._unusable.append(str(path))
                begin_anew()
            else:
                self._step = self._resumed_step = step
                return
        LOG.warning("trial %s begins anew: no checkpoint up to %s can be used", self.sweep_number, newest)


def _step_of(checkpoint: Path) -> int:
    found = _NAME.fullmatch(checkpoint.name)
    if found is None:
        raise ValueError(f"{checkpoint} is not named as a checkpoint")
    return int(found[1])


class CheckpointFolders(tune.Trainable):
    """Stands behind a user's class: a checkpoint is a folder, unless the class has a better way of its own."""

    def sweep_release(self) -> None:
        """Let go of memory; the next thing that happens is a reset or the end. For classes that hold much."""

    def sweep_smaller(self) -> Memory | None:
        """What the next attempt is given as `sweep_memory`, so that it takes less memory; None: nothing is left to try.

        For a class that says nothing else: once more, with the machine to itself.
        """
        return once_alone(self.sweep_memory)  # type: ignore[attr-defined]  # of SupervisedTrainable

    def sweep_save(self, folder: Path, step: int) -> Path:
        """Write the checkpoint of a step into the trial's folder, atomically; its path."""
        final, fresh = folder / f"checkpoint-{step}", folder / f".fresh-{step}"
        if fresh.exists():
            shutil.rmtree(fresh)
        fresh.mkdir(mode=0o700)
        state = self.save_checkpoint(str(fresh))
        if isinstance(state, dict):
            (fresh / _STATE).write_bytes(pickle.dumps(state))
        for path in (*fresh.rglob("*"), fresh):
            if not path.is_symlink():
                _sync(path)
        if final.exists():
            shutil.rmtree(final)
        fresh.rename(final)
        _sync(folder)
        return final

    def sweep_load(self, path: Path) -> None:
        """Take up what `sweep_save` wrote."""
        state = path / _STATE
        # Ours alone to write: the run's folder is 0700.
        taken: Any = pickle.loads(state.read_bytes()) if state.exists() else str(path)  # noqa: S301
        self.load_checkpoint(taken)


def _sync(path: Path) -> None:
    """To the disk, before a name promises that it is there: a power cut must not leave an empty checkpoint."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def own_settings(folder: Path, gate: str, seed: int) -> Mapping[str, Any]:
    """What every trial's config carries under OWN_KEY besides its number, attempt and checkpoint."""
    return {"folder": str(folder), "gate": gate, "seed": seed}
