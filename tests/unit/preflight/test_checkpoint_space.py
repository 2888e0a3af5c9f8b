"""The disk space of checkpoints at the worst moment of a plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.plan.expansion import ExperimentSpec, expand
from supervisor.plan.loader import load_plan
from supervisor.preflight.checkpoint_space import check_checkpoint_space, policy_of, space_of, worst_bytes
from supervisor.preflight.machine import Level

GB = 10**9


def phase6a(only: str | None = None, *sets: str) -> list[ExperimentSpec]:
    return expand(load_plan("phase6a", list(sets)).plan, num_features=25, only=only)


def test_the_worst_moment_of_an_experiment_of_two_billion_parameters_is_counted() -> None:
    """Three checkpoints of 24 GB at a save, the best trial's, and the weights of the 12 final trials: 192 GB."""
    spec = phase6a("2B", "config.grid.tolerance=0.01", "config.split={kind: contiguous}")[0]
    space = space_of(spec)
    assert space is not None
    assert spec.phases[1:] == (12, 0)
    assert space.checkpoint_bytes == pytest.approx(24 * GB, rel=0.02)
    # A final trial at work has the weights of two epochs: one as it ends, one of the epoch that was best before.
    assert space.worst_bytes == pytest.approx((3 * 24 + 24 + 13 * 8) * GB, rel=0.02)


def test_what_earlier_experiments_leave_is_counted_and_models_may_be_larger_than_their_budget() -> None:
    one, three = phase6a("2B")[:1], phase6a("2B")
    space = space_of(one[0])
    assert space is not None
    assert space.checkpoint_bytes == pytest.approx(30 * GB)
    assert worst_bytes(three) == pytest.approx(2 * space.left_bytes + space.worst_bytes)
    # Of each: the best trial's checkpoint, and the winner's weights on three seeds and three folds.
    assert space.left_bytes == pytest.approx((30 + 9 * 10) * GB)


@pytest.mark.parametrize(("free", "level"), [(200 * GB, Level.WARNING), (10**13, Level.OK)])
def test_a_disk_that_is_too_small_at_the_worst_moment_is_a_warning(tmp_path: Path, free: int, level: Level) -> None:
    check = check_checkpoint_space(tmp_path, phase6a("2B"), free)
    assert check.level is level
    assert "at the worst moment" in check.detail


def test_a_trainable_of_the_users_own_is_not_counted(tmp_path: Path) -> None:
    spec = phase6a("2M")[0].model_copy(update={"trainable": "mine:Train"})
    assert space_of(spec) is None
    assert "unknown" in check_checkpoint_space(tmp_path, [spec]).detail


def test_no_trial_starts_on_a_disk_without_room_for_the_plans_largest_checkpoint() -> None:
    plan = load_plan("phase6a", []).plan
    assert policy_of(plan, phase6a())["disk_hold_bytes"] == pytest.approx(30 * GB + 2**30)
    assert "disk_hold_bytes" not in policy_of(plan, []), "the default"
    own = load_plan("phase6a", ["hardware.disk_hold_bytes=9e9"]).plan
    assert policy_of(own, phase6a())["disk_hold_bytes"] == 9e9
