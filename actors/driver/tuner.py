"""Builds the Tuner of one experiment at each driver start, and runs it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.progress_reporter import TrialProgressCallback

from actors.driver import ray_private
from actors.driver.commands_in_force import CommandsInForce, MemoryGuard
from actors.driver.daemon_link import DaemonLink
from actors.driver.pruner import pruner, replay
from actors.driver.recorder import Recorder
from actors.driver.scheduler import HardwareAwareScheduler, SchedulerLimits
from actors.driver.search import open_search
from actors.driver.trial_registry import TrialRegistry
from actors.driver.trials_at_once import TrialsAtOnce
from actors.driver.watchdog_links import WatchdogLinks
from actors.trial.named_worker import named
from actors.trial.result_keys import OWN_KEY, STEP
from actors.trial.supervised import supervise
from actors.trial.user_class import can_be_reused, keeps_checkpoints
from actors.trial.user_code import resolve
from supervisor.domain.checkpoint_schedule import CHECKPOINT_EVERY_S
from supervisor.domain.command import Action
from supervisor.domain.finalists import is_final
from supervisor.domain.messages import Begin
from supervisor.domain.trials.extension import as_searched
from supervisor.governor.policy import Policy

TUNE_FOLDER = "tune"
BUILT_IN = {"patchtst": "actors.trial.patchtst:PatchTSTTrainable"}


def fit(
    begin: Begin, registry: TrialRegistry, in_force: CommandsInForce, link: DaemonLink, watchdogs: WatchdogLinks
) -> None:
    """Run the trials that are left. Raises PlanError for an unknown trainable, and scheduler.Finished."""
    ray_private.map_worker_deaths()
    ray_private.count_deaths_once()
    ray_private.spare_questions()
    ray_private.wait_longer()
    spec, folder = begin.experiment, Path(begin.folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Ray's own folders of an earlier driver: nothing reads them, and Ray never deletes them.
    shutil.rmtree(folder / TUNE_FOLDER, ignore_errors=True)
    # It would warn of each trial that files of its default loggers, which are off, are missing.
    logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)
    user = resolve(BUILT_IN.get(spec["trainable"], spec["trainable"]))
    trainable = named(supervise(user, ray_private.refuse_unreserved_tasks), ray_private.name_worker)
    at_once = TrialsAtOnce(spec, link.send, lambda: in_force.for_new_trials().action is not Action.RUN)
    search = open_search(spec, begin.trials, folder, registry, in_force, link, at_once)
    recorder = Recorder(
        link, registry, in_force, lambda node, number, attempt: watchdogs.how_died(node, spec["name"], number, attempt)
    )
    saves = keeps_checkpoints(trainable)
    scheduler = _scheduler(begin, registry, in_force, recorder, watchdogs, at_once, saves=saves)
    if saves:
        in_force.on_change(MemoryGuard(in_force, registry).look)
    tuner = tune.Tuner(
        tune.with_resources(trainable, _shares(spec["resources"])),
        param_space={**spec["config"], OWN_KEY: _own_settings(spec, folder, begin.watchdog["gate"])},
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=scheduler,
            # The search says when it has given all: a person may add trials meanwhile.
            num_samples=-1,
            max_concurrent_trials=at_once.most,
            reuse_actors=can_be_reused(trainable),
            trial_dirname_creator=_folder_name,
        ),
        run_config=tune.RunConfig(
            name=spec["name"],
            storage_path=str(folder / TUNE_FOLDER),
            verbose=0,
            callbacks=[recorder, NoProgress()],
            failure_config=tune.FailureConfig(max_failures=int(spec["max_failures"])),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            stop={STEP: int(spec["max_epochs"])} if spec["max_epochs"] else None,
        ),
    )
    tuner.fit()


def _scheduler(
    begin: Begin,
    registry: TrialRegistry,
    in_force: CommandsInForce,
    recorder: Recorder,
    watchdogs: WatchdogLinks,
    at_once: TrialsAtOnce,
    *,
    saves: bool,
) -> HardwareAwareScheduler:
    spec = begin.experiment
    inner = pruner(spec["pruner"], spec["metric"], spec["mode"])
    limits = SchedulerLimits(
        max_t=spec["pruner"].get("max_t") or spec["max_epochs"],
        at_once=at_once,
        release_after_s=Policy.from_mapping(begin.watchdog["policy"]).release_after_s,
        saves=saves,
    )
    search = (trial for trial in begin.trials if not is_final(spec, int(trial["number"])))
    replay(inner, (as_searched(spec, trial) for trial in search), spec["metric"])
    return HardwareAwareScheduler(inner, registry, in_force, recorder, limits, watchdogs.leave)


def _own_settings(spec: Mapping[str, Any], folder: Path, gate: str) -> Mapping[str, Any]:
    """Return the part of a config's OWN_KEY that all trials of an experiment share; search adds a trial's own."""
    return {
        "experiment": spec["name"], "seed": int(spec["seed"]), "metric": spec["metric"], "folder": str(folder),
        "gate": gate, "checkpoint_every_s": spec.get("checkpoint_every_s", CHECKPOINT_EVERY_S),
        "last_step": spec["max_epochs"],
    }  # fmt: skip


def _shares(resources: Mapping[str, Any]) -> tune.PlacementGroupFactory:
    """Return the share of a trial, then those of the tasks that it starts itself."""
    bundles = [resources, *resources.get("nested", ())]
    return tune.PlacementGroupFactory([{"CPU": one["cpu"], "GPU": one.get("gpu", 0.0)} for one in bundles])


def _folder_name(trial: Any) -> str:
    own = trial.config[OWN_KEY]
    return f"{own['number']}-{own['attempt']}"


class NoProgress(TrialProgressCallback):
    """Takes the place of Tune's printer of progress, which keeps each trial for ever, though it prints nothing here."""

    def __init__(self) -> None:
        super().__init__()

    def on_trial_result(self, *facts: Any, **named: Any) -> None:
        """Print nothing, and keep nothing."""

    def on_trial_error(self, *facts: Any, **named: Any) -> None:
        """Print nothing, and keep nothing."""

    def on_trial_complete(self, *facts: Any, **named: Any) -> None:
        """Print nothing, and keep nothing."""
