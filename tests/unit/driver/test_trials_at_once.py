"""Test the number of trials at once: measured by the work of results, moved after each tenth, sent to the daemon."""

from __future__ import annotations

from typing import Any

from actors.driver.trials_at_once import PARAMETERS, TrialsAtOnce
from supervisor.domain.messages import ConcurrencyMoved

AUTO = {
    "concurrency": 2,
    "max_trials": 20,
    "finalize": None,
    "auto_concurrency": True,
    "chosen": "2 x 1",
    "most_at_once": 2,
}
SET = {**AUTO, "auto_concurrency": False}
EPOCH = {PARAMETERS: 1000, "samples": 50}


class Bench:
    """Trials whose epochs take `speed` seconds of a clock."""

    def __init__(self, **changes: Any) -> None:
        self.now_s, self.held, self.sent = 0.0, False, []
        self.at_once = TrialsAtOnce({**AUTO, **changes}, self.sent.append, lambda: self.held, lambda: self.now_s)

    def trials(self, count: int, seconds: float) -> None:
        for _ in range(count):
            self.now_s += seconds
            self.at_once.worked(EPOCH)
            self.at_once.ended()


def test_after_a_tenth_the_number_moves_and_the_daemon_is_told() -> None:
    bench = Bench()
    bench.trials(1, 1.0)
    assert bench.at_once.now == 2
    bench.trials(1, 1.0)
    assert bench.at_once.now == 1
    assert bench.sent == [ConcurrencyMoved(1, 2, "5e+04 parameter-windows/s with 2")]


def test_it_goes_back_when_fewer_trials_do_less() -> None:
    bench = Bench()
    bench.trials(2, 1.0)
    bench.trials(1, 50.0)  # it was at work when the number moved
    bench.trials(2, 2.0)
    assert bench.at_once.now == 2
    bench.trials(9, 1.0)
    assert [message.trials for message in bench.sent] == [1, 2]


def test_time_under_a_command_is_not_measured() -> None:
    bench = Bench()
    bench.held = True
    bench.trials(1, 1000.0)
    bench.held = False
    bench.trials(2, 1.0)
    assert bench.sent == [ConcurrencyMoved(1, 2, "5e+04 parameter-windows/s with 2")]


def test_a_number_of_the_plan_stays() -> None:
    bench = Bench(auto_concurrency=False)
    bench.trials(20, 1.0)
    assert (bench.at_once.now, bench.at_once.most, bench.sent) == (2, 2, [])


def test_there_is_room_for_more_only_where_the_machine_chose() -> None:
    assert Bench(most_at_once=5).at_once.most == 5
    assert Bench(most_at_once=5, auto_concurrency=False).at_once.most == 2


def test_results_of_a_users_own_trainable_do_not_move_it() -> None:
    bench = Bench()
    for _ in range(20):
        bench.now_s += 1.0
        bench.at_once.worked({"loss": 0.5})
        bench.at_once.ended()
    assert bench.sent == []


def test_a_number_that_a_person_sets_stays_and_trials_that_have_begun_go_on() -> None:
    bench = Bench()
    bench.at_once.take({**SET, "concurrency": 5})
    assert (bench.at_once.now, bench.at_once.most) == (5, 5)
    bench.at_once.take({**SET, "concurrency": 1})
    assert (bench.at_once.now, bench.at_once.most) == (1, 5), "none is sent away"
    bench.trials(9, 1.0)
    assert (bench.at_once.now, bench.sent) == (1, [])


def test_a_person_may_set_the_number_that_it_has_and_it_stays() -> None:
    bench = Bench()
    bench.at_once.take({**SET, "concurrency": 2})
    bench.trials(20, 1.0)
    assert (bench.at_once.now, bench.sent) == (2, [])


def test_a_tenth_is_one_of_the_search_as_a_person_has_changed_it() -> None:
    bench = Bench()
    bench.at_once.take({**AUTO, "max_trials": 40})
    bench.trials(3, 1.0)
    assert bench.at_once.now == 2
    bench.trials(1, 1.0)
    assert bench.at_once.now == 1


def test_another_change_leaves_the_number_to_the_machine() -> None:
    bench = Bench()
    bench.at_once.take({**AUTO, "concurrency": 1})
    assert bench.at_once.now == 2
