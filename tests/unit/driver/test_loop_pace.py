"""Test how long Tune's loop rests and waits. No Ray running."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.driver import loop_pace, ray_private
from actors.driver.commands_in_force import CommandsInForce, NodeReport
from actors.driver.loop_pace import MAX_REST_S, MIN_REST_S, RESTS_PER_QUIET, LoopPace, rest_s
from supervisor.domain.command import Action, Command, Origin
from tests.waits import NET_S

PAUSE = Command(Action.PAUSE, Origin.OPERATOR, "visitors")


class Loop:
    """A driver's loop on a clock of its own, whose rests are kept instead of slept."""

    def __init__(self, monkeypatch, tasks=0):
        self.now, self.rests = 1000.0, []
        self.in_force = CommandsInForce("e")
        self.manager = SimpleNamespace(num_actor_tasks=tasks)
        self.controller = SimpleNamespace(_actor_manager=self.manager)
        self.pace = LoopPace(self.in_force, lambda: self.now)
        monkeypatch.setattr(self.in_force, "wait_change", self.wait_change)

    def wait_change(self, version, timeout_s):
        assert version == self.in_force.version
        self.rests.append(timeout_s)
        self.now += timeout_s

    def round(self, held=0, closed=False, after_s=0.0):
        self.now += after_s
        self.pace.rest(self.controller, held, closed=closed)

    @property
    def wait_s(self):
        return vars(self.manager)[ray_private._LEAST_WAIT]


@given(st.floats(0.0, 1e6))
def test_a_rest_is_bounded_and_never_longer_than_its_share_of_the_quiet_time(quiet_s):
    assert MIN_REST_S <= rest_s(quiet_s) <= MAX_REST_S
    assert rest_s(quiet_s) <= max(MIN_REST_S, quiet_s / RESTS_PER_QUIET)


def test_a_paused_loop_without_work_rests_ever_longer_and_shortly_again_after_a_change(monkeypatch):
    loop = Loop(monkeypatch)
    while loop.now < 1060.0:
        loop.round(held=2, closed=True)
    assert loop.rests[0] == MIN_REST_S
    assert loop.rests[-1] == MAX_REST_S
    assert len(loop.rests) < 60 / MIN_REST_S / 5
    loop.in_force.set_operator([PAUSE])
    loop.round(held=2, closed=True)
    assert loop.rests[-1] == MIN_REST_S


@pytest.mark.parametrize(("held", "closed", "tasks"), [(0, False, 0), (0, False, 2), (2, True, 1)])
def test_a_loop_that_is_not_held_back_or_has_work_does_not_rest(monkeypatch, held, closed, tasks):
    loop = Loop(monkeypatch, tasks)
    loop.round(held, closed)
    assert loop.rests == []


def test_a_loop_waits_long_for_events_unless_held_trials_wait_for_it(monkeypatch):
    loop = Loop(monkeypatch, tasks=1)
    loop.round()
    assert loop.wait_s == MAX_REST_S
    loop.round(held=1, closed=True)
    assert loop.wait_s == MIN_REST_S
    loop.round(held=1, closed=True, after_s=3600.0)
    assert loop.wait_s == MAX_REST_S


def test_a_driver_that_is_to_end_waits_shortly(monkeypatch):
    loop = Loop(monkeypatch, tasks=1)
    loop.in_force.finish("SIGTERM")
    for _ in range(3):
        loop.round(after_s=10.0)
        assert loop.wait_s == MIN_REST_S


def test_a_command_ends_a_rest_at_once(monkeypatch):
    """The rest here would last for a day."""
    monkeypatch.setattr(loop_pace, "MIN_REST_S", 86400.0)
    monkeypatch.setattr(loop_pace, "MAX_REST_S", 86400.0)
    in_force = CommandsInForce("e", [PAUSE])
    controller = SimpleNamespace(_actor_manager=SimpleNamespace(num_actor_tasks=0))
    pace = LoopPace(in_force, time.monotonic)
    thread = threading.Thread(target=lambda: pace.rest(controller, 1, closed=True), daemon=True)
    thread.start()
    until_s = time.monotonic() + NET_S
    while thread.is_alive() and time.monotonic() < until_s:
        # Again, because the rest may have begun after the last one.
        in_force.set_operator([])
        thread.join(0.05)
    assert not thread.is_alive()


def test_a_report_as_the_one_before_ends_no_rest_and_another_one_does():
    in_force = CommandsInForce("e")
    report = NodeReport(Command(Action.RUN, Origin.GOVERNOR, ""))
    in_force.report("n", report)
    version = in_force.version
    in_force.report("n", NodeReport(Command(Action.RUN, Origin.GOVERNOR, "")))
    assert in_force.version == version
    in_force.report("n", NodeReport(report.command, waiting=frozenset({("e", 1, 1)})))
    assert in_force.version == version + 1
    in_force.forget_node("n")
    assert in_force.version == version + 2
