"""Counts the disk space of a plan's checkpoints at the worst moment, and checks it before a start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from supervisor.filesystem import free_bytes
from supervisor.formatting import human
from supervisor.governor.policy import Policy
from supervisor.plan.expansion import ExperimentSpec
from supervisor.plan.schema import Plan
from supervisor.preflight.machine import Check, Level, ok

WEIGHTS_BYTES_PER_PARAMETER = 4
"""float32."""
CHECKPOINT_BYTES_PER_PARAMETER = 3 * WEIGHTS_BYTES_PER_PARAMETER
"""Weights and AdamW's two moments."""
CHECKPOINTS_OF_A_TRIAL = 3
"""The two of a live trial that are kept, and the one that is written before the older is removed."""
WEIGHTS_OF_A_TRIAL = 2
"""The best weights of a live final trial, as its two checkpoints name them."""


@dataclass(frozen=True)
class Space:
    """The bytes of one experiment: of its largest checkpoint, at its worst moment, and after its end."""

    checkpoint_bytes: int
    worst_bytes: int
    left_bytes: int


def space_of(spec: ExperimentSpec) -> Space | None:
    """Count the space of an experiment; None for a trainable of the user's own.

    At its worst all trials at work save themselves, while the best trial of the search has its checkpoint and each
    final trial that has ended its best weights, which the test needs. After its end the best trial's checkpoint stays,
    and the weights of the winner on its seeds and folds.
    """
    if spec.trainable != "patchtst":
        return None
    parameters = _most_parameters(spec)
    checkpoint = CHECKPOINT_BYTES_PER_PARAMETER * parameters
    weights = WEIGHTS_BYTES_PER_PARAMETER * parameters
    _, final, forward = spec.phases
    live = CHECKPOINTS_OF_A_TRIAL * checkpoint + (WEIGHTS_OF_A_TRIAL * weights if final else 0)
    ended = max(0, final + forward - spec.concurrency)
    winner = 0 if spec.finalize is None else spec.finalize.seeds * spec.folds
    return Space(
        checkpoint_bytes=checkpoint,
        worst_bytes=spec.concurrency * live + checkpoint + ended * weights,
        left_bytes=checkpoint + winner * weights,
    )


def _most_parameters(spec: ExperimentSpec) -> int:
    """Return the parameters of the largest model that the grid's tolerance lets into the budget."""
    from training.settings import GridSettings, parse_budget

    grid: Any = spec.config.get("grid") or {}
    default = {field.name: field.default for field in fields(GridSettings)}["tolerance"]
    tolerance = float(grid.get("tolerance", default))
    return int(parse_budget(str(spec.config["budget"])) * (1.0 + tolerance))


def worst_bytes(specs: Sequence[ExperimentSpec]) -> int:
    """Return the space at the worst moment of all experiments, one after the other."""
    worst = left = 0
    for space in filter(None, map(space_of, specs)):
        worst = max(worst, left + space.worst_bytes)
        left += space.left_bytes
    return worst


def check_checkpoint_space(folder: Path, specs: Sequence[ExperimentSpec], free: int | None = None) -> Check:
    """Check the free space for checkpoints and weights at the worst moment of the plan."""
    needed = worst_bytes(specs)
    if needed == 0:
        return ok("checkpoints", "size unknown: not a trainable of ours")
    free = free_bytes(folder if folder.exists() else folder.parent) if free is None else free
    detail = f"{human(needed)} for checkpoints and weights at the worst moment, {human(free)} free"
    if free < needed:
        return Check("checkpoints", Level.WARNING, detail, "free some space before the larger budgets begin")
    return ok("checkpoints", detail)


def policy_of(plan: Plan, specs: Sequence[ExperimentSpec]) -> dict[str, Any]:
    """Return the plan's hardware policy; without a `disk_hold_bytes` of its own, room for its largest checkpoint.

    No new trial starts on a disk on which it could not save itself once.
    """
    policy = plan.policy
    largest = max((space.checkpoint_bytes for space in filter(None, map(space_of, specs))), default=0)
    if "disk_hold_bytes" in policy or largest == 0:
        return policy
    given = Policy.from_mapping(policy)
    return {**policy, "disk_hold_bytes": max(given.disk_hold_bytes, given.disk_pause_bytes + largest)}


def hold_bytes(policy: Mapping[str, Any]) -> float:
    """Return the free space below which no new trial starts, by a hardware policy."""
    return Policy.from_mapping(policy).disk_hold_bytes
