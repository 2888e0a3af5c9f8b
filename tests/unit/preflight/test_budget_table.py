"""Costs by budget: every figure says what it rests on, and disk and writing follow checkpoints and epochs."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.plan.expansion import expand
from supervisor.plan.loader import load_plan
from supervisor.preflight.budget_table import budget_table, costs_of, disk_bytes, epoch_seconds
from supervisor.preflight.checkpoint_space import space_of
from supervisor.preflight.estimate import architectures, estimate
from supervisor.preflight.step_times import Basis, TimedStep, rule_seconds
from tests.unit.preflight.test_estimate import EXAMPLE, GIB, NUMBERS, dataset, phase6a


def ten_times_the_rule(file: str) -> list[TimedStep]:
    shape = next(architectures(phase6a("2M", file)))
    return [TimedStep(2_000_000, shape, 64, 1, 2, "cpu", 10 * rule_seconds(shape, 64, 1))]


def test_timed_steps_scale_their_own_budget_and_those_that_were_not_timed(tmp_path: Path) -> None:
    file = dataset(tmp_path)
    specs = [phase6a(budget, file, "warm_start=null") for budget in ("2M", "20M", "200M")]
    rule, timed = (costs_of(specs, 64 * GIB, 2, steps) for steps in ((), ten_times_the_rule(file)))
    assert [cost.basis for cost in rule] == [Basis.RULE] * 3
    assert [cost.basis for cost in timed] == [Basis.TIMED, Basis.SCALED, Basis.SCALED]
    for before, after in zip(rule, timed, strict=True):
        assert before.epoch_s is not None
        assert after.epoch_s == pytest.approx(10 * before.epoch_s)


def test_the_table_has_a_line_for_each_budget_one_in_all_and_says_what_was_timed(tmp_path: Path) -> None:
    file = dataset(tmp_path)
    specs = expand(load_plan("phase6a", NUMBERS).plan, 25, file)
    table = budget_table(specs, 8 * GIB, 2, ten_times_the_rule(file))
    first = {line.split()[0]: line for line in table.splitlines() if line}
    assert first["2M"].endswith("timed here")
    assert first["20M"].endswith("by operations")
    assert first["2B"].endswith("skipped")
    assert "in all" in table
    assert "rule of thumb" in budget_table(specs, 8 * GIB, 2)
    assert budget_table(expand(load_plan(EXAMPLE).plan), GIB, 2) == ""


def test_a_budgets_hours_are_those_of_its_experiments(tmp_path: Path) -> None:
    specs = expand(load_plan("phase6a", NUMBERS).plan, 25, dataset(tmp_path), only="2M")
    (cost,) = costs_of(specs, 64 * GIB, 2, ())
    rows = [estimate(spec, 64 * GIB, 2) for spec in specs]
    assert cost.likely_s == pytest.approx(sum(row.likely_seconds or 0 for row in rows))
    assert cost.final_s is not None
    assert cost.likely_s is not None
    assert 0 < cost.final_s < cost.likely_s


def test_disk_is_that_of_the_disk_check(tmp_path: Path) -> None:
    spec = phase6a("2M", dataset(tmp_path), "finalize=null", "warm_start=null")
    space = space_of(spec)
    assert space is not None
    during, rest, _ = disk_bytes(spec, 2, (), None)
    assert (during, rest) == (space.worst_bytes, space.left_bytes)


def test_what_is_written_follows_epochs_or_the_clock(tmp_path: Path) -> None:
    file, sets = dataset(tmp_path), ("pruner={kind: none}", "finalize=null", "warm_start=null")
    each_epoch = phase6a("2M", file, "checkpoint_every_s=0", *sets)
    by_clock = phase6a("2M", file, "checkpoint_every_s=600", *sets)
    space, epoch_s = space_of(by_clock), epoch_seconds(by_clock, 2, ())
    assert space is not None
    assert epoch_s is not None
    written = disk_bytes(each_epoch, 2, (), None)[2]
    assert written == each_epoch.max_trials * each_epoch.max_epochs * space.checkpoint_bytes
    rarer = disk_bytes(by_clock, 2, (), None)[2]
    assert rarer >= by_clock.max_trials * by_clock.max_epochs * epoch_s / 600 * space.checkpoint_bytes
    assert rarer < written
    assert disk_bytes(by_clock, 2, (), (3, 1))[2] == pytest.approx(rarer * 4 / by_clock.max_trials)


def test_trials_and_time_keep_to_the_hours(tmp_path: Path) -> None:
    specs = [phase6a("200M", dataset(tmp_path), "max_hours=50", "warm_start=null")]
    free = [specs[0].model_copy(update={"max_hours": None})]
    (bound,), (open_ended,) = costs_of(specs, 64 * GIB, 2, ()), costs_of(free, 64 * GIB, 2, ())
    assert open_ended.trials == sum(free[0].phases)
    assert bound.trials is not None
    assert open_ended.trials is not None
    assert bound.trials < open_ended.trials
    assert bound.most_s == 50 * 3600
    assert bound.written_bytes < open_ended.written_bytes


def test_by_the_clock_the_last_epoch_of_a_trial_is_not_saved(tmp_path: Path) -> None:
    sets = ("pruner={kind: none}", "finalize=null", "warm_start=null", "max_epochs=1")
    assert disk_bytes(phase6a("2M", dataset(tmp_path), "checkpoint_every_s=1e4", *sets), 2, (), None)[2] < 1e6 * 32 * 12
    space = space_of(spec := phase6a("2M", dataset(tmp_path), "checkpoint_every_s=0", *sets))
    assert space is not None
    assert disk_bytes(spec, 2, (), None)[2] == spec.max_trials * space.checkpoint_bytes
