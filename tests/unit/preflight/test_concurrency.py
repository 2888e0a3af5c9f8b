"""The choice of trials at once and threads: within cores and memory, and the fastest of the measured."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.plan.expansion import ExperimentSpec, expand
from supervisor.plan.loader import load_plan
from supervisor.preflight.concurrency import WORTH_IT, Limits, Share, by_rule, candidates, choose, limits_of, with_share
from supervisor.preflight.estimate import planned
from supervisor.preflight.probe import compare
from tests.unit.preflight.test_estimate import GIB, dataset

LIMITS = st.builds(
    Limits,
    cores=st.integers(1, 64),
    most_trials=st.integers(1, 100),
    fit=st.none() | st.integers(0, 64),
    splits=st.booleans(),
    trials=st.none() | st.integers(1, 8),
    threads=st.none() | st.integers(1, 8),
)


@given(LIMITS)
def test_every_candidate_keeps_cores_memory_and_the_plans_own_numbers(limits: Limits) -> None:
    found = candidates(limits)
    assert found[0] == by_rule(limits)
    assert len(found) == len(set(found)) <= 2 * limits.cores.bit_length() + 1
    for share in found:
        assert share.trials >= 1
        assert share.threads >= 1
        assert share.trials <= max(1, limits.most_trials)
        assert share.trials == 1 or limits.fit is None or share.trials <= limits.fit
        assert share.trials == 1 or share.trials * share.threads <= limits.cores
        assert limits.threads is None or share.threads == limits.threads
        assert limits.trials is None or share.trials <= limits.trials


@given(LIMITS, st.data())
def test_the_choice_is_about_as_fast_as_the_fastest_with_the_fewest_trials(limits: Limits, data: st.DataObject) -> None:
    measured = [(share, data.draw(st.floats(0.1, 1e6))) for share in candidates(limits)]
    choice = choose(limits, measured)
    rates = dict(measured)
    assert rates[choice.share] * WORTH_IT >= max(rates.values())
    for share, rate in measured:
        assert share.trials >= choice.share.trials or rate * WORTH_IT < max(rates.values())
    assert choice.figures()


@given(LIMITS)
def test_without_measurements_the_rule_decides_and_says_why(limits: Limits) -> None:
    choice = choose(limits, [], "no time")
    assert choice.share == by_rule(limits)
    assert choice.reason.endswith("no time")


def test_the_rule_uses_all_cores_for_small_models_and_shares_them_among_large_ones() -> None:
    assert by_rule(Limits(16, 16, None)) == Share(16, 1)
    assert by_rule(Limits(16, 16, 3, splits=True)) == Share(3, 5)
    assert by_rule(Limits(16, 3, None)) == Share(3, 1), "threads of a short step wait for each other"
    assert by_rule(Limits(2, 16, 0, splits=True)) == Share(1, 2)


def auto(tmp_path: Path, budget: str = "2M", *sets: str) -> ExperimentSpec:
    return expand(load_plan("phase6a", sets).plan, 25, dataset(tmp_path), only=budget)[0]


def test_limits_follow_memory_and_half_of_the_search(tmp_path: Path) -> None:
    spec = auto(tmp_path)
    assert limits_of(spec, 64, GIB, 10 * GIB) == Limits(64, 16, 10)
    on_gpus = auto(tmp_path, "2M", "resources.gpu=0.5")
    assert limits_of(on_gpus, 64, GIB, 10 * GIB, gpus=2).fit == 4, "as many as there are shares of a GPU"
    own = auto(tmp_path, "2M", "concurrency=3", "resources.cpu=2")
    assert (limits_of(own, 64, None, GIB).trials, limits_of(own, 64, None, GIB).threads) == (3, 2)


def test_a_share_becomes_concurrency_cores_and_threads(tmp_path: Path) -> None:
    chosen = with_share(auto(tmp_path), choose(Limits(8, 2, None, splits=True), []))
    assert (chosen.concurrency, chosen.resources.cpu, chosen.config["threads"]) == (2, 4.0, 4)
    assert chosen.chosen is not None


def test_an_estimate_plans_with_the_rule_and_leaves_other_plans_alone(tmp_path: Path) -> None:
    own = auto(tmp_path, "2M", "concurrency=3", "resources.cpu=2")
    (kept, ruled) = planned([own, auto(tmp_path)], 4, 128 * GIB)
    assert kept is own
    assert (ruled.concurrency, ruled.resources.cpu) == (4, 1.0)


class Clock:
    """A clock that moves by the seconds that each measurement is given."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked: list[Share] = []

    async def measure(self, share: Share, seconds: float) -> float | None:
        self.now += 5.0 + seconds
        self.asked.append(share)
        return float(share.trials)


@pytest.mark.parametrize("cores", [2, 4, 16, 64])
def test_a_probe_ends_within_a_minute_and_begins_with_the_rule(cores: int) -> None:
    clock, limits = Clock(), Limits(cores, 32, None)
    choice = asyncio.run(compare(limits, 1e6, clock.measure, lambda: clock.now))
    assert clock.now <= 67.0
    assert clock.asked[0] == by_rule(limits)
    assert choice.share.trials == min(32, cores)


def test_a_short_experiment_is_not_measured() -> None:
    clock = Clock()
    choice = asyncio.run(compare(Limits(4, 32, None), 300.0, clock.measure, lambda: clock.now))
    assert not clock.asked
    assert "too short" in choice.reason


def test_where_the_rules_share_cannot_be_measured_the_rule_decides() -> None:
    async def measure(share: Share, seconds: float) -> float | None:
        return None if share == Share(4, 1) else 1.0

    assert asyncio.run(compare(Limits(4, 32, None), 1e6, measure, lambda: 0.0)).share == Share(4, 1)
