"""Commands in force: two origins, several nodes, the strictest wins."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from actors.driver.commands_in_force import CommandsInForce, NodeReport
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.scope import ALL_NODES, trial_scope

ACTIONS = st.sampled_from(Action)


def operator(action, scope=ALL_NODES):
    return Command(action, Origin.OPERATOR, "o", scope)


def governor(action):
    return NodeReport(Command(action, Origin.GOVERNOR, "g"))


@given(ACTIONS, ACTIONS, ACTIONS)
def test_cooling_never_lifts_an_operators_pause_nor_a_resume_a_governors(asked, hot, cooled):
    in_force = CommandsInForce("e", [operator(asked)])
    in_force.report("n", governor(hot))
    assert in_force.on_trial("n", 0).action == max(asked, hot)
    in_force.report("n", governor(cooled))
    assert in_force.on_trial("n", 0).action == max(asked, cooled)
    in_force.set_operator([])
    assert in_force.on_trial("n", 0).action == cooled


@given(ACTIONS, ACTIONS)
def test_heat_on_one_node_is_that_nodes_alone(hot, cool):
    """A new trial may start where it is freest."""
    in_force = CommandsInForce()
    in_force.report("a", governor(hot))
    in_force.report("b", governor(cool))
    assert (in_force.on_trial("a", 0).action, in_force.on_trial("b", 0).action) == (hot, cool)
    assert in_force.for_new_trials().action == min(hot, cool)


def test_an_operators_command_for_one_node_leaves_the_other():
    in_force = CommandsInForce("e", [operator(Action.PAUSE, "a")])
    assert in_force.must_wait("a", 0, reported=False)
    assert not in_force.must_wait("b", 0, reported=False)


def test_without_any_watchdog_the_operators_commands_hold():
    assert CommandsInForce("e", [operator(Action.HOLD)]).for_new_trials().action is Action.HOLD
    assert CommandsInForce().for_new_trials().action is Action.RUN


def test_each_change_calls_the_listeners():
    heard = []
    in_force = CommandsInForce()
    in_force.on_change(lambda: heard.append(in_force.on_trial("n", 0).action))
    in_force.set_operator([operator(Action.PAUSE)])
    in_force.report("n", governor(Action.RUN))
    in_force.set_operator([])
    assert heard == [Action.PAUSE, Action.PAUSE, Action.RUN]


def test_a_trials_pause_is_its_own():
    in_force = CommandsInForce("e")
    in_force.set_operator(
        [operator(Action.PAUSE, trial_scope("e", 3)), operator(Action.PAUSE, trial_scope("other", 4))]
    )
    assert in_force.must_wait("n", 3, reported=False)
    assert not in_force.must_wait("n", 4, reported=True)
    assert not in_force.must_wait("n", 5, reported=True)
    assert in_force.for_new_trials().action is Action.RUN
    assert in_force.on_trial("n", 3).action is Action.PAUSE


def test_a_trial_that_is_held_works_to_its_next_report_and_after_a_restart_not_at_all():
    hold = operator(Action.HOLD, trial_scope("e", 3))
    first, next_one = CommandsInForce("e"), CommandsInForce("e", [hold])
    first.set_operator([hold])
    assert not first.must_wait("n", 3, reported=False)
    assert first.must_wait("n", 3, reported=True)
    next_one.set_operator([hold, operator(Action.HOLD)])
    assert next_one.must_wait("n", 3, reported=False)
    assert next_one.for_watchdogs()[0][0].action is Action.PAUSE
    next_one.set_operator([])
    next_one.set_operator([hold])
    assert not next_one.must_wait("n", 3, reported=False)


def test_shed_takes_the_largest_while_memory_is_short_and_else_the_youngest():
    in_force = CommandsInForce("e")
    assert in_force.to_shed([3, 5, 4]) == 5
    in_force.report("n", replace(governor(Action.SHED), largest="e/3"))
    assert in_force.to_shed([3, 5, 4]) == 3
    assert in_force.to_shed([5, 4]) == 5
    in_force.forget_node("n")
    assert in_force.to_shed([3, 5]) == 5
    assert in_force.to_shed([]) is None


def test_each_report_calls_the_listeners_also_one_that_changes_nothing():
    heard = []
    in_force = CommandsInForce("e")
    in_force.report("n", governor(Action.HOLD))
    in_force.on_change(lambda: heard.append(1))
    in_force.report("n", governor(Action.HOLD))
    assert heard == [1]


def test_an_attempt_waits_when_the_watchdog_of_its_node_says_so():
    in_force = CommandsInForce("e")
    assert in_force.is_waiting("n", 3, 1) is None
    in_force.report("n", replace(governor(Action.PAUSE), waiting=frozenset([("e", 3, 1), ("other", 4, 1)])))
    assert in_force.is_waiting("n", 3, 1) is True
    assert in_force.is_waiting("n", 3, 2) is False
    assert in_force.is_waiting("n", 4, 1) is False
    in_force.forget_node("n")
    assert in_force.is_waiting("n", 3, 1) is None


def test_a_stop_of_all_nodes_ends_the_driver_and_the_first_reason_counts():
    in_force = CommandsInForce("e")
    in_force.report("a", governor(Action.STOP))
    in_force.report("b", governor(Action.RUN))
    assert in_force.finish_reason == "STOP by the governor: g"
    in_force.finish("asked to")
    assert in_force.finish_reason == "STOP by the governor: g"


def test_a_stop_of_one_node_of_two_ends_nothing():
    in_force = CommandsInForce("e")
    in_force.report("b", governor(Action.RUN))
    in_force.report("a", governor(Action.STOP))
    assert in_force.finish_reason is None
