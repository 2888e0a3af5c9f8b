"""Test the hours of experiments: the countdown, what is passed on, and the shapes that are left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.clock import Clock
from supervisor.daemon.experiments.experiment_hours import Countdown, decides_as, narrow, pass_on
from supervisor.daemon.experiments.experiment_state import ExperimentState
from supervisor.daemon.orchestrator import Orchestrator
from supervisor.domain import messages
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.messages import TimeLeft
from supervisor.domain.search_time import TRIAL_OVERHEAD_S, SearchTime
from supervisor.home import Home
from supervisor.store import lookups
from supervisor.store.database import Store
from supervisor.store.run_writer import RunWriter, create_run
from supervisor.store.trial_writer import TrialWriter
from tests.unit.daemon.orchestrator_stage import Stage, until

HOUR_S = 3600.0
SPACE = {"shape_rank": {"type": "int", "low": 0, "high": 4}}
PAUSE = {"action": "PAUSE", "origin": "operator", "reason": "a call", "drill": False}


class HandSetClock(Clock):
    now = 1_700_000_000.0

    def wall_s(self) -> float:
        return self.now

    def mono_s(self) -> float:
        return self.now


@pytest.fixture
def clock() -> HandSetClock:
    return HandSetClock()


@pytest.fixture
def writer(tmp_path: Path, clock: HandSetClock) -> Iterator[RunWriter]:
    store = Store(tmp_path / "sweep.db", clock)
    specs = [
        {
            "name": name, "mode": "min", "max_trials": 9, "max_epochs": 4, "concurrency": 1, "max_hours": hours,
            "space": SPACE, "enqueue": [{"shape_rank": 0}], "finalize": {"top": 2, "seeds": 1},
        }
        for name, hours in (("a", 2.0), ("b", 3.0), ("c", 4.0), ("free", None))
    ]  # fmt: skip
    create_run(
        store, "r", plan="p", fingerprint="f", source="built-in", plan_text="", hardware={}, data={}, specs=specs
    )
    yield RunWriter(store, "r")
    store.close()


def begin(writer: RunWriter, clock: Clock, name: str) -> ExperimentState:
    state = ExperimentState(name, writer, clock, Home(Path("/nowhere")))
    state.start()
    writer.record("driver.started", experiment=name, pid=1)
    state.started()
    return state


def train(writer: RunWriter, name: str, number: int, value: float, epoch_s: float) -> None:
    trials = TrialWriter(writer.store, "r")
    trials.handle(name, messages.TrialAdded(number, {"shape_rank": number}, "sampled"))
    trials.handle(name, messages.TrialStarted(number, 1, "ray", "n", 1, None))
    for step in (1, 2):
        metrics = {"time_this_iter_s": epoch_s}
        trials.handle(name, messages.ResultReported(number, 1, step, value, metrics, None))
    trials.handle(name, messages.TrialEnded(number, 1, "finished", value, None))


def test_only_time_in_which_the_experiment_runs_is_counted_down(writer: RunWriter, clock: HandSetClock) -> None:
    state = ExperimentState("a", writer, clock, Home(Path("/nowhere")))
    state.start()
    countdown = Countdown(state, clock, lambda _: None)
    clock.now += HOUR_S
    assert countdown.look() == 2 * HOUR_S, "its driver has not said hello"
    state.started()
    clock.now += 600.0
    assert countdown.look() == 2 * HOUR_S - 600.0
    writer.record("experiment.paused", experiment="a", **PAUSE)
    clock.now += 9 * HOUR_S
    assert countdown.look() == 2 * HOUR_S - 600.0
    writer.record("experiment.resumed", experiment="a", drill=False)
    clock.now += 9 * HOUR_S
    assert countdown.look() == 0.0


def test_an_experiment_without_hours_is_never_looked_at(writer: RunWriter, clock: HandSetClock) -> None:
    countdown = Countdown(begin(writer, clock, "free"), clock, lambda _: None)
    assert (countdown.left_s, countdown.look()) == (None, None)


def test_ended_trials_replace_the_estimate(writer: RunWriter, clock: HandSetClock) -> None:
    countdown = Countdown(begin(writer, clock, "a"), clock, lambda _: {0: 100.0, 1: 300.0})
    first = countdown.message()
    assert (first.left_s, first.trial_s, first.top, first.seeds) == (2 * HOUR_S, 200.0, 2, 1)
    assert first.reserve_s == 2 * 200.0 + 50.0, "two trials, and a test of an epoch"
    train(writer, "a", 0, 0.5, epoch_s=10.0)
    assert countdown.message().trial_s == 20.0 + TRIAL_OVERHEAD_S
    train(writer, "a", 1, 0.4, epoch_s=30.0)
    later = countdown.message()
    assert later.trial_s == 40.0 + TRIAL_OVERHEAD_S
    assert later.reserve_s == pytest.approx(2.25 * (90.0 + TRIAL_OVERHEAD_S)), "three epochs of the slower one"
    assert Countdown(begin_again(writer, clock), clock, lambda _: None).message() == later, "the next driver's is so"


def test_a_driver_is_told_again_only_what_changes_a_decision_or_once_a_minute(
    writer: RunWriter, clock: HandSetClock
) -> None:
    countdown = Countdown(begin(writer, clock, "a"), clock, lambda _: {0: 100.0, 1: 300.0})

    def told_after(seconds: float) -> TimeLeft | None:
        clock.now += seconds
        countdown.look()
        return countdown.news()

    assert told_after(0.0) == countdown.message()
    assert told_after(1.0) is None
    assert told_after(58.0) is None
    assert told_after(1.0) == countdown.message(), "a minute"
    train(writer, "a", 0, 0.5, epoch_s=10.0)
    assert told_after(1.0) == countdown.message(), "another pace"
    assert told_after(1.0) is None
    writer.record("experiment.paused", experiment="a", **PAUSE)
    assert told_after(9 * HOUR_S) is None, "nothing is used up in a pause"


@given(
    reserve_s=st.floats(0.0, 100.0), trial_s=st.none() | st.floats(0.0, 100.0), first=st.floats(0.0, 300.0),
    second=st.floats(0.0, 300.0),
)  # fmt: skip
def test_two_messages_are_the_same_to_a_driver_when_it_decides_the_same(
    reserve_s: float, trial_s: float | None, first: float, second: float
) -> None:
    one, other = (TimeLeft(left_s, trial_s, reserve_s, 2, 1) for left_s in (first, second))
    asked = [SearchTime(**asdict(message)) for message in (one, other)]
    same = len({(time.is_over, time.fits_another) for time in asked}) == 1
    assert decides_as(one, other) is same
    assert not decides_as(one, replace(other, top=1))
    assert not decides_as(one, replace(other, reserve_s=other.reserve_s + 1.0))


def begin_again(writer: RunWriter, clock: Clock) -> ExperimentState:
    state = ExperimentState("a", writer, clock, Home(Path("/nowhere")))
    state.back_off(0, "signal SIGKILL")
    return state


def test_hours_that_are_left_over_go_to_the_next_experiment_once(writer: RunWriter, clock: HandSetClock) -> None:
    pass_on(writer, "a")
    state = begin(writer, clock, "a")
    train(writer, "a", 0, 0.5, 1.0)
    clock.now += 0.5 * HOUR_S
    state.end(None)
    ExperimentState("b", writer, clock, Home(Path("/nowhere"))).skip("too large")
    for _ in range(2):
        for name in ("a", "c", "free"):
            pass_on(writer, name)
    hours = {row["name"]: lookups.spec(writer.store, "r", row["name"])["max_hours"] for row in experiments(writer)}
    assert hours == {"a": 2.0, "b": 3.0, "c": 4.0 + 1.5 + 3.0, "free": None}
    (event,) = [event for event in writer.store.events_after(0) if event.name == "experiment.extended"]
    assert (event.experiment, event.fields["sources"]) == ("c", ["a", "b"])


def test_a_trial_that_left_no_epoch_does_not_replace_the_estimate(writer: RunWriter, clock: HandSetClock) -> None:
    countdown = Countdown(begin(writer, clock, "a"), clock, lambda _: {0: 200.0})
    before = countdown.message()
    trials = TrialWriter(writer.store, "r")
    trials.handle("a", messages.TrialAdded(0, {"shape_rank": 0}, "sampled"))
    trials.handle("a", messages.TrialStarted(0, 1, "ray", "n", 1, None))
    trials.handle("a", messages.TrialEnded(0, 1, "oom", None, "out of memory"))
    assert countdown.message() == before


def experiments(writer: RunWriter) -> list[Any]:
    return lookups.experiments(writer.store, "r")


@pytest.mark.parametrize(
    ("seconds", "ranks", "why"),
    [
        (dict.fromkeys(range(5), HOUR_S), (0, 4), None),
        (None, (0, 4), None),
        ({0: 9 * HOUR_S, 1: 3 * HOUR_S, 2: HOUR_S, 3: HOUR_S, 4: HOUR_S}, (2, 4), None),
        ({0: HOUR_S, 1: 3 * HOUR_S, 2: HOUR_S, 3: HOUR_S, 4: 9 * HOUR_S}, (2, 3), None),
        (dict.fromkeys(range(5), 3 * HOUR_S), (0, 4), "its hours are too short"),
    ],
)
def test_shapes_of_which_one_trial_is_too_long_are_left_out(
    writer: RunWriter, seconds: dict[int, float] | None, ranks: tuple[int, int], why: str | None
) -> None:
    found = narrow(writer, "a", lambda _: seconds)
    assert found is None if why is None else why in (found or "")
    spec = lookups.spec(writer.store, "r", "a")
    assert (spec["space"]["shape_rank"]["low"], spec["space"]["shape_rank"]["high"]) == ranks
    assert spec["enqueue"] == [{"shape_rank": ranks[0]}]


def test_a_space_is_not_narrowed_after_its_first_trial(writer: RunWriter, clock: HandSetClock) -> None:
    begin(writer, clock, "a")
    train(writer, "a", 0, 0.5, 1.0)
    assert narrow(writer, "a", lambda _: {0: 9 * HOUR_S, 1: HOUR_S}) is None
    assert lookups.spec(writer.store, "r", "a")["space"] == SPACE


SEARCH_ENDED = {"reason": "finish", "trials": 1, "top": None, "seeds": None}


def test_a_driver_hears_of_its_hours_and_of_a_finish_and_its_answer_is_kept(tmp_path: Path) -> None:
    ends = [
        ["trial", 0, 0.25], ["await", "TimeLeft"], ["await", "FinishAsked"], ["message", "SearchEnded", SEARCH_ENDED]
    ]  # fmt: skip
    stage = Stage(tmp_path, max_hours=1.0, a=[[*ends]], b=[[["trial", 0, 0.5], ["trial", 1, 0.5]]])

    async def finish(at_work: Orchestrator) -> None:
        await until(lambda: len(stage.facts("trial.finished")) == 1, "a trial has ended")
        left_s = at_work.left_s["a"]
        assert left_s is not None
        assert 0.0 < left_s <= HOUR_S
        await at_work.finish("a", "ann")

    stage.live(finish)
    assert stage.states() == {"a": "EXITED", "b": "EXITED"}
    assert stage.facts("experiment.search_ended") == [SEARCH_ENDED]
    assert lookups.spec(stage.store, "r", "a")["searched"] == 1
    (extended,) = stage.facts("experiment.extended")
    assert extended["sources"] == ["a"]


def test_a_finish_lets_a_paused_trial_of_its_experiment_go(tmp_path: Path) -> None:
    ends = [["trial", 0, 0.25], ["await", "FinishAsked"], ["message", "SearchEnded", SEARCH_ENDED]]
    stage = Stage(tmp_path, a=[[*ends]])

    async def finish(at_work: Orchestrator) -> None:
        await until(lambda: len(stage.facts("trial.finished")) == 1, "a trial has ended")
        for scope in ("a/1", "b/1"):
            stage.writer.put_command(Command(Action.PAUSE, Origin.OPERATOR, "a look", scope, who="bob"), "now")
        await at_work.finish("a", "ann")

    stage.live(finish)
    assert [command.scope for command in stage.writer.commands()] == ["b/1"]


def test_a_finish_between_two_drivers_is_in_the_begin_of_the_next(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[["trial", 0, 0.25], ["die"]], [["message", "SearchEnded", SEARCH_ENDED]]])

    async def finish(at_work: Orchestrator) -> None:
        await until(lambda: stage.states() == {"a": "BACKOFF"}, "the driver has died")
        await at_work.finish("a", "ann")

    stage.live(finish)
    spec = lookups.spec(stage.store, "r", "a")
    assert (stage.states(), spec["finish_asked"], spec["searched"]) == ({"a": "EXITED"}, True, 1)


def test_a_search_cannot_end_with_another_number_of_trials_than_it_has(tmp_path: Path) -> None:
    wrong = ["message", "SearchEnded", {**SEARCH_ENDED, "trials": 2}]
    stage = Stage(tmp_path, a=[[["trial", 0, 0.25], wrong, ["sleep"]], [["trial", 1, 0.5]]])
    stage.live()
    assert stage.states() == {"a": "EXITED"}
    assert stage.facts("experiment.search_ended") == []
    assert "expected the end of a search of 1 trials, found 2" in stage.facts("driver.exited")[0]["reason"]
