"""Check each private name of Ray in actors/driver/ray_private.py. A new Ray fails here first."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from ray.air.execution._internal import RayActorManager
from ray.core.generated import common_pb2, node_manager_pb2, node_manager_pb2_grpc
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError, RaySystemError, WorkerCrashedError
from ray.scripts.scripts import start
from ray.tune.execution import class_cache
from ray.tune.execution.tune_controller import TrialRunnerWrapper, TuneController
from ray.tune.experiment import Trial
from ray.tune.experiment.trial import _TemporaryTrialState
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.registry import _Registry
from ray.tune.search.optuna import OptunaSearch
from ray.tune.trainable import Trainable
from ray.tune.utils.callback import _create_default_callbacks

from actors.driver import ray_private
from actors.driver.tuner import NoProgress
from supervisor.home import Home
from supervisor.processes.ray_head import ray_command


@pytest.fixture
def unpatched(monkeypatch):
    """Ray's own method before and after the test."""
    monkeypatch.setattr(RayActorManager, "_actor_task_failed", RayActorManager._actor_task_failed)


def failing_task(heard):
    tracked = SimpleNamespace(actor_id=1, _on_error=lambda actor, error: heard.append(error))
    return SimpleNamespace(_tracked_actor=tracked, _on_error=None)


def manager():
    return SimpleNamespace(_failed_actor_ids=set(), _cleanup_actor=lambda tracked_actor: None)


LOSSES = [OutOfMemoryError("killed"), NodeDiedError("gone"), WorkerCrashedError()]


@pytest.mark.parametrize("error", LOSSES, ids=lambda error: type(error).__name__)
def test_ray_itself_ends_the_search_at_the_loss_of_a_worker(error, unpatched):
    """Why the mapping is there; when this fails, Ray has learned it and the mapping can go."""
    original = inspect.unwrap(RayActorManager._actor_task_failed)
    if getattr(original, ray_private._MARK, False):
        original = original.__closure__[0].cell_contents
    with pytest.raises(RuntimeError, match="unexpected exception"):
        original(manager(), failing_task([]), error)


@pytest.mark.parametrize("error", LOSSES, ids=lambda error: type(error).__name__)
def test_the_loss_of_a_worker_reaches_its_trial_as_an_actors_death(error, unpatched):
    ray_private.map_worker_deaths()
    ray_private.map_worker_deaths()
    heard = []
    RayActorManager._actor_task_failed(manager(), failing_task(heard), error)
    [mapped] = heard
    assert isinstance(mapped, RayActorError)
    assert type(error).__name__ in str(mapped)


def test_a_call_without_a_ray_fails_and_starts_none():
    """RAY_ENABLE_AUTO_CONNECT=0, as drivers and these tests have it; a Ray that ignores it would start one here."""
    with pytest.raises(RaySystemError, match="not been started"):
        ray.put(1)
    assert not ray.is_initialized()


def test_rays_start_takes_every_option_of_the_head(tmp_path):
    """`--no-monitor` is not in its help."""
    command = ray_command(Home(tmp_path), 1, 1, 2)
    passed = {word.partition("=")[0] for word in command if word.startswith("--")}
    assert "--no-monitor" in passed
    assert passed <= {option for parameter in start.params for option in parameter.opts}


def test_the_controller_behind_tunes_wrapper_is_found():
    """`_tune_controller` is what TrialRunnerWrapper calls it."""
    assert "self._tune_controller = tune_controller" in inspect.getsource(TrialRunnerWrapper.__init__)
    bare = SimpleNamespace()
    assert ray_private.controller_of(bare) is bare


def test_the_names_for_going_on_and_for_idling_are_there():
    """`_schedule_trial_train(trial)`, `_trial_to_actor`, `_actor_manager.num_actor_tasks`."""
    assert list(inspect.signature(TuneController._schedule_trial_train).parameters) == ["self", "trial"]
    source = inspect.getsource(TuneController.__init__)
    assert "self._trial_to_actor:" in source
    assert "self._actor_manager = RayActorManager(" in source
    assert isinstance(RayActorManager.num_actor_tasks, property)


def test_tunes_loop_waits_for_an_event_by_the_method_that_is_wrapped():
    """`RayActorManager.next(timeout)`, which `TuneController.step` calls with a tenth of a second."""
    method = RayActorManager.next
    original = method.__closure__[0].cell_contents if getattr(method, ray_private._MARK, False) else method
    assert list(inspect.signature(original).parameters) == ["self", "timeout"]
    assert "self._actor_manager.next(timeout=0.1)" in inspect.getsource(TuneController.step)


def test_the_loop_waits_as_long_as_it_was_let_and_never_shorter_than_tune_asks(monkeypatch):
    asked = []
    monkeypatch.setattr(RayActorManager, "next", lambda self, timeout=None: asked.append(timeout))
    ray_private.wait_longer()
    ray_private.wait_longer()
    manager = RayActorManager.__new__(RayActorManager)
    controller = SimpleNamespace(_actor_manager=manager)
    manager.next(timeout=0.1)
    ray_private.let_wait(controller, 0.5)
    manager.next(timeout=0.1)
    manager.next(timeout=2.0)
    manager.next()
    ray_private.let_wait(controller, 0.0)
    manager.next(timeout=0.1)
    assert asked == [0.1, 0.5, 2.0, None, 0.1]


def test_a_trials_actor_is_where_it_is_looked_for():
    assert _TemporaryTrialState().ray_actor is None
    assert "self.temporary_state = _TemporaryTrialState()" in inspect.getsource(Trial.__init__)


def test_the_request_for_early_workers_has_every_field_that_is_sent():
    """`job_id` ends them with their driver; `keep_alive_duration_secs` keeps them while trials have all the CPUs."""
    source = inspect.getsource(class_cache)
    assert 'runtime_env = {"env_vars": env_vars}' in source, "the environment that Tune gives to a trial's worker"
    assert "env_vars = DEFAULT_ENV_VARS.copy()" in source
    asked = node_manager_pb2.PrestartWorkersRequest.DESCRIPTOR.fields_by_name
    assert {"language", "job_id", "runtime_env_info", "keep_alive_duration_secs", "num_workers"} <= set(asked)
    assert hasattr(node_manager_pb2_grpc.NodeManagerService, "PrestartWorkers")
    assert common_pb2.Language.Value("PYTHON") == common_pb2.PYTHON


def test_a_worker_imports_modules_before_it_takes_work():
    """Ray's raylet gives them to each worker by this option, from RAY_preload_python_modules."""
    raylet = Path(ray.__file__).parent / "core" / "src" / "ray" / "raylet" / "raylet"
    binary = raylet.read_bytes()
    assert b"RAY_preload_python_modules" in binary
    assert b"--worker-preload-modules=" in binary


def test_whereabouts_of_a_trial_without_an_actor_are_unknown():
    assert ray_private.whereabouts(SimpleNamespace(temporary_state=_TemporaryTrialState())) == ray_private.Whereabouts()


def test_the_names_for_counting_a_death_once_are_there():
    """Why: a trial that takes a worker over is PENDING, and Tune gives up a PENDING one whatever max_failures says.
    `_process_trial_failure(trial, exception)`, `_resetting_trials`; `run_metadata.num_failures`."""
    assert list(inspect.signature(TuneController._process_trial_failure).parameters) == ["self", "trial", "exception"]
    assert "self._resetting_trials: Set[Trial] = set()" in inspect.getsource(TuneController.__init__)
    told_twice = inspect.getsource(inspect.unwrap(RayActorManager._actor_task_failed))
    if getattr(RayActorManager._actor_task_failed, ray_private._MARK, False):
        told_twice = inspect.getsource(RayActorManager._actor_task_failed.__closure__[0].cell_contents)
    assert "tracked_actor._on_error(tracked_actor, exception)" in told_twice
    assert "tracked_actor_task._on_error(tracked_actor, exception)" in told_twice
    assert "self.run_metadata.num_failures <= self.max_failures" in inspect.getsource(Trial.should_recover)


def test_tunes_lists_of_trials_are_those_that_forget():
    """Why: Tune never takes a trial out of them. `_trials`, the sets by state, and those of its snapshot."""
    source = inspect.getsource(TuneController)
    for name in ("_live_trials: Set[Trial]", "_stopped_trials: Set[Trial]", "_failed_trials: Set[Trial]"):
        assert f"self.{name} = set()" in source
    assert "self._trials: List[Trial] = []" in source
    assert "self._trials_to_cache: Set[Trial] = set()" in source
    assert "self._trial_metadata: Dict[str, str] = {}" in source
    assert inspect.getsource(TuneController.get_trials).rstrip().endswith("return self._trials")
    assert "self._stopped_trials.discard" not in source, "Tune forgets by itself now: forget_trial can go"


def test_tunes_printer_of_progress_keeps_trials_and_ours_takes_its_place():
    """Why: Tune adds its own, which keeps each trial as a key, unless it is given one."""
    source = inspect.getsource(TrialProgressCallback)
    assert "self._completed_trials = set()" in source
    told = {name for name in vars(TrialProgressCallback) if name.startswith("on_")}
    assert told <= vars(NoProgress).keys(), "it hears of trials in a way that ours does not stop"
    given = _create_default_callbacks([NoProgress()], air_verbosity=None)
    assert [type(one) for one in given if isinstance(one, TrialProgressCallback)] == [NoProgress]


def test_rays_optuna_search_keeps_its_trials_by_their_ids():
    """Why: it never takes one out of `_ot_trials`; after its end only `_completed_trials` is asked."""
    source = inspect.getsource(OptunaSearch)
    assert "self._ot_trials = {}" in source
    assert "_ot_trials.pop" not in source
    assert source.count("if trial_id in self._completed_trials:") == 2


def test_failures_of_earlier_drivers_are_added():
    trial = SimpleNamespace(run_metadata=SimpleNamespace(num_failures=1))
    ray_private.add_failures(trial, 2)
    assert trial.run_metadata.num_failures == 3


SPARED = [
    (TuneController, "_on_trial_reset", ["self", "trial", "success"]),
    (_Registry, "get", ["self", "category", "key"]),
    (_Registry, "contains", ["self", "category", "key"]),
    (_Registry, "register", ["self", "category", "key", "value"]),
    (_Registry, "unregister", ["self", "category", "key"]),
    (Trial, "set_ray_actor", ["self", "ray_actor"]),
]


def rays_own(kind, method):
    """Ray's method, also where a test before this one has wrapped it."""
    found = getattr(kind, method)
    return found.__closure__[0].cell_contents if getattr(found, ray_private._MARK, False) else found


@pytest.fixture
def asked(monkeypatch):
    """The questions that reach Ray's own methods, which stand-ins take the place of; then those that are spared."""
    questions = []
    known = {}
    monkeypatch.setattr(TuneController, "_on_trial_reset", lambda self, trial, success: questions.append(
        (success, ray_private.whereabouts(trial))
    ))  # fmt: skip
    monkeypatch.setattr(_Registry, "get", lambda self, *key: questions.append("get") or known[key])
    monkeypatch.setattr(_Registry, "contains", lambda self, *key: questions.append("contains") or key in known)
    monkeypatch.setattr(
        _Registry, "register", lambda self, category, key, value: known.update({(category, key): value})
    )
    monkeypatch.setattr(_Registry, "unregister", lambda self, *key: known.pop(key))
    monkeypatch.setattr(Trial, "set_ray_actor", rays_own(Trial, "set_ray_actor"))
    ray_private.spare_questions()
    ray_private.spare_questions()
    return questions


@pytest.mark.parametrize(("kind", "method", "parameters"), SPARED, ids=lambda value: getattr(value, "__name__", None))
def test_the_names_for_sparing_questions_are_there(kind, method, parameters):
    assert list(inspect.signature(rays_own(kind, method)).parameters) == parameters


def test_why_questions_are_spared():
    """Fail once Ray asks less: then a wrapper can go."""
    assert "ray_actor.get_auto_filled_metrics.remote(" in inspect.getsource(rays_own(Trial, "set_ray_actor"))
    assert "_internal_kv_get(" in inspect.getsource(rays_own(_Registry, "contains"))
    assert "validate_trainable(" in inspect.getsource(Trial.__init__)
    assert "self._actor_started(tracked_actor" in inspect.getsource(rays_own(TuneController, "_on_trial_reset"))
    assert "self._callbacks.on_trial_start(" in inspect.getsource(TuneController._actor_started)
    assert "if not success:" in inspect.getsource(rays_own(TuneController, "_on_trial_reset"))
    assert inspect.getsource(Trainable.reset).rstrip().endswith("return True")


def test_a_worker_that_takes_a_trial_over_is_not_asked_where_it_is(asked):
    trial = SimpleNamespace(temporary_state=_TemporaryTrialState())
    told = ray_private.Whereabouts("node", 7, 3)
    TuneController._on_trial_reset(SimpleNamespace(), trial, told)
    TuneController._on_trial_reset(SimpleNamespace(), trial, False)
    assert asked == [(True, told), (False, ray_private.Whereabouts())]
    assert ray_private.whereabouts(trial) == ray_private.Whereabouts(), "a later worker of the trial is another one"


def test_a_trainable_is_asked_for_once_until_it_changes(asked):
    registry = _Registry(prefix="test")
    assert not registry.contains("kind", "name")
    registry.register("kind", "name", "first")
    assert [registry.contains("kind", "name"), registry.get("kind", "name")] == [True, "first"]
    assert [registry.contains("kind", "name"), registry.get("kind", "name")] == [True, "first"]
    assert asked == ["contains", "contains", "get"]
    registry.register("kind", "name", "second")
    assert registry.get("kind", "name") == "second"
    registry.unregister("kind", "name")
    assert not registry.contains("kind", "name")


def test_a_trials_actor_is_not_asked_for_default_metrics(asked):
    """An object without methods would raise AttributeError."""
    trial, actor = SimpleNamespace(temporary_state=_TemporaryTrialState()), object()
    Trial.set_ray_actor(trial, actor)
    assert trial.temporary_state.ray_actor is actor
    assert "self._default_result_or_future: Union[ray.ObjectRef, dict, None] = None" in inspect.getsource(
        Trial.__init__
    )
