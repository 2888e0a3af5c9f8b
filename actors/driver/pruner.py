"""Makes the plan's pruner, a Ray scheduler, and gives it the results of earlier drivers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule

from actors.driver.trial_registry import ended
from actors.trial.result_keys import STEP


class StandIn:
    """A trial that ended under an earlier driver: the attributes that a pruner reads."""

    status = Trial.TERMINATED

    def __init__(self, number: int) -> None:
        self.trial_id = f"earlier-{number}"


def pruner(spec: Mapping[str, Any], metric: str, mode: str) -> Any:
    """Return the plan's pruner as a Ray scheduler. Raises ValueError for an unknown kind."""
    kind = spec["kind"]
    if kind == "none":
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    if kind == "asha":
        return ASHAScheduler(
            time_attr=STEP, metric=metric, mode=mode, max_t=spec["max_t"], grace_period=spec["grace_period"],
            reduction_factor=spec["reduction_factor"],
        )  # fmt: skip
    if kind == "median":
        return MedianStoppingRule(
            time_attr=STEP, metric=metric, mode=mode, grace_period=spec["grace_period"],
            min_samples_required=spec["min_samples_required"],
            # Infinite: otherwise the rule, with too few samples, pauses a trial so that a waiting one can run.
            min_time_slice=float("inf"),  # type: ignore[arg-type]
        )  # fmt: skip
    raise ValueError(f"expected a pruner of kind asha, median or none, found {kind!r}")


def replay(inner: Any, trials: Iterable[Mapping[str, Any]], metric: str) -> None:
    """Give a pruner the results of earlier drivers' ended trials; rungs and medians survive so."""
    for trial in trials:
        results = [{STEP: step, metric: value} for step, value in trial["results"] if value is not None]
        if ended(trial) and results:
            stand_in = StandIn(int(trial["number"]))
            inner.on_trial_add(None, stand_in)
            for result in results:
                inner.on_trial_result(None, stand_in, result)
            inner.on_trial_complete(None, stand_in, results[-1])
