"""Tests whether a trial hangs: a pure decision over its progress, the policy and two moments."""

from __future__ import annotations

import statistics
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from actors.trial.heartbeat import Phase, Progress
from actors.watchdog.hang_detection import LATE_PERIODS, Attention, Hang, allowed_s, hang_of, median_s
from supervisor.governor.policy import Policy

POLICY = Policy()
AT_WORK = Progress(Phase.WORKING, 1000.0, True, (0.01,) * 5)
SECONDS = st.floats(1e-4, 1e5)
PROGRESS = st.builds(
    Progress,
    st.sampled_from(Phase),
    st.floats(0.0, 1e6),
    st.booleans(),
    st.lists(SECONDS, max_size=32).map(tuple),
    st.lists(SECONDS, max_size=8).map(tuple),
)


def hung(progress: Progress, silent_s: float, policy: Policy = POLICY) -> bool:
    return hang_of(progress, policy, progress.since_mono_s + silent_s, 0.0) is not None


def test_a_batch_of_milliseconds_is_given_minutes() -> None:
    """Twenty times 10 ms is no time: below `hung_min_s` nothing hangs."""
    assert not hung(AT_WORK, 299.0)
    assert hung(AT_WORK, 301.0)
    assert hang_of(AT_WORK, POLICY, 1301.0, 0.0) == Hang(301.0, 300.0, 0.01)


def test_a_batch_of_minutes_is_given_the_factor() -> None:
    slow = replace(AT_WORK, batches_s=(60.0, 90.0, 600.0))
    assert not hung(slow, 20 * 90.0 - 1)
    assert hung(slow, 20 * 90.0 + 1)


def test_a_batch_that_waits_for_a_queue_is_no_hang_where_batches_do_so_now_and_then() -> None:
    """15 of 16 batches are queued in a second each, the last one waits for all of them: their median is a second."""
    queued = replace(AT_WORK, batches_s=(*[1.0] * 15, 368.0) * 2)
    assert not hung(queued, 367.0)
    assert not hung(queued, 2 * 368.0 - 1)
    assert hung(queued, 2 * 368.0 + 1)


def test_the_first_batch_building_loading_and_saving_have_their_own_allowance() -> None:
    assert allowed_s(replace(AT_WORK, batches_s=()), POLICY) == POLICY.hung_first_s
    assert allowed_s(replace(AT_WORK, phase=Phase.PREPARING), POLICY) == POLICY.hung_first_s


def test_code_without_visible_batches_is_given_longer() -> None:
    """Its first step a day, a later one an hour at least: a step may hold an evaluation that comes once in a while."""
    unseen = Progress(Phase.WORKING, 0.0)
    assert allowed_s(unseen, POLICY) == POLICY.hung_first_step_s
    assert allowed_s(replace(unseen, tails_s=(5.0,)), POLICY) == POLICY.hung_first_s
    assert allowed_s(replace(unseen, tails_s=(600.0,)), POLICY) == 20 * 600.0


def test_the_tail_of_a_step_counts_if_it_is_longer_than_a_batch() -> None:
    """A validation in one piece takes many batches' time."""
    assert allowed_s(replace(AT_WORK, tails_s=(400.0, 500.0, 450.0)), POLICY) == 20 * 450.0


@given(PROGRESS.filter(lambda progress: progress.phase in (Phase.IDLE, Phase.WAITING)), st.floats(0.0, 1e9))
def test_a_worker_that_waits_never_hangs(progress: Progress, silent_s: float) -> None:
    """At a closed gate, in a rest, held by the scheduler: however long."""
    assert not hung(progress, silent_s)


@given(PROGRESS, st.floats(0.0, 1e7), st.floats(0.0, 1e7))
def test_longer_silence_never_ends_a_hang(progress: Progress, silent_s: float, more_s: float) -> None:
    assert hung(progress, silent_s) <= hung(progress, silent_s + more_s)


@given(PROGRESS, st.floats(0.0, 1e6))
def test_nothing_hangs_within_its_allowance_nor_before_the_least_one(progress: Progress, silent_s: float) -> None:
    allowed, median = allowed_s(progress, POLICY), median_s(progress)
    assert allowed is None or allowed >= POLICY.hung_min_s
    if hung(progress, silent_s):
        assert allowed is not None
        assert silent_s > allowed * (1 - 1e-9)
        assert median is None or progress.phase is Phase.PREPARING or silent_s > median
    elif allowed is not None:
        assert silent_s <= allowed * (1 + 1e-9) + 1e-6


@given(st.lists(SECONDS, min_size=1, max_size=32), st.floats(2.0, 1000.0))
def test_one_odd_batch_of_many_changes_little(batches: list[float], factor: float) -> None:
    """The median: one batch that took a week does not give the next a year."""
    many = [*batches, *batches, *batches]
    policy = replace(POLICY, hung_factor=factor)
    allowed = allowed_s(replace(AT_WORK, batches_s=(*many, 6e5)), policy)
    assert allowed is not None
    assert allowed <= max(policy.hung_min_s, factor * max(batches))
    assert median_s(replace(AT_WORK, batches_s=tuple(many))) == statistics.median(batches)


def test_a_watcher_that_was_stopped_begins_anew() -> None:
    """SIGSTOP of the whole machine: the monotonic clock ran on while no process worked."""
    attention = Attention(0.0, 0.0)
    for now in (5.0, 10.0, 15.0):
        attention = attention.looking(now, 5.0)
    assert attention == Attention(0.0, 15.0)
    woken = attention.looking(40_000.0, 5.0)
    assert woken == Attention(40_000.0, 40_000.0)
    silent = replace(AT_WORK, since_mono_s=14.0)
    assert hang_of(silent, POLICY, 40_000.0, attention.watched_from_mono_s) is not None
    assert hang_of(silent, POLICY, 40_000.0, woken.watched_from_mono_s) is None
    assert hang_of(silent, POLICY, 40_301.0, woken.watched_from_mono_s) is not None


@given(st.lists(st.floats(0.0, 100.0), max_size=30), st.floats(0.1, 5.0))
def test_attention_begins_at_the_end_of_the_last_gap(gaps: list[float], period_s: float) -> None:
    now, attention = 0.0, Attention(0.0, 0.0)
    expected = 0.0
    for gap in gaps:
        before, now = now, now + gap
        attention = attention.looking(now, period_s)
        expected = now if now - before > LATE_PERIODS * period_s else expected
        assert attention.watched_from_mono_s == expected
