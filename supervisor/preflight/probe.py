"""Measures how many trials at once, and with how many threads, train the most windows a second on this machine.

The trials are timed in child processes (training.timing) with an architecture and a batch from the middle of the plan.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from supervisor.preflight import estimate, machine
from supervisor.preflight.concurrency import Choice, Limits, Share, candidates, choose, limits_of, with_share
from supervisor.preflight.step_processes import Case, time_together
from supervisor.preflight.timing import middle_case

if TYPE_CHECKING:
    from supervisor.plan.expansion import ExperimentSpec

MOST_S = 60.0
SHARE_OF_EXPERIMENT = 0.01
"""A probe takes at most so many seconds, and at most such a share of its experiment's likely time."""
USUAL_START_S = 5.0
"""The usual time in which a child imports torch and reads the data."""
LEAST_S = 2.0
"""Time for the steps of one share."""

Measure = Callable[[Share, float], Awaitable[float | None]]
"""Returns the windows a second of a share, from steps of so many seconds; None if that was not possible."""


async def choose_share(spec: ExperimentSpec) -> Choice:
    """Choose the share of an experiment that leaves it to the machine."""
    cores, memory = machine.usable_cores(), machine.machine_memory_bytes()
    limits = limits_of(spec, cores, estimate.trial_bytes(spec), memory, machine.usable_gpus())
    likely_s = estimate.estimate(with_share(spec, choose(limits, ())), memory, cores).likely_seconds
    shapes = estimate.fitting_architectures(spec, memory)
    if likely_s is None or not shapes or spec.resources.gpu > 0:
        return choose(limits, (), "its trials are not timed")

    async def measure(share: Share, seconds: float) -> float | None:
        case = middle_case(with_share(spec, Choice(share, "", share.trials)), shapes, share.threads, share.trials)
        return await windows_per_second(case, seconds)

    return await compare(limits, likely_s, measure)


async def compare(
    limits: Limits, likely_s: float, measure: Measure, clock: Callable[[], float] = time.monotonic
) -> Choice:
    """Measure the candidates one after another while there is time, and choose among the measured ones."""
    shares = candidates(limits)
    if len(shares) == 1:
        return choose(limits, (), "there is no other")
    end = clock() + min(MOST_S, SHARE_OF_EXPERIMENT * likely_s)
    if end - clock() < USUAL_START_S + LEAST_S:
        return choose(limits, (), "the experiment is too short to measure")
    measured: list[tuple[Share, float]] = []
    for number, share in enumerate(shares):
        left_s = end - clock()
        if left_s < USUAL_START_S + LEAST_S:
            break
        rate = await measure(share, max(LEAST_S, left_s / (len(shares) - number) - USUAL_START_S))
        if rate is not None:
            measured.append((share, rate))
    if all(share != shares[0] for share, _ in measured):
        return choose(limits, (), "its steps are too slow to measure")
    return choose(limits, measured)


async def windows_per_second(case: Case, seconds: float) -> float | None:
    """Return the windows that `case.at_once` trials train a second, all together; None if they were not timed."""
    found = await time_together([case], case.threads, case.at_once, seconds, machine.available_memory_bytes())
    return case.at_once * case.batch / found.steps[0][1].seconds if found.steps else None


async def choice_for(spec: dict[str, Any]) -> Choice | None:
    """Choose the share of a stored spec; None where it is the plan's, or was chosen before."""
    from supervisor.plan.expansion import ExperimentSpec

    asked = spec.get("auto_concurrency") or spec.get("resources", {}).get("auto")
    return await choose_share(ExperimentSpec.model_validate(spec)) if asked and not spec.get("chosen") else None
