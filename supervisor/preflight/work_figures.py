"""Says how much work an epoch of each trial is, for the ETA of a run: the dry run's figures in plain values.

The ETA multiplies them by the pace that it measures (domain.eta). Standard library at import.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import TYPE_CHECKING, Any

from supervisor.domain.answer import TESTED
from supervisor.domain.eta.trial_work import OPERATIONS
from supervisor.domain.search_time import TRIAL_OVERHEAD_S
from supervisor.home import Home
from supervisor.preflight import training_time
from supervisor.preflight.budget_table import epoch_seconds
from supervisor.preflight.estimate import architectures, planned
from supervisor.preflight.hours import trial_seconds
from supervisor.preflight.machine import machine_memory_bytes
from supervisor.preflight.step_times import operations
from supervisor.preflight.timing import kept_times

if TYPE_CHECKING:
    from supervisor.plan.expansion import ExperimentSpec

log = logging.getLogger("supervisor")

NOMINAL_OPERATIONS_PER_S = 1e12
"""The rate by which FLOPs become work where nothing was timed; any one will do."""
TRAINED = 3.0
"""The operations of a training step, in forward passes: the backward one takes twice as many."""


def work_figures(home: Home, specs: Sequence[Mapping[str, Any]], cores: int) -> dict[str, dict[str, Any]]:
    """Return the figures of each experiment by name; without those of which nothing is known.

    `basis` says what they rest on, `epoch_s` is the work of an average epoch, `by_rank` that of each shape, and
    `at_once` the number of trials that this machine has room for.
    """
    from supervisor.plan.expansion import ExperimentSpec
    from training.errors import TrainingError

    found = {}
    for spec in specs:
        if spec.get("trainable") != TESTED:
            continue
        try:
            figures = _figures(home, ExperimentSpec.model_validate(spec), cores)
        except (TrainingError, ValueError, OSError) as error:
            log.warning("the ETA of %s has to wait for its first epoch: %s", spec["name"], error)
            continue
        if figures is not None:
            found[str(spec["name"])] = figures
    return found


def _figures(home: Home, spec: ExperimentSpec, cores: int) -> dict[str, Any] | None:
    timed = kept_times(home, spec)
    (with_share,) = planned([spec], cores, machine_memory_bytes())
    basis, epoch_s = str(training_time.basis(spec, cores, timed)[0]), epoch_seconds(spec, cores, timed)
    if epoch_s is None:
        basis, epoch_s = OPERATIONS, _nominal_seconds(spec)
    if epoch_s is None:
        return None
    by_rank = trial_seconds(spec, cores, timed) or {}
    return {
        "basis": basis,
        "epoch_s": epoch_s,
        "by_rank": {
            str(rank): max(seconds - TRIAL_OVERHEAD_S, 0.0) / spec.max_epochs for rank, seconds in by_rank.items()
        },
        "at_once": training_time.at_once(with_share, cores),
    }


def _nominal_seconds(spec: ExperimentSpec) -> float | None:
    """Return the training FLOPs of an average architecture for a window, at the nominal rate; None if unknown."""
    found = [TRAINED * operations(architecture, 1.0) for architecture in architectures(spec)]
    return mean(found) / NOMINAL_OPERATIONS_PER_S if found else None
