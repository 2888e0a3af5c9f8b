"""The verdict of the chaos test passes a run that kept every promise, and finds each broken one."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.chaos.site import role_of
from benchmarks.chaos.trainable import BATCHES, EPOCHS, expected_losses
from benchmarks.chaos.verdict import (
    Evidence,
    Line,
    Trial,
    first_result,
    judge,
    losses_in_epochs,
    parse_diary,
    render,
    wall_s,
    whole_epochs_again,
)

X = 0.5


def _events(trials: list[Trial]) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    for trial in trials:
        where = {"experiment": trial.experiment, "trial": trial.number}
        events += [{"event": "trial.reported", **where, "step": step, "value": value} for step, value in trial.results]
        events.append({"event": "trial.finished", **where, "end_reason": trial.end_reason})
    return events


def _diary(pids: list[tuple[int, range]], number: int = 0) -> list[Line]:
    lines = []
    for moment, (pid, batch) in enumerate((pid, batch) for pid, span in pids for batch in span):
        lines.append(Line(float(moment), pid, 1, number, batch=batch))
        if batch % BATCHES == BATCHES - 1:
            lines.append(Line(moment + 0.5, pid, 1, number, epoch=batch // BATCHES + 1))
    return lines


@pytest.fixture
def evidence() -> Evidence:
    """Two trials; the first was killed in its third epoch, and resumed from the end of its second."""
    losses = {number: list(enumerate(expected_losses(1, number, X), 1)) for number in (0, 1)}
    trials = [
        Trial("p1", 1, 0, X, "finished", tuple(losses[0])),
        Trial("p1", 1, 1, X, "pruned", tuple(losses[1][:2])),
    ]
    killed, resumed = range(20), range(2 * BATCHES, EPOCHS * BATCHES)
    return Evidence(
        wanted={1: 2}, trials=trials, seen=_events(trials), logged=_events(trials), kills=1, quiet=[(1000.0, 1003.0)],
        diary=_diary([(7, killed), (8, resumed)]) + _diary([(9, range(2 * BATCHES))], number=1),
        descriptors={5: [14, 17, 16]}, checkpoints={"0": 2},
    )  # fmt: skip


def test_a_run_that_kept_every_promise_passes(evidence: Evidence) -> None:
    verdicts = judge(evidence)
    assert [verdict for verdict in verdicts if verdict.faults] == []
    assert "BROKEN" not in render(verdicts)
    assert losses_in_epochs(evidence.diary) == [4 / BATCHES]
    assert whole_epochs_again(evidence.diary) == 0


def _remove_a_result(evidence: Evidence) -> None:
    first = evidence.trials[0]
    evidence.trials[0] = Trial("p1", 1, 0, X, "finished", first.results[1:])


def _change_a_loss(evidence: Evidence) -> None:
    first = evidence.trials[0]
    changed = ((1, math.nextafter(first.results[0][1], 9.0)), *first.results[1:])
    evidence.trials[0] = Trial("p1", 1, 0, X, "finished", changed)


def _train_on_after_another(evidence: Evidence) -> None:
    evidence.diary.append(Line(999.0, 7, 1, 0, 47))


def _train_in_a_pause(evidence: Evidence) -> None:
    evidence.diary.append(Line(1001.0, 8, 1, 0, 47))


def _fall_back(evidence: Evidence) -> None:
    evidence.diary += _diary([(11, range(4 * BATCHES)), (12, range(BATCHES // 2, 4 * BATCHES))], number=2)


def _waste(evidence: Evidence) -> None:
    evidence.diary += _diary([(11, range(3 * BATCHES)), (12, range(3 * BATCHES))], number=2)


BREAKS: dict[str, tuple[Callable[[Evidence], object], str]] = {
    "a result that the store lacks": (_remove_a_result, "no committed result is lost"),
    "a result that the log lacks": (lambda e: e.logged.pop(0), "no committed result is lost"),
    "an end that the log lacks": (lambda e: e.logged.pop(), "no committed result is lost"),
    "a result that is logged twice": (lambda e: e.logged.append(e.logged[0]), "no result is counted twice"),
    "a trial that ended twice": (lambda e: e.logged.append(e.logged[-1]), "no result is counted twice"),
    "a loss that is not the trial's own": (_change_a_loss, "each loss equals an undisturbed trial's, to the bit"),
    "a missing trial": (lambda e: e.wanted.update({2: 1}), "each trial ends, finished or pruned"),
    "two processes at one trial": (_train_on_after_another, "at most one attempt of a trial is live"),
    "more repeated epochs than kills": (_waste, "wasted epochs are not more than those between checkpoints"),
    "a restart that repeats many epochs": (
        _fall_back,
        "a fault costs the work since the last checkpoint, no more",
    ),
    "a batch in a pause": (_train_in_a_pause, "a pause holds, through kills too"),
    "descriptors that accumulate": (
        lambda e: e.descriptors.update({5: [14, 90]}),
        "descriptors and files do not accumulate",
    ),
    "checkpoints that accumulate": (
        lambda e: e.checkpoints.update({"1": 9}),
        "descriptors and files do not accumulate",
    ),
    "a process that outlives the run": (lambda e: e.left.append("1 x"), "no process of the run outlives it"),
    "work that did not resume": (lambda e: e.troubles.append("x"), "work resumes after each fault"),
    "an audit that finds a broken promise": (
        lambda e: setattr(e, "audit", "BROKEN"),
        "supervisorctl audit finds nothing broken",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_promise_is_found(evidence: Evidence, name: str) -> None:
    evidence = copy.deepcopy(evidence)
    break_it, claim = BREAKS[name]
    break_it(evidence)
    verdicts = judge(evidence)
    assert claim in [verdict.claim for verdict in verdicts if verdict.faults]
    assert "BROKEN" in render(verdicts)


def _event(second: int, event: str, **where: Any) -> dict[str, Any]:
    return {"ts": f"2026-01-01T00:00:{second:02}+00:00", "event": event, **where}


def test_work_went_on_with_the_first_result_that_the_fault_had_to_do_with() -> None:
    """A result of another worker proves nothing about a killed one, nor does one before the watchdog is back."""
    first, second = ({"experiment": "p1", "trial": trial, "attempt": 1} for trial in (0, 1))
    events = [
        _event(1, "trial.started", **first), _event(3, "trial.reported", **first), _event(4, "trial.started", **second),
        _event(5, "watchdog.started"), _event(6, "trial.reported", **second),
    ]  # fmt: skip
    epoch_s = wall_s(_event(0, ""))
    assert first_result(events, epoch_s + 2, new_attempt=False, watched=False) == [epoch_s + 3]
    assert first_result(events, epoch_s + 2, new_attempt=True, watched=False) == [epoch_s + 6]
    assert first_result(events, epoch_s + 2, new_attempt=False, watched=True) == [epoch_s + 6]
    assert first_result(events, epoch_s + 7, new_attempt=False, watched=False) == []


def test_a_torn_last_line_of_the_diary_is_left_out() -> None:
    assert parse_diary(["1.5 7 1 0 batch 7\n", "1.6 7 1 0 epoch 1\n", "1.7 7 1 0 batch 1"]) == [
        Line(1.5, 7, 1, 0, batch=7),
        Line(1.6, 7, 1, 0, epoch=1),
    ]


@pytest.mark.parametrize(
    ("name", "command", "role"),
    [
        ("python3", ["/x/python3", "-P", "-m", "actors.driver", "--read-fd", "4"], "driver"),
        (
            "python3",
            ["/x/python3", "-P", "-m", "supervisor.processes.guardian", "1.0", "/x/python3", "-m", "ray"],
            "guardian",
        ),
        ("raylet", ["/x/ray/core/src/ray/raylet/raylet", "--a=b"], "raylet"),
        ("gcs_server", ["/x/ray/core/src/ray/gcs/gcs_server", "--log_dir=/tmp"], "gcs"),
        ("ray::watchdog-01:WatchdogActor", ["ray::watchdog-01:WatchdogActor.__init__", ""], "watchdog"),
        ("ray::WatchdogActor", ["ray::WatchdogActor.wait_change"], "watchdog"),
        ("ray::SupervisedChain", ["ray::SupervisedChain.train"], "worker"),
        ("ray::chaos-part=1/17", ["ray::chaos-part=1/17", ""], "worker"),
        ("ray::watchdog-plan/3", ["ray::watchdog-plan/3", ""], "worker"),
        ("ray::IDLE", ["ray::IDLE"], None),
        ("ray::DashboardAgent", ["ray::DashboardAgent"], "agent"),
        ("python3", ["/x/python3", "/x/ray/dashboard/dashboard.py", "--port=8265"], "dashboard"),
        ("bash", ["bash", "-c", "sleep 1"], None),
        ("kthread", [], None),
    ],
)
def test_a_process_is_recognised_by_its_command(name: str, command: list[str], role: str | None) -> None:
    assert role_of(name, command) == role
