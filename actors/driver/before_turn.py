"""Does what an experiment's driver can do before its turn: its workers start, and import what the trials need."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from actors.driver import ray_private
from actors.driver.tuner import BUILT_IN
from actors.trial.warm_worker import leave_tickets, tickets_folder, what_to_import

LOG = logging.getLogger("driver")


def warm_workers(spec: Mapping[str, Any], count: int) -> None:
    """Start `count` workers that import what the trials of an experiment need; the first trials take them.

    Where that fails the trials' own workers import it, as ever.
    """
    folder = tickets_folder()
    if folder is None or count < 1:
        return
    built_in = spec["trainable"] in BUILT_IN
    modules, environment = what_to_import(int(spec["config"].get("threads", 1)) if built_in else None)
    try:
        leave_tickets(folder, count, modules, environment)
        ray_private.start_workers(count)
    except OSError as error:
        LOG.warning("no worker is started before its trial: %s", error)
