"""A driver that ends sends the watchdogs a STOP, and no command after it. No Ray running."""

from __future__ import annotations

import pytest

from actors.driver.commands_in_force import CommandsInForce
from actors.driver.watchdog_links import WatchdogLinks
from supervisor.domain.command import Action, Command, Origin


@pytest.fixture
def sent(monkeypatch):
    """The actions of each message to the one watchdog."""
    found = []

    class Node:
        node = "n"

        def call(self, method, commands, stamp, experiment):
            found.append([command.action.name for command in commands])

    monkeypatch.setattr(WatchdogLinks, "_add", lambda self, node, hosts: Node())
    return found


def test_no_later_command_lifts_the_stop_by_which_trials_leave(sent):
    """Memory that is asked back or given back does not, and no command of the operator does."""
    in_force = CommandsInForce("e")
    watchdogs = WatchdogLinks(None, in_force, {})
    watchdogs._nodes = {"n": watchdogs._add("n", {})}
    in_force.ask_back(0, "memory at 91 %")
    assert sent == [["STOP"]]
    watchdogs.leave("asked to")
    assert sent[1:] == [["STOP"]]
    in_force.given_back(0)
    in_force.set_operator([Command(Action.PAUSE, Origin.OPERATOR, "test")])
    assert len(sent) == 2


def test_commands_are_sent_once_for_each_change_and_not_for_a_governors(sent):
    in_force = CommandsInForce("e")
    watchdogs = WatchdogLinks(None, in_force, {})
    watchdogs._nodes = {"n": watchdogs._add("n", {})}
    in_force.set_operator([Command(Action.PAUSE, Origin.OPERATOR, "test")])
    watchdogs.send_commands()
    in_force.forget_node("n")
    assert sent == [["PAUSE"]]
