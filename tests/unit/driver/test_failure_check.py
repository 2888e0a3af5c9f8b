"""A search whose first trials all fail by the same error ends; one whose trials differ, or work, goes on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.driver.failure_check import AT_LEAST, TIMES_AT_ONCE, FailureCheck
from actors.driver.scheduler import Finished
from actors.driver.trial_registry import TrialRegistry
from supervisor.domain.lifecycle import SUCCEEDED, EndReason
from tests.unit.driver.scheduler_bench import Bench, Scripted

TRACE = 'Traceback (most recent call last):\n  File "/home/ann/mine.py", line 12, in step\n    open(path)\n{error}'
ERROR = "FileNotFoundError: [Errno 2] No such file: '/data/prices.csv'"
NEUTRAL = [EndReason.OOM, EndReason.HUNG, EndReason.OPERATOR, EndReason.SET_ASIDE]


def failing(check: FailureCheck, count: int, error: str = ERROR) -> None:
    for number in range(count):
        check.look(number, EndReason.ERROR, TRACE.format(error=error))


@pytest.mark.parametrize("at_once", [1, 2, 8])
def test_so_many_trials_must_agree_and_the_reason_says_what_they_said(at_once: int) -> None:
    check, enough = FailureCheck(at_once), max(AT_LEAST, TIMES_AT_ONCE * at_once)
    failing(check, enough - 1)
    assert check.problem is None
    check.look(enough - 1, EndReason.ERROR, TRACE.format(error=ERROR))
    assert check.problem == (
        f"trial {enough - 1}, as each of the first {enough}, failed by the same error: {ERROR} (mine.py, line 12)"
    )
    assert check.trial == enough - 1


@pytest.mark.parametrize(
    "text",
    [
        "ValueError: lr {lr} of <Net object at {address}>", "FileNotFoundError: [Errno 2] No such file: '/tmp/x{lr}/d'",
        'OSError: cannot read "{letter}/prices.csv"', "RuntimeError: shape [{number}, 4] at batch -{number}",
    ],
)  # fmt: skip
def test_parameters_addresses_and_paths_in_its_text_do_not_make_an_error_another_one(text: str) -> None:
    check = FailureCheck(1)
    for number in range(AT_LEAST):
        lr = (-1) ** number * 1.5**number * 1e-5
        said = text.format(lr=lr, address=hex(0x7F00 + number), letter="abcdef"[number], number=number)
        check.look(number, EndReason.ERROR, said)
    assert check.problem is not None


def test_another_word_makes_an_error_another_one() -> None:
    check = FailureCheck(1)
    for number in range(AT_LEAST):
        check.look(number, EndReason.ERROR, f"KeyError: '{'adam' if number else 'lion'}'")
    assert check.problem is None


def test_an_error_without_a_text_counts_too() -> None:
    check = FailureCheck(1)
    for number in range(AT_LEAST):
        check.look(number, EndReason.ERROR, None)
    assert "no text" in str(check.problem)


def test_trials_that_fail_for_reasons_of_their_own_end_no_search() -> None:
    check = FailureCheck(1)
    failing(check, AT_LEAST - 1)
    check.look(9, EndReason.ERROR, "KeyError: 'x'")
    failing(check, 50)
    assert check.problem is None


@pytest.mark.parametrize("works", [*sorted(SUCCEEDED), EndReason.DIVERGED])
def test_after_a_trial_that_worked_no_number_of_failures_ends_the_search(works: EndReason) -> None:
    check = FailureCheck(1)
    failing(check, AT_LEAST - 1)
    check.look(9, works, None)
    failing(check, 50)
    assert check.problem is None
    assert FailureCheck.shows_work(works.value)
    assert not any(FailureCheck.shows_work(end) for end in (None, "error", *NEUTRAL))


def test_trials_that_are_tried_again_end_no_search_but_may_show_that_it_works() -> None:
    check = FailureCheck(1)
    for number in range(50):
        check.look(number, EndReason.ERROR, ERROR, again=True)
    assert check.problem is None
    check.look(50, EndReason.FINISHED, None, again=True)
    failing(check, 50)
    assert check.problem is None


@given(
    st.lists(st.tuples(st.sampled_from(list(EndReason)), st.sampled_from(["a 1", "a 2", "b"]), st.booleans())),
    st.integers(1, 4),
)
def test_a_search_ends_only_after_so_many_equal_failures_and_before_any_success(
    ends: list[tuple[EndReason, str, bool]], at_once: int
) -> None:
    check, seen = FailureCheck(at_once), list[str]()
    for number, (reason, error, again) in enumerate(ends):
        before = check.problem
        check.look(number, reason, error, again=again)
        if reason is EndReason.ERROR and not again:
            seen.append(error[0])
        if check.problem is not None and before is None:
            assert len(seen) == max(AT_LEAST, TIMES_AT_ONCE * at_once)
            assert len(set(seen)) == 1
            assert not any(end in SUCCEEDED or end is EndReason.DIVERGED for end, *_ in ends[: number + 1])
        assert before is None or check.problem == before


def test_the_registry_asks_of_trials_of_the_search_only_and_knows_those_tried_again() -> None:
    waits = {"number": 0, "state": "PENDING", "end_reason": None, "attempt": 1, "results": [], "checkpoint": None}
    registry = TrialRegistry("loss", "min", [waits], failures=FailureCheck(1))
    retried, final = registry.open("a", 0, {}), registry.open("b", 9, {}, final=True)
    for entry in [retried, final] * AT_LEAST:
        registry.look_at_end(entry, EndReason.ERROR, ERROR)
    assert registry.problem is None
    for number in range(1, AT_LEAST + 1):
        registry.look_at_end(registry.open(f"{number}", number, {}), EndReason.ERROR, ERROR)
    assert registry.problem == registry.failures.problem is not None


def test_the_scheduler_ends_the_search_where_all_fail() -> None:
    bench = Bench(Scripted("CONTINUE"))
    bench.registry.failures = FailureCheck(1)
    assert bench.choose() is None
    failing(bench.registry.failures, AT_LEAST)
    with pytest.raises(Finished, match="failed by the same error"):
        bench.choose()
