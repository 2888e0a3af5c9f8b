"""The daily digest: due once after its time of the day, in a few lines."""

from __future__ import annotations

import time as system_time
from collections.abc import Iterator
from datetime import datetime, time
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.daemon.news import digest
from tests.unit.cli.status_view import ETA, HOUR, NOW, command, experiment, untouched, view

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    system_time.tzset()
    yield
    monkeypatch.undo()
    system_time.tzset()


def wall(*parts: int) -> float:
    return datetime(*parts, tzinfo=BERLIN).timestamp()  # type: ignore[arg-type, misc]


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("now", "mark"),
    [
        ((2026, 11, 30, 8, 0), (2026, 11, 30, 8, 0)),
        ((2026, 11, 30, 7, 59), (2026, 11, 29, 8, 0)),
        ((2026, 10, 25, 9, 0), (2026, 10, 25, 8, 0)),  # the clocks went back in the night
        ((2026, 10, 25, 7, 0), (2026, 10, 24, 8, 0)),
        ((2026, 3, 29, 7, 0), (2026, 3, 28, 8, 0)),  # the clocks went on in the night
    ],
)
def test_the_last_mark_is_the_local_time_of_the_day(now: tuple[int, ...], mark: tuple[int, ...]) -> None:
    assert digest.last_mark(time(8), wall(*now)) == wall(*mark)


@given(st.floats(1.6e9, 2.0e9), st.times())
def test_a_mark_has_passed_and_is_no_older_than_a_day(now_s: float, at: time) -> None:
    age_s = now_s - digest.last_mark(at.replace(second=0, microsecond=0), now_s)
    assert 0.0 <= age_s <= digest.DAY_S + HOUR


def test_a_digest_is_due_once() -> None:
    mark = digest.last_mark(time(8), NOW)
    assert digest.due(time(8), NOW, mark - 1.0)
    assert not digest.due(time(8), NOW, mark + 1.0)


def test_a_clock_that_was_a_year_fast_does_not_silence_the_digest() -> None:
    assert digest.due(time(8), NOW, NOW + 365 * digest.DAY_S)
    assert not digest.due(time(8), NOW, NOW + 5.0), "one that was set by seconds does not repeat it"


@pytest.mark.usefixtures("berlin")
def test_a_digest_says_what_is_done_what_failed_when_it_ends_what_was_lost_and_what_is_free() -> None:
    lost = [{"experiment": None, "trial": None, "cause": "cpu is hot", "seconds": 7200.0}]
    running = experiment(counts={"finished": 14, "oom": 2, "diverged": 1})
    no_answer = experiment("20M-h1", "EXITED", missing="its test has no result", best=None)
    whole = view(running, no_answer, untouched("2B-h1"), lost=lost, **free(5 << 30))
    assert digest.sentence(whole, NOW + 26 * HOUR) == (
        "day 2, 34 of 110 trials, 1 of 3 experiments ended, 2 trials failed, ETA 32 min 35 s"
    )
    assert digest.details(whole, wall(2026, 10, 25, 2, 50)) == (
        # The clocks go back at 3.
        "ends about Sun 25 Oct 02:22, 80 % likely from Sun 25 Oct 02:15 to Sun 25 Oct 02:33",
        "2M-h1 RUNNING, 17 of 50 trials, best 0.1235 (trial 4), 2 failed",
        "20M-h1 EXITED, 17 of 50 trials, NO ANSWER",
        "lost, over all trials: cpu is hot 2 h 00 min",
        "free on the disk: 5.0 GiB",
    )


def test_a_digest_without_an_eta_says_so_and_one_after_the_end_does_not() -> None:
    begun = view(experiment(), eta=None, lost=[], **free(None))
    assert digest.sentence(begun, NOW).endswith(", ETA ?")
    assert digest.details(begun, NOW) == ("2M-h1 RUNNING, 17 of 50 trials, best 0.1235 (trial 4)",)
    over = view(experiment(state="EXITED"), eta=None, lost=[], **free(None))
    assert "ETA" not in digest.sentence(over, NOW)
    odd = view(eta=dict.fromkeys(ETA, 1e18), lost=[], **free(None))
    assert digest.details(odd, NOW) == (), "a date of odd figures is left out, and the rest is told"


def test_a_digest_says_what_holds_the_work() -> None:
    pause = command("PAUSE", "schedule", reason="by schedule until Mon 18:00 (mon-fri 09:00-18:00)")
    held = view(eta=None, lost=[], disk={"free_bytes": None}, in_force=pause)
    assert digest.details(held, NOW) == (
        "now PAUSE by the schedule: by schedule until Mon 18:00 (mon-fri 09:00-18:00)",
    )


def free(free_bytes: int | None) -> dict[str, Any]:
    """Return the parts of a view that say how much is free, and that nothing holds the work."""
    return {"disk": {"free_bytes": free_bytes}, "in_force": command("RUN", "governor")}


def test_a_small_value_is_never_zero_and_a_large_plan_stays_short() -> None:
    small = experiment(best={"value": 0.0000123456, "trial": 1, "params": {}})
    assert "best 1.235e-05" in digest.experiment_lines(view(small))[0]
    lines = digest.experiment_lines(view(*[experiment(f"e{n}") for n in range(100)]))
    assert len(lines) == digest.MAX_EXPERIMENTS + 1
    assert lines[-1] == f"and {100 - digest.MAX_EXPERIMENTS} more experiments"
