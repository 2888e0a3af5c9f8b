"""A daemon that crashes at each start is delayed, then given up until a person starts it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.daemon.upkeep.crash_loop import (
    CHAIN_GAP_S,
    DELAY_CAP_S,
    FREE_STARTS,
    MAX_STARTS,
    PROGRESS,
    WATCHED,
    judge,
    status_for_manager,
    under_launchd,
)

Recorded = tuple[str, float, bool]


def deaths(count: int, every_s: float = 5.0, begin_s: float = 0.0) -> list[Recorded]:
    return [("daemon.started", begin_s + every_s * number, True) for number in range(count)]


def test_the_first_starts_are_free_then_delays_double_then_the_run_is_given_up() -> None:
    verdicts = [judge(deaths(count), 5.0 * count) for count in range(MAX_STARTS + 1)]
    assert [verdict.delay_s for verdict in verdicts] == [0, 0, 0, 0, 0, 10, 20, 40, 80, 0]
    assert [verdict.given_up for verdict in verdicts] == [False] * MAX_STARTS + [True]


def test_progress_a_long_gap_and_a_requested_end_reset_the_count() -> None:
    for between in ("trial.reported", "daemon.stopped"):
        assert judge([*deaths(6), (between, 30.0, False), *deaths(2, begin_s=40.0)], 50.0).starts == 2
    later = CHAIN_GAP_S + 100.0
    assert judge([*deaths(6), *deaths(2, begin_s=later)], later + 10.0).starts == 2
    assert judge(deaths(8), 5.0 * 8 + CHAIN_GAP_S + 1.0).delay_s == 0.0


def test_a_run_that_fails_in_an_orderly_way_each_time_is_a_crash_loop() -> None:
    failure = [("daemon.started", 0.0, True), ("run.failed", 1.0, False), ("daemon.stopped", 1.0, False)]
    events = [(name, wall_s + 10.0 * life, by) for life in range(6) for name, wall_s, by in failure]
    assert judge(events, 60.0).starts == 6


def test_a_run_that_was_given_up_stays_so_until_a_person_starts_it() -> None:
    events = [*deaths(MAX_STARTS), ("daemon.crash_looped", 50.0, False)]
    assert judge(events, 1e9).given_up
    assert judge(events, 1e9).recorded
    assert not judge(deaths(MAX_STARTS), 50.0).recorded, "the first time it is new"
    events += [("daemon.started", 1e9, False)]
    assert not judge(events, 1e9 + 1.0).given_up
    assert judge(events, 1e9 + 1.0).starts == 1


def test_launchd_gets_exit_code_0_where_another_start_cannot_help(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert [status_for_manager(code, launchd=True) for code in (0, 1, 2, 6, 7)] == [0, 1, 0, 0, 7]
    assert [status_for_manager(code, launchd=False) for code in (0, 1, 2, 6, 7)] == [0, 1, 2, 6, 7]
    monkeypatch.delenv("XPC_SERVICE_NAME", raising=False)
    assert not under_launchd()
    for name, agent in (("0", False), ("sweep-supervisor.0a1b", True)):
        monkeypatch.setenv("XPC_SERVICE_NAME", name)
        assert under_launchd() is agent


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.sampled_from(WATCHED), st.floats(0.0, 1e6), st.booleans()), max_size=40),
    st.floats(0.0, 1e6),
)
def test_any_delay_is_bounded_and_progress_ends_it(events: list[Recorded], now: float) -> None:
    """The clock may be set back in between."""
    verdict = judge(events, now)
    assert 0.0 <= verdict.delay_s <= DELAY_CAP_S
    assert verdict.delay_s == 0.0 or verdict.starts >= FREE_STARTS
    after = judge([*events, (min(PROGRESS), now, False)], now)
    assert (after.delay_s, after.given_up, after.starts) == (0.0, False, 0)
