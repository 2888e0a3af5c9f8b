"""An experiment that stands still is an event, once; what a command holds, and what is only slow, is none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.daemon.upkeep.disk_low import DiskLow
from supervisor.daemon.upkeep.stalls import AT_LEAST_S, WITHOUT_EPOCH_S, StallWatch, limit_s
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.scope import trial_scope
from supervisor.store.run_writer import RunWriter
from tests.unit.news.post import HandClock, names, run_of


class Scene:
    """A run with one trial at work, its clock and its command."""

    def __init__(self, writer: RunWriter, clock: HandClock) -> None:
        self.writer, self.clock = writer, clock
        self.experiment: str | None = "one"
        self.beside: list[str] = []
        self.command = governor(Action.RUN)
        self.begin_anew()
        self.step = 0
        writer.record("trial.added", experiment="one", trial=0, params={}, source="sampled")
        writer.record(
            "trial.started", experiment="one", trial=0, attempt=1, node="n", worker_pid=1, ray_trial_id="r",
            resumed_step=None,
        )  # fmt: skip

    def begin_anew(self) -> None:
        """Begin to watch as a daemon does at its start."""
        self.watch = StallWatch(
            self.writer, self.clock, lambda: [*self.beside, *([self.experiment] if self.experiment else [])],
            lambda: self.command,
        )  # fmt: skip

    def report(self, seconds: float) -> None:
        self.step += 1
        self.writer.record(
            "trial.reported", experiment="one", trial=0, attempt=1, step=self.step, value=0.5,
            metrics={"time_this_iter_s": seconds}, checkpoint=None,
        )  # fmt: skip

    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds / 60)):
            self.clock.now_s += 60.0
            self.watch.look()

    def said(self) -> list[str]:
        return [name for name in names(self.writer) if name in ("experiment.stalled", "experiment.stall_ended")]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    clock = HandClock()
    with run_of(tmp_path, clock, "two") as writer:
        yield Scene(writer, clock)


def test_a_silence_of_many_epochs_is_said_once_and_so_is_its_end(scene: Scene) -> None:
    scene.report(10.0)
    scene.wait(AT_LEAST_S - 60.0)
    assert scene.said() == []
    scene.wait(10 * AT_LEAST_S)
    assert scene.said() == ["experiment.stalled"]
    scene.report(10.0)
    scene.wait(60.0)
    assert scene.said() == ["experiment.stalled", "experiment.stall_ended"]


def test_the_end_of_a_stall_is_told_by_the_next_daemon_too(scene: Scene) -> None:
    scene.report(10.0)
    scene.wait(2 * AT_LEAST_S)
    scene.begin_anew()
    scene.experiment = None  # Ray starts
    scene.wait(120.0)
    scene.experiment = "one"
    scene.wait(2 * AT_LEAST_S)
    assert scene.said() == ["experiment.stalled"], "it is not said again"
    scene.report(10.0)
    scene.wait(60.0)
    assert scene.said() == ["experiment.stalled", "experiment.stall_ended"]
    (row,) = scene.writer.store.rows("SELECT fields FROM event WHERE name = 'experiment.stall_ended'")
    assert json.loads(row["fields"])["silent_s"] == 4 * AT_LEAST_S + 120.0
    scene.begin_anew()
    scene.wait(2 * AT_LEAST_S)
    assert scene.said()[2:] == ["experiment.stalled"], "another one is"


def test_a_stall_is_forgotten_when_another_experiment_is_at_work(scene: Scene) -> None:
    scene.report(10.0)
    scene.wait(2 * AT_LEAST_S)
    scene.experiment = "two"
    scene.writer.record("trial.added", experiment="two", trial=0, params={}, source="sampled")
    scene.wait(60.0)
    scene.experiment = "one"
    scene.report(10.0)
    scene.wait(60.0)
    assert scene.said() == ["experiment.stalled"]


def test_each_of_two_experiments_side_by_side_has_its_own_silence(scene: Scene) -> None:
    """Progress in the other one ends no stall."""
    scene.report(10.0)
    scene.writer.record("trial.added", experiment="two", trial=0, params={}, source="sampled")
    scene.beside = ["two"]
    for _ in range(int(3 * WITHOUT_EPOCH_S / AT_LEAST_S)):
        scene.report(10.0)
        scene.wait(AT_LEAST_S / 2)
    stalled = [event for event in scene.writer.store.events_after(0) if event.name.startswith("experiment.stall")]
    assert [(event.name, event.experiment) for event in stalled] == [("experiment.stalled", "two")]


def test_long_epochs_and_the_time_before_the_first_one_are_no_stall(scene: Scene) -> None:
    scene.wait(WITHOUT_EPOCH_S - 600.0)
    scene.report(3600.0)
    scene.wait(4 * 3600.0)
    assert scene.said() == []
    scene.wait(3600.0 + 120.0)
    assert scene.said() == ["experiment.stalled"]


def test_what_a_command_holds_is_not_stalled(scene: Scene) -> None:
    scene.report(10.0)
    for action in (Action.HOLD, Action.PAUSE, Action.STOP):
        scene.command = governor(action)
        scene.wait(10 * AT_LEAST_S)
        scene.command = governor(Action.RUN)
        scene.wait(AT_LEAST_S - 120.0)
    assert scene.said() == []


def test_an_operators_hold_counts_also_below_a_governors_shed(scene: Scene) -> None:
    scene.report(10.0)
    for state in ("STARTING", "RUNNING"):
        scene.writer.record("experiment.moved", experiment="one", state=state, reason=None)
    held = {"action": "HOLD", "origin": "operator", "reason": "visitors", "drill": False}
    scene.writer.record("experiment.paused", experiment="one", **held)
    scene.command = governor(Action.SHED, shed_trials=1)
    scene.wait(10 * AT_LEAST_S)
    assert scene.said() == []


def test_a_trial_that_a_person_holds_by_itself_is_not_stalled(scene: Scene) -> None:
    scene.report(10.0)
    hold = Command(Action.PAUSE, Origin.OPERATOR, "visitors", trial_scope("one", 0), who="ann")
    scene.writer.put_command(hold, "now")
    scene.wait(10 * AT_LEAST_S)
    assert scene.said() == []


def test_a_hot_machine_that_works_on_with_less_can_stall(scene: Scene) -> None:
    scene.report(10.0)
    scene.command = governor(Action.SHED, shed_trials=1)
    scene.wait(AT_LEAST_S + 60.0)
    assert scene.said() == ["experiment.stalled"]


def test_trials_that_rest_for_three_quarters_of_the_time_may_take_four_times_as_long(scene: Scene) -> None:
    scene.report(10.0)
    scene.command = governor(Action.THROTTLE, throttle_share=0.75)
    scene.wait(4 * AT_LEAST_S - 60.0)
    assert scene.said() == []
    scene.wait(120.0)
    assert scene.said() == ["experiment.stalled"]


def governor(action: Action, **how: float) -> Command:
    return Command(action, Origin.GOVERNOR, "92 C", **how)  # type: ignore[arg-type]


def test_a_limit_grows_with_the_longest_epoch() -> None:
    assert [limit_s(s) for s in (None, 1.0, 3600.0)] == [WITHOUT_EPOCH_S, AT_LEAST_S, 5 * 3600.0]


def test_a_low_disk_is_said_once_until_there_is_space_again(scene: Scene) -> None:
    free: list[int | None] = [100]
    hold_bytes = [10.0]
    disk = DiskLow(scene.writer, scene.clock, "/x", lambda: free[0], lambda: hold_bytes[0])
    for now in (100, 19, 18, 25, 19, None, 31, 12):
        free[0] = now
        disk.look()
    assert names(scene.writer).count("disk.nearly_filled") == 2
    hold_bytes[0] = 100.0  # a person changes the policy
    for now in (301, 150):
        free[0] = now
        disk.look()
    assert names(scene.writer).count("disk.nearly_filled") == 3
