"""A person asks for another try of what failed while the daemon is at work, and each failed trial gets it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supervisor.daemon.orchestrator import Orchestrator
from supervisor.daemon.run_selection import try_again
from supervisor.domain import messages
from supervisor.domain.finalists import SOURCE, WALK_FORWARD
from supervisor.store.steering.retry_writer import RetryWriter
from supervisor.store.trial_writer import TrialWriter
from tests.unit.daemon.orchestrator_stage import DONE, Stage, until
from tests.unit.store.evaluation_stage import FixedClock, Store, add_trials, point, run_of

FAILED: list[list[Any]] = [
    ["result", 0, 1],
    ["message", "TrialEnded", {"number": 0, "attempt": 1, "end_reason": "oom", "value": None, "error": "no memory"}],
    ["trial", 1, 0.75],
]
AGAIN: list[list[Any]] = [["trial", 0, 0.25]]


def asks(stage: Stage, only: str | None, number: int | None, when: tuple[str, str]) -> Any:
    """Return a scene in which a person asks, once the event `when` of that experiment is recorded."""

    async def scene(orchestrator: Orchestrator) -> None:
        await until(lambda: when in stage.recorded(when[0]), f"{when[0]} of {when[1]}")
        retries = try_again(RetryWriter(stage.store, "r"), "ann", only, number)
        await orchestrator.retried(retries)

    return scene


def test_a_trial_of_the_experiment_at_work_is_tried_again_by_its_next_driver(tmp_path: Path) -> None:
    """The driver at work is told, and its other trials go on; one failed trial, tried again while another works."""
    stage = Stage(tmp_path, a=[[*FAILED, ["await", "TrialsRetried"]], AGAIN])
    stage.live(asks(stage, "a", 0, ("trial.finished", "a")))
    assert stage.states() == {"a": "EXITED"}
    assert stage.trials("a") == [(0, "TERMINATED", 2, 0.25), (1, "TERMINATED", 1, 0.75)]
    assert [fields["who"] for fields in stage.facts("trial.retried")] == ["ann"]
    assert stage.recorded("driver.exited") == [], "no driver died"
    assert [fields["failed"] for fields in stage.facts("experiment.finished")] == [0]


@pytest.mark.parametrize("only", ["a", None])
def test_an_experiment_that_ended_before_runs_again_after_the_one_at_work(tmp_path: Path, only: str | None) -> None:
    stage = Stage(tmp_path, a=[FAILED, AGAIN], b=[[["trial", 0, 0.5], ["await", "Commanded"]]])

    async def go_on(orchestrator: Orchestrator) -> None:
        await until(lambda: bool(stage.facts("trial.retried")), "a retry")
        await orchestrator.commands_changed()

    stage.live(asks(stage, only, None, ("trial.finished", "b")), go_on)
    assert stage.states() == {"a": "EXITED", "b": "EXITED"}
    assert stage.recorded("experiment.finished") == [
        ("experiment.finished", "a"), ("experiment.finished", "b"), ("experiment.finished", "a")
    ]  # fmt: skip
    assert stage.trials("a")[0] == (0, "TERMINATED", 2, 0.25)


def test_a_failed_experiment_is_tried_again_with_its_failed_trials(tmp_path: Path) -> None:
    """All trials failed by a fault of the function, which its author has repaired: nothing of the old error is left."""
    both = [[*FAILED[:2], *([["result", 1, 1]]), ["message", "TrialEnded", {**FAILED[1][2], "number": 1}]], DONE]
    stage = Stage(tmp_path, a=both)
    stage.live()
    assert stage.states() == {"a": "FATAL"}
    try_again(RetryWriter(stage.store, "r"), "ann")
    stage.live()
    assert stage.states() == {"a": "EXITED"}
    assert stage.trials("a") == [(0, "TERMINATED", 2, 0.25), (1, "TERMINATED", 2, 0.75)]
    rows = stage.store.rows("SELECT error, end_reason FROM trial")
    assert {(row["error"], row["end_reason"]) for row in rows} == {(None, "finished")}


def test_a_driver_that_leaves_a_trial_without_progress_is_not_followed_without_end(tmp_path: Path) -> None:
    """A trial that is added and never ended, by a driver with nothing left to do: it ends with its experiment."""
    left = [["message", "TrialAdded", {"number": 1, "params": {}, "source": "sampled"}]]
    stage = Stage(tmp_path, a=[[["trial", 0, 0.5], *left], []])
    stage.live()
    assert stage.states() == {"a": "EXITED"}
    assert len(stage.recorded("driver.started")) == 2
    assert stage.trials("a")[1][1] == "ERROR"


def test_no_trial_of_the_finalisation_is_added_while_a_retried_one_waits(tmp_path: Path) -> None:
    """A driver that has not heard of it would choose without it: its trial is refused, and the next driver waits."""
    writer = run_of(Store(tmp_path / "sweep.db", FixedClock()))
    add_trials(writer, "20k-h1", {**dict.fromkeys(range(7), 0.5), 7: None}, {n: point(n) for n in range(8)})
    try_again(RetryWriter(writer.store, "one"), "ann", "20k-h1", 7)
    trials = TrialWriter(writer.store, "one")
    assert not trials.handle("20k-h1", messages.TrialAdded(8, point(0), SOURCE))
    assert trials.handle("20k-h1", messages.TrialStarted(7, 2, "ray", "node", 1, None))
    assert trials.handle("20k-h1", messages.TrialEnded(7, 2, "finished", 0.4, None, {}))
    assert trials.handle("20k-h1", messages.TrialAdded(8, point(0), SOURCE))
    assert not trials.handle("20k-h1", messages.TrialAdded(9, point(0), WALK_FORWARD)), "trial 8 goes on"
