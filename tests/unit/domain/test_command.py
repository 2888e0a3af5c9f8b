"""The strictest command of a scope wins, the operator's on a tie, in any order."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.domain.command import (
    Action,
    Command,
    Origin,
    in_force_for_all,
    in_force_on,
    pauses_all,
    run,
    strictest,
)
from supervisor.domain.scope import ALL_NODES, trial_scope

NODES = ("a", "b", "c")
TRIAL = trial_scope("e", 3)
SCOPES = (ALL_NODES, *NODES, TRIAL, trial_scope("e", 4))


def commands(origin: Origin, *scopes: str) -> st.SearchStrategy[Command]:
    """Draw commands of `origin`, with few enough steps that ties are common."""
    return st.builds(
        Command,
        action=st.sampled_from(Action),
        origin=st.just(origin),
        reason=st.just(origin.value),
        scope=st.sampled_from(scopes or (ALL_NODES,)),
        throttle_share=st.sampled_from((0.0, 0.5)),
        shed_trials=st.sampled_from((0, 1)),
    )


OPERATOR = st.lists(commands(Origin.OPERATOR, *SCOPES), max_size=6)
GOVERNOR = commands(Origin.GOVERNOR, *SCOPES)
GOVERNORS = st.dictionaries(st.sampled_from(NODES), GOVERNOR)


@given(st.lists(st.one_of(commands(Origin.OPERATOR), commands(Origin.GOVERNOR)), min_size=1), st.randoms())
def test_the_strictest_has_the_highest_step_in_any_order(found: list[Command], random) -> None:
    winner = strictest(found)
    assert winner.step == max(command.step for command in found)
    random.shuffle(found)
    assert strictest(found) == winner


@given(GOVERNOR)
def test_on_a_tie_the_operators_command_wins(governor: Command) -> None:
    operator = dataclasses.replace(governor, origin=Origin.OPERATOR, scope=ALL_NODES)
    assert strictest([governor, operator]) == strictest([operator, governor]) == operator
    assert in_force_on("a", [operator], governor) == operator
    assert in_force_for_all([operator], {"a": governor}) == operator


@given(OPERATOR, st.none() | GOVERNOR)
def test_a_node_obeys_its_governor_and_the_operators_commands_for_it_and_for_all(
    operator: list[Command], governor: Command | None
) -> None:
    here = [command for command in operator if command.scope in (ALL_NODES, "a")]
    known = [*here, governor or run(Origin.GOVERNOR)]
    assert in_force_on("a", operator, governor) == strictest(known)
    assert in_force_on("a", here, governor) == in_force_on("a", operator, governor)


@given(OPERATOR, GOVERNOR)
def test_a_trial_obeys_its_node_and_its_own_commands(operator: list[Command], governor: Command) -> None:
    node = in_force_on("a", operator, governor)
    alone = [command for command in operator if command.scope == TRIAL]
    assert in_force_on("a", operator, governor, TRIAL).step == strictest([node, *alone]).step


@given(OPERATOR, GOVERNORS)
def test_all_nodes_together_obey_the_freest_of_them(operator: list[Command], governors: dict[str, Command]) -> None:
    found = in_force_for_all(operator, governors)
    on_nodes = [in_force_on(node, operator, governor) for node, governor in governors.items()]
    assert found.step == min((command.step for command in on_nodes), default=in_force_on(ALL_NODES, operator).step)


@given(OPERATOR, GOVERNORS, GOVERNORS)
def test_neither_origin_lifts_the_other(
    operator: list[Command], hot: dict[str, Command], cooled: dict[str, Command]
) -> None:
    pauses = [command for command in operator if command.scope == ALL_NODES]
    for governors in (hot, cooled):
        assert all(in_force_for_all(operator, governors).step >= command.step for command in pauses)
        assert in_force_for_all(operator, governors).step >= in_force_for_all([], governors).step


@given(OPERATOR, GOVERNORS)
def test_a_run_is_paused_once_each_node_has_a_pause_or_an_operators_hold(
    operator: list[Command], governors: dict[str, Command]
) -> None:
    def pausing(node: str) -> list[Command]:
        here = [*(command for command in operator if command.scope in (ALL_NODES, node)), governors.get(node, RUN)]
        least = {Origin.OPERATOR: Action.HOLD, Origin.GOVERNOR: Action.PAUSE}
        return [command for command in here if command.action >= least[command.origin]]

    on_nodes = [pausing(node) for node in governors or (ALL_NODES,)]
    found = pauses_all(operator, governors)
    assert (found is not None) == all(on_nodes)
    if found is not None:
        assert found.step == min(strictest(pauses).step for pauses in on_nodes)


RUN = run(Origin.GOVERNOR)


@given(GOVERNORS)
def test_a_hold_of_the_schedule_pauses_a_run_as_the_operators_does(governors: dict[str, Command]) -> None:
    hold = Command(Action.HOLD, Origin.SCHEDULE, "by schedule")
    paused = pauses_all([hold], governors)
    assert paused is not None
    assert paused.step >= hold.step
    mine = dataclasses.replace(hold, origin=Origin.OPERATOR)
    assert in_force_on("a", [hold, mine]) == in_force_on("a", [mine, hold]) == mine


@pytest.mark.parametrize("action", [Action.SHED, Action.THROTTLE])
def test_an_operators_hold_pauses_the_run_beside_a_governor_that_only_slows_it(action: Action) -> None:
    hold = Command(Action.HOLD, Origin.OPERATOR, "visitors")
    hot = Command(action, Origin.GOVERNOR, "92 C", "a", throttle_share=0.5, shed_trials=1)
    assert in_force_for_all([hold], {"a": hot}) == hot, "it is stricter on the trials that run"
    assert pauses_all([hold], {"a": hot}) == hold
