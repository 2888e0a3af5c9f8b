"""Does what an experiment's driver can do before its turn: its workers start, and import what the trials need."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from actors.driver import ray_private
from actors.driver.tuner import BUILT_IN
from actors.trial.warm_worker import leave_tickets
from supervisor.processes.environment import WARM_WORKERS, thread_environment

LOG = logging.getLogger("driver")

FOR_EVERY_TRIAL = ("actors.trial.named_worker", "actors.trial.supervised")
FOR_A_BUILT_IN_TRIAL = ("actors.trial.patchtst", "training.session")


def warm_workers(spec: Mapping[str, Any], count: int) -> None:
    """Start `count` workers that import what the trials of an experiment need; the first trials take them.

    Where that fails the trials' own workers import it, as ever.
    """
    folder = os.environ.get(WARM_WORKERS)
    if folder is None or count < 1:
        return
    modules, environment = what_to_import(spec)
    try:
        leave_tickets(Path(folder), count, modules, environment)
        ray_private.start_workers(count)
    except OSError as error:
        LOG.warning("no worker is started before its trial: %s", error)


def what_to_import(spec: Mapping[str, Any]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the modules that the trials of an experiment need, and the variables that must be set before.

    A user's own trainable is left to its trial: its import may do anything.
    """
    if spec["trainable"] not in BUILT_IN:
        return FOR_EVERY_TRIAL, {}
    return FOR_EVERY_TRIAL + FOR_A_BUILT_IN_TRIAL, thread_environment(int(spec["config"].get("threads", 1)))
