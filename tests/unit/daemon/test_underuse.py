"""An idle machine: named with its cause and cure while work waits, after ten minutes, and at most once an hour."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.clock import Clock
from supervisor.daemon.upkeep.underuse import (
    AGAIN_S,
    IDLE_S,
    LOOK_PERIOD_S,
    Scene,
    UnderuseWatch,
    scene_of,
    underuse_of,
)
from supervisor.domain import messages
from supervisor.domain.command import Action
from supervisor.store.trial_writer import TrialWriter
from tests.unit.daemon.orchestrator_stage import DONE, Stage

IDLE = Scene(
    cores=16, cpu_percent=12.5, accelerator_percent=None, action=Action.RUN, concurrency=2, trial_cores=1.0, running=2,
    waiting=20, searching=10, auto=False,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "--set concurrency=auto"),
        ({"auto": True}, "by the machine's choice"),
        ({"running": 0}, "no trial has started"),
        ({"running": 1, "searching": 0, "concurrency": 16}, "wait for its last ones"),
        ({"running": 1, "concurrency": 16}, "16 may"),
        ({"concurrency": 8, "running": 8, "trial_cores": 2.0}, "do not keep their cores busy"),
        ({"cpu_percent": 99.0, "accelerator_percent": 5.0}, "accelerator is used to 5 %"),
    ],
)
def test_the_cause_follows_from_what_runs_and_waits(changes: dict[str, object], said: str) -> None:
    found = underuse_of(replace(IDLE, **changes))  # type: ignore[arg-type]
    assert found is not None
    assert said in f"{found.cause}; {found.cure}"


@pytest.mark.parametrize(
    "changes",
    [{"cpu_percent": 95.0}, {"cpu_percent": None}, {"waiting": 0}, {"action": Action.SHED}, {"action": Action.PAUSE}],
)
def test_a_busy_a_held_or_an_unknown_machine_and_one_without_work_is_not_underused(changes: dict[str, object]) -> None:
    assert underuse_of(replace(IDLE, **changes)) is None  # type: ignore[arg-type]


class HandClock(Clock):
    now = 0.0

    def mono_s(self) -> float:
        return self.now


@given(st.lists(st.booleans(), min_size=1, max_size=400))
def test_an_event_needs_ten_idle_minutes_and_comes_at_most_once_an_hour(idle: list[bool]) -> None:
    clock, said = HandClock(), []

    class Writer:
        def record(self, name: str, **fields: str) -> None:
            assert name == "machine.underused"
            assert all(fields[key] for key in ("what", "cause", "cure"))
            said.append(clock.now)

    present = True
    watch = UnderuseWatch(Writer(), clock, lambda: IDLE if present else None)  # type: ignore[arg-type]
    began: float | None = None
    for present in idle:
        watch.look()
        began = (clock.now if began is None else began) if present else None
        assert (watch.now is not None) == (began is not None and clock.now - began >= IDLE_S)
        assert not said or said[-1] != clock.now or watch.now is not None
        clock.now += LOOK_PERIOD_S
    assert all(later - earlier >= AGAIN_S for earlier, later in pairwise(said))


def test_a_scene_counts_what_runs_and_what_waits(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[DONE])
    trials = TrialWriter(stage.store, "r")
    trials.handle("a", messages.TrialAdded(0, {}, "sampled"))
    trials.handle("a", messages.TrialStarted(0, 1, "ray", "node", 1, None))
    readings = [{"kind": "utilisation", "component": "cpu", "value": 50.0}, {"kind": "memory", "component": "host"}]
    scene = scene_of(stage.store, "r", ["a"], readings, Action.RUN, 2)
    assert (scene.running, scene.waiting, scene.searching, scene.cpu_percent) == (1, 1, 1, 50.0)
    assert scene.accelerator_percent is None
