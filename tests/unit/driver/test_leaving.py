"""A driver that ends tells the watchdogs to stop its trials, and nothing afterwards. No Ray running."""

from __future__ import annotations

from actors.driver.__main__ import Driver
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.messages import Commanded


class Watchdogs:
    def __init__(self):
        self.told = []

    def set_operator(self, commands, stamp):
        self.told.append([command.action for command in commands])


def test_the_stop_by_which_trials_leave_is_lifted_by_nothing_that_comes_later():
    """Neither by memory that is asked or given back meanwhile, nor by what the operator says."""
    driver, watchdogs = Driver(link=None), Watchdogs()
    driver._watchdogs = watchdogs
    driver._in_force.tell_watchdogs = driver._tell_watchdogs
    driver._in_force.ask_back(0, "memory at 91 %")
    assert watchdogs.told == [[Action.STOP]]
    driver._leave()
    assert watchdogs.told[1:] == [[Action.STOP]]
    driver._in_force.given_back(0)
    driver.on_message(Commanded([Command(Action.PAUSE, Origin.OPERATOR, "test").to_json()]))
    assert len(watchdogs.told) == 2
