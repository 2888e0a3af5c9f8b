"""The only file that uses private names of Ray, each with its reason.

pyproject.toml pins Ray because of this file; tests/integration/test_ray_private.py fails when a name goes.
"""

from __future__ import annotations

# ruff: noqa: SLF001 - this file exists to use private names
import importlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import ray
import ray.actor
import ray.remote_function
from ray._private import accelerators, grpc_utils
from ray._private.utils import get_runtime_env_info
from ray.air.execution._internal import RayActorManager
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError, WorkerCrashedError
from ray.runtime_env import RuntimeEnv
from ray.tune.execution.class_cache import DEFAULT_ENV_VARS, ENV_VARS_TO_PROPAGATE
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.registry import _Registry
from ray.util.placement_group import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from actors.trial.result_keys import Whereabouts

WHEREABOUTS_TIMEOUT_S = 10.0

KEEP_WORKER_S = 86_400
"""Bounds how long a worker that was started early waits, in seconds; its job's end ends it sooner."""
START_WORKERS_WITHIN_S = 10.0

_MARK, _LEAST_WAIT = "_sweep_wraps", "_sweep_least_wait_s"
_TOLD = "sweep_whereabouts"
"""Names the part of a trial's state that has the answer of its takeover, while that is handled."""


def controller_of(passed: Any) -> Any:
    """Return the TuneController: `passed` by Tune to a scheduler is it, or a wrapper that warns at private names."""
    return getattr(passed, "_tune_controller", passed)


def continue_trial(passed: Any, trial: Trial) -> bool:
    """Run the next step of a trial that was answered NOOP; return False if it cannot run any more.

    Tune has no public way to continue after NOOP; PAUSE, its public hold, frees the actor and takes 7 to 13 s to undo.
    """
    controller = controller_of(passed)
    if trial.status != Trial.RUNNING or trial not in controller._trial_to_actor:
        return False
    controller._schedule_trial_train(trial)
    return True


def ask_to_leave(passed: Any, trial: Trial) -> None:
    """Let a trial that was answered NOOP save itself and leave its work; its next answer says so."""
    actor: Any = trial.temporary_state.ray_actor
    if actor is not None:
        # An actor's calls run in their order, so this one comes before the step.
        actor.sweep_leave.remote()
    continue_trial(passed, trial)


def release_trial(passed: Any, trial: Trial) -> None:
    """Take a trial that waits off its worker; it stays PAUSED until the scheduler chooses it again.

    Tune's own PAUSE would first save it by Tune's method: 13 s for a second copy of its checkpoint.
    """
    controller = controller_of(passed)
    if trial.status != Trial.RUNNING or trial not in controller._trial_to_actor:
        return
    actor: Any = trial.temporary_state.ray_actor
    if actor is not None:
        # Tune may keep the worker for a later trial; the model must not stay in it.
        actor.sweep_release.remote()
    controller.pause_trial(trial, should_checkpoint=False)


def forget_trial(passed: Any, trial: Trial) -> bool:
    """Take a trial that has ended out of Tune's lists; return False while it has not ended, or still has its worker.

    Tune keeps each trial to the end of the search with the statistics of its metrics, looks at all of them whenever
    none is at work, gives all to its scheduler in each round and writes all into its last snapshot. The store has them.
    """
    controller = controller_of(passed)
    if trial.status not in (Trial.TERMINATED, Trial.ERROR) or trial in controller._trial_to_actor:
        return False
    trials: list[Trial] = controller._trials
    if trial in trials:
        trials.remove(trial)
    for known in (
        controller._live_trials, controller._stopped_trials, controller._failed_trials, controller._trials_to_cache
    ):  # fmt: skip
        known.discard(trial)
    controller._trial_metadata.pop(trial.trial_id, None)
    return True


def forget_suggestion(search: Any, trial_id: str) -> None:
    """Take a trial that has ended out of OptunaSearch's own dict, which it never shortens; the study has the trial."""
    search._ot_trials.pop(trial_id, None)


def is_idle(passed: Any) -> bool:
    """Return whether no actor is at work: then Tune's loop does not wait, 2,000 rounds a second, 60 % of a core."""
    return bool(controller_of(passed)._actor_manager.num_actor_tasks == 0)


def let_wait(passed: Any, seconds: float) -> None:
    """Let Tune's loop wait for an event for at least `seconds` from its next round on (`wait_longer`)."""
    setattr(controller_of(passed)._actor_manager, _LEAST_WAIT, seconds)


def wait_longer() -> None:
    """Make Tune's loop wait as long as `let_wait` says. A second call changes nothing.

    It passes a tenth of a second: ten rounds a second in which nothing happens. Every event of an actor ends the wait,
    so no result comes later.
    """

    def longer(original: Any, self: Any, timeout: float | None = None) -> Any:
        least_s: float = getattr(self, _LEAST_WAIT, 0.0)
        return original(self, None if timeout is None else max(timeout, least_s))

    _wrap(RayActorManager, "next", longer)


def whereabouts(trial: Trial) -> Whereabouts:
    """Return where a started trial's worker runs: ask it, if it has not said so; the default without an answer in time.

    Tune gives a callback node and pid only with the first result; a trial that hangs in its first step needs both.
    """
    told: Whereabouts | None = getattr(trial.temporary_state, _TOLD, None)
    if told is not None:
        return told
    actor: Any = trial.temporary_state.ray_actor
    if actor is None:
        return Whereabouts()
    try:
        answer: Any = ray.get(actor.sweep_whereabouts.remote(), timeout=WHEREABOUTS_TIMEOUT_S)
    except ray.exceptions.RayError:
        # It has just died, or is stuck: Tune will report that.
        return Whereabouts()
    found: Whereabouts = answer
    return found


def map_worker_deaths() -> None:
    """Make the loss of one worker fail one trial only. A second call changes nothing.

    Tune's actor manager handles RayActorError and RayTaskError; three others mean the same, but make Tuner.fit() raise
    RuntimeError, which ends the whole search.
    """

    def mapped(original: Any, self: Any, tracked_actor_task: Any, exception: Exception) -> Any:
        if isinstance(exception, OutOfMemoryError | NodeDiedError | WorkerCrashedError):
            exception = RayActorError(error_msg=f"{type(exception).__name__}: {str(exception)[:2000]}")
        return original(self, tracked_actor_task, exception)

    _wrap(RayActorManager, "_actor_task_failed", mapped)


def count_deaths_once() -> None:
    """Make the death of a worker during its takeover cost one attempt. A second call changes nothing.

    Tune handles such a death twice, by the actor and by its task. The first puts the trial back to PENDING; the second
    finds it there and ends it for good, whatever max_failures is.
    """

    def once(original: Any, self: Any, trial: Trial, exception: Exception) -> None:
        if isinstance(exception, RayActorError):
            # Otherwise it would wait for its worker's reset for ever.
            self._resetting_trials.discard(trial)
            if trial.status == Trial.PENDING:
                return
        original(self, trial, exception)

    _wrap(TuneController, "_process_trial_failure", once)


def spare_questions() -> None:
    """Leave out what Tune asks for each trial, and knows or does not need. A second call changes nothing.

    Each question is a round trip to another process, which a trial that takes a worker over waits for.
    """
    _hear_takeovers()
    _remember_trainables()
    _ask_for_no_defaults()


def _hear_takeovers() -> None:
    """Take where a worker runs from its answer to the takeover: SupervisedTrainable.reset returns it, for True."""

    def heard(original: Any, self: Any, trial: Trial, success: Any) -> None:
        if isinstance(success, Whereabouts):
            setattr(trial.temporary_state, _TOLD, success)
        try:
            original(self, trial, bool(success))
        finally:
            # A later worker of the same trial is another one.
            trial.temporary_state.__dict__.pop(_TOLD, None)

    _wrap(TuneController, "_on_trial_reset", heard)


def _remember_trainables() -> None:
    """Ask Ray's control service for a trainable once, not three times a trial."""
    known: dict[tuple[str, str], Any] = {}

    def got(original: Any, self: Any, category: str, key: str) -> Any:
        if (category, key) not in known:
            known[category, key] = original(self, category, key)
        return known[category, key]

    def contains(original: Any, self: Any, category: str, key: str) -> bool:
        return (category, key) in known or bool(original(self, category, key))

    def changed(original: Any, self: Any, category: str, key: str, *value: Any) -> None:
        known.pop((category, key), None)
        original(self, category, key, *value)

    _wrap(_Registry, "get", got)
    _wrap(_Registry, "contains", contains)
    _wrap(_Registry, "register", changed)
    _wrap(_Registry, "unregister", changed)


def _ask_for_no_defaults() -> None:
    """Give a trial its actor without asking that for its default metrics, which Tune does twice a trial.

    They stand for the result of a trial that never reports; ours are judged by what they report.
    """

    def given(original: Any, self: Trial, ray_actor: Any) -> None:
        self.temporary_state.ray_actor = ray_actor

    _wrap(Trial, "set_ray_actor", given)


def _wrap(kind: Any, method: str, wrapper: Callable[..., Any]) -> None:
    """Replace a method of Ray's class by `wrapper(original, self, ...)`, once."""
    original = getattr(kind, method)
    if hasattr(original, _MARK):
        return

    def wrapped(self: Any, *arguments: Any, **named: Any) -> Any:
        return wrapper(original, self, *arguments, **named)

    setattr(wrapped, _MARK, True)
    setattr(kind, method, wrapped)


def gpus_of_this_machine() -> int:
    """Return how many GPUs a head that starts here will have; no public name tells it before the head runs."""
    found = [0]
    for manager in accelerators.get_all_accelerator_managers():
        if manager.get_resource_name() == "GPU":
            count, visible = (
                manager.get_current_node_num_accelerators(),
                manager.get_current_process_visible_accelerator_ids(),
            )
            found.append(count if visible is None else min(count, len(visible)))
    return max(found)


def add_failures(trial: Trial, count: int) -> None:
    """Count `count` failures of earlier drivers against a trial's max_failures."""
    trial.run_metadata.num_failures += count


def name_worker(name: str) -> None:
    """Give this worker's process a name for `ps` and Ray's dashboard, until its present call ends.

    Ray names a worker for its class and sets that name again after each call; the actor's own name is fixed, and a
    reused worker has many trials.
    """
    ray._raylet.setproctitle(f"ray::{name}")  # type: ignore[attr-defined]


def start_workers(count: int) -> None:
    """Start idle workers of this driver's job on its node; its first trials take them. Raises ConnectionError.

    Ray starts workers early only for the first driver of a session, and no public name asks for more. A worker that has
    run a task never becomes an actor's, so tasks cannot serve for this.
    """
    # Only a driver that waits for its turn needs these.
    grpc = importlib.import_module("grpc")
    common, node_manager, services = (
        importlib.import_module(f"ray.core.generated.{name}")
        for name in ("common_pb2", "node_manager_pb2", "node_manager_pb2_grpc")
    )
    here = ray.get_runtime_context()
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    own = next(node for node in nodes if node["NodeID"] == here.get_node_id())
    # A worker serves only actors of its own environment, and Tune gives one to those of its trials.
    own_variables = {name: os.environ[name] for name in ENV_VARS_TO_PROPAGATE if name in os.environ}
    environment = RuntimeEnv(env_vars={**DEFAULT_ENV_VARS, **own_variables})
    request = node_manager.PrestartWorkersRequest(
        language=common.Language.Value("PYTHON"),
        job_id=bytes.fromhex(here.get_job_id()),
        runtime_env_info=get_runtime_env_info(environment),
        keep_alive_duration_secs=KEEP_WORKER_S,
        num_workers=count,
    )
    with grpc_utils.init_grpc_channel(f"{own['NodeManagerAddress']}:{own['NodeManagerPort']}") as channel:
        try:
            services.NodeManagerServiceStub(channel).PrestartWorkers(request, timeout=START_WORKERS_WITHIN_S)
        except grpc.RpcError as error:
            raise ConnectionError(f"Ray's node starts no workers early: {error}") from error


def refuse_unreserved_tasks() -> None:
    """Make a Ray task or actor that this worker's trial starts fail at once if the trial has no share for it.

    It would wait for ever. Ray's own check knows functions only, and asks once in a worker's life: the second trial
    of a reused worker hangs.
    """
    os.environ["TUNE_DISABLE_RESOURCE_CHECKS"] = "1"
    ray.actor._actor_launch_hook = ray.remote_function._task_launch_hook = _check_reserved  # type: ignore[assignment]


def _check_reserved(started: Any, resources: Mapping[str, float], strategy: Any) -> None:
    # An actor without options needs a CPU to be placed and none to live; Ray keeps the first from its hook.
    placing: Mapping[str, float] = sys._getframe(1).f_locals.get("actor_placement_resources") or {}
    wanted = {name: share for name, share in {**resources, **placing}.items() if share > 0}
    if not wanted or not isinstance(strategy, PlacementGroupSchedulingStrategy):
        return
    group = get_current_placement_group()
    if group is None or strategy.placement_group is None or strategy.placement_group.id != group.id:
        return
    # The first share is the trial's own.
    if not any(
        all(bundle.get(name, 0) >= share for name, share in wanted.items()) for bundle in group.bundle_specs[1:]
    ):
        share = ", ".join(f"{name.lower()}: {amount:g}" for name, amount in wanted.items())
        kind = "actor" if started.class_name else "task"
        raise RuntimeError(
            f"the trial starts the Ray {kind} {started.module_name}.{started.class_name or started.function_name}, "
            f"and its plan reserves no share for it: add `nested: [{{{share}}}]` to the plan's `resources`, an entry "
            "for each that runs at a time"
        )
