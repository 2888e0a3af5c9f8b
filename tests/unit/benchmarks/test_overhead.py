"""The benchmark of what supervision adds: its timers count each moment once, and its tables say what is left over."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from benchmarks.overhead import tables
from benchmarks.overhead.scenario import Scenario
from benchmarks.overhead.timers import Between, Timers, between


class Hand:
    """A clock that a test moves."""

    now_s = 0.0

    def passes(self, seconds: float) -> None:
        self.now_s += seconds


def timers_of(hand: Hand) -> Timers:
    return Timers(lambda: hand.now_s, lambda: hand.now_s / 2)


def test_a_piece_within_another_is_not_counted_in_both() -> None:
    hand = Hand()
    timers = timers_of(hand)
    inner = timers.timed("inner", lambda: hand.passes(3.0))

    def work() -> str:
        hand.passes(1.0)
        inner()
        hand.passes(2.0)
        return "done"

    timers.mark()
    assert timers.timed("outer", work)() == "done"
    hand.passes(4.0)
    timers.mark()
    found = between(*timers.marks, trials=2)
    assert found.pieces_ms == {"outer": 1500.0, "inner": 1500.0}
    assert found.calls == {"outer": 0.5, "inner": 0.5}
    assert (found.wall_ms, found.cpu_ms, found.rest_ms) == (5000.0, 2500.0, 2000.0)


def test_a_mark_within_a_piece_divides_it() -> None:
    hand = Hand()
    timers = timers_of(hand)

    def work() -> None:
        hand.passes(1.0)
        timers.mark()
        hand.passes(2.0)

    timers.timed("work", work)()
    timers.mark()
    assert between(*timers.marks, trials=1).pieces_ms == {"work": 2000.0}


def test_a_piece_that_fails_is_closed_and_another_threads_work_is_not_timed() -> None:
    hand = Hand()
    timers = timers_of(hand)
    owner = SimpleNamespace(fails=lambda: 1 / 0, passes=hand.passes)
    timers.wrap(owner, "fails", "fails")
    timers.wrap(owner, "passes", "passes")
    timers.mark()
    with pytest.raises(ZeroDivisionError):
        owner.fails()
    hand.passes(1.0)
    thread = threading.Thread(target=owner.passes, args=(5.0,))
    thread.start()
    thread.join()
    timers.mark()
    assert between(*timers.marks, trials=1).rest_ms == 6000.0


def test_a_function_is_marked_where_its_arguments_say_so() -> None:
    timers = timers_of(Hand())
    owner = SimpleNamespace(end=lambda number: number)
    timers.mark_after(owner, "end", lambda number: number > 1)
    assert [owner.end(1), owner.end(2)] == [1, 2]
    assert len(timers.marks) == 1


def test_the_first_trials_are_left_out() -> None:
    assert tables.steady_ms([100.0, 7.0, 8.0, 10.0], left_out=1) == pytest.approx(1e3 * 93.0 / 3)
    with pytest.raises(ValueError, match="more than 2"):
        tables.steady_ms([1.0, 2.0], left_out=2)


def test_the_table_says_what_is_over_the_bare_loop() -> None:
    table = tables.costs({tables.BARE: {1: 4.0, 2: 3.0}, "this system": {1: 14.25, 2: None}})
    assert (
        table.splitlines()[0] == "| ms a trial | 1 at once | 2 at once | over bare, 1 at once | over bare, 2 at once |"
    )
    assert table.splitlines()[2:] == [
        f"| {tables.BARE} | 4.0 | 3.0 | – | – |",
        "| this system | 14.2 | – | 10.2 | – |",
    ]


def test_the_second_table_has_the_largest_piece_first_and_the_rest() -> None:
    one = Between(10.0, 5.0, {"small": 1.0, "large": 6.0}, {})
    assert tables.pieces({"the driver": {1: one, 2: None}}).splitlines()[2:] == [
        "| **the driver**, from trial to trial | **10.0** | **–** |",
        "| … large | 6.0 | – |",
        "| … small | 1.0 | – |",
        "| … the rest | 3.0 | – |",
        "| its time on a core | 5.0 | – |",
    ]


def test_several_workers_are_averaged() -> None:
    assert tables.mean([]) is None
    found = tables.mean([Between(4.0, 2.0, {"a": 1.0}, {"a": 1.0}), Between(8.0, 4.0, {"b": 3.0}, {"b": 1.0})])
    assert found == Between(6.0, 3.0, {"a": 0.5, "b": 1.5}, {"a": 0.5, "b": 0.5})


def test_a_scenario_travels_in_the_environment_and_its_figures_by_files(tmp_path, monkeypatch) -> None:
    scenario = Scenario(str(tmp_path), "m:f", 9, 2, timed=True)
    for name, value in scenario.to_environment().items():
        monkeypatch.setenv(name, value)
    assert Scenario.from_environment() == scenario
    hand = Hand()
    timers = timers_of(hand)
    for _ in range(5):
        timers.mark()
    scenario.write_marked("driver", timers)
    assert scenario.read("driver") == [], "no trial that counts has ended"
    hand.passes(3.0)
    timers.mark()
    scenario.write_marked("driver", timers)
    assert [one.wall_ms for one in scenario.read("driver")] == [3000.0]
