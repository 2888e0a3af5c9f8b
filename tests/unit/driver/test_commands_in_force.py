"""Commands in force: two origins, several nodes, the strictest wins."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.driver.commands_in_force import CommandsInForce
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.scope import ALL_NODES, trial_scope

RUNGS = st.sampled_from(Action)


def operator(action, scope=ALL_NODES):
    return Command(action, Origin.OPERATOR, "o", scope)


def governor(action):
    return Command(action, Origin.GOVERNOR, "g")


@given(RUNGS, RUNGS, RUNGS)
def test_cooling_never_lifts_an_operators_pause_nor_a_resume_a_governors(asked, hot, cooled):
    in_force = CommandsInForce([operator(asked)])
    in_force.set_governor("n", governor(hot))
    assert in_force.on_node("n").action == max(asked, hot)
    in_force.set_governor("n", governor(cooled))
    assert in_force.on_node("n").action == max(asked, cooled)
    in_force.set_operator([])
    assert in_force.on_node("n").action == cooled


@given(RUNGS, RUNGS)
def test_heat_on_one_node_is_that_nodes_alone(hot, cool):
    """A new trial may start where it is freest."""
    in_force = CommandsInForce()
    in_force.set_governor("a", governor(hot))
    in_force.set_governor("b", governor(cool))
    assert (in_force.on_node("a").action, in_force.on_node("b").action) == (hot, cool)
    assert in_force.for_new_trials().action == min(hot, cool)


def test_an_operators_command_for_one_node_leaves_the_other():
    in_force = CommandsInForce([operator(Action.PAUSE, "a")])
    assert in_force.paused("a")
    assert not in_force.paused("b")


def test_without_any_watchdog_the_operator_still_rules():
    assert CommandsInForce([operator(Action.HOLD)]).for_new_trials().action is Action.HOLD
    assert CommandsInForce().for_new_trials().action is Action.RUN


def test_every_change_is_told():
    told = []
    in_force = CommandsInForce()
    in_force.on_change(lambda: told.append(in_force.on_node("n").action))
    in_force.set_operator([operator(Action.PAUSE)])
    in_force.set_governor("n", governor(Action.RUN))
    in_force.set_operator([])
    assert told == [Action.PAUSE, Action.PAUSE, Action.RUN]


def test_a_trials_pause_is_its_own():
    in_force = CommandsInForce()
    in_force.begin("e", [])
    in_force.set_operator(
        [operator(Action.PAUSE, trial_scope("e", 3)), operator(Action.PAUSE, trial_scope("other", 4))]
    )
    assert in_force.stands("n", 3, reported=False)
    assert not in_force.stands("n", 4, reported=True)
    assert not in_force.paused("n")
    assert in_force.for_new_trials().action is Action.RUN
    assert in_force.on_trial("n", 3).action is Action.PAUSE


def test_a_trial_that_is_held_works_to_its_next_report_and_after_a_restart_stands_at_once():
    hold = operator(Action.HOLD, trial_scope("e", 3))
    first, next_one = CommandsInForce(), CommandsInForce()
    first.begin("e", [])
    first.set_operator([hold])
    assert not first.stands("n", 3, reported=False)
    assert first.stands("n", 3, reported=True)
    next_one.begin("e", [hold])
    next_one.set_operator([hold, operator(Action.HOLD)])
    assert next_one.stands("n", 3, reported=False)
    assert next_one.for_watchdogs()[0][0].action is Action.PAUSE
    next_one.set_operator([])
    next_one.set_operator([hold])
    assert not next_one.stands("n", 3, reported=False)


def test_under_shed_the_largest_goes_where_memory_is_short_and_else_the_youngest():
    in_force = CommandsInForce()
    in_force.begin("e", [])
    assert in_force.to_shed([3, 5, 4]) == 5
    in_force.set_largest("n", "e/3")
    assert in_force.to_shed([3, 5, 4]) == 3
    assert in_force.to_shed([5, 4]) == 5
    in_force.forget_node("n")
    assert in_force.to_shed([3, 5]) == 5
    assert in_force.to_shed([]) is None
