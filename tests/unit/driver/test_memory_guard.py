"""The memory guard: it asks the largest trial for its memory. No Ray running."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.driver.commands_in_force import CommandsInForce, MemoryGuard, NodeReport, asks
from actors.driver.trial_registry import TrialRegistry
from actors.trial.memory_retry import ALONE, OOM, Offer
from supervisor.domain.command import Action, Command, Origin, run
from supervisor.domain.scope import trial_scope

HALF = {"micro_batch": 32, "checkpoint_activations": False}

commands = st.builds(
    Command,
    st.sampled_from(Action),
    st.just(Origin.GOVERNOR),
    st.just("test"),
    throttle_share=st.sampled_from([0.0, 0.25, 0.5]),
    shed_trials=st.integers(0, 2),
)


@settings(deadline=None, max_examples=200)
@given(st.lists(commands, max_size=20))
def test_memory_is_asked_back_once_for_each_step_up_the_ladder(ladder):
    """Never below SHED, never while a governor stays where it is or eases; so a ladder of n steps asks n times."""
    before = run(Origin.GOVERNOR)
    for command in ladder:
        if asks(before, command):
            assert command.action >= Action.SHED
            assert (command.action, command.throttle_share, command.shed_trials) > (
                before.action, before.throttle_share, before.shed_trials
            )  # fmt: skip
            assert not asks(command, before)
        assert not asks(command, command)
        before = command


class Watched:
    """A guard over two running trials, and the commands for the watchdogs."""

    def __init__(self):
        self.in_force, self.registry = CommandsInForce("e"), TrialRegistry("loss", "min", [])
        for number, name in enumerate("ab"):
            entry = self.registry.open(name, number, {})
            entry.running, entry.node = True, "n"
        self.in_force.on_change(MemoryGuard(self.in_force, self.registry).look)

    @property
    def sent(self):
        return self.in_force.for_watchdogs()[0]

    def govern(self, action, shed_trials=0, largest="e/0"):
        command = Command(action, Origin.GOVERNOR, "memory at 91 %", shed_trials=shed_trials)
        self.in_force.report("n", NodeReport(command, largest))


@pytest.fixture
def watched():
    return Watched()


def test_the_largest_trial_is_asked_to_leave_at_once_and_no_other(watched):
    watched.govern(Action.HOLD)
    assert watched.sent == ()
    watched.govern(Action.SHED, 1)
    assert watched.sent == (Command(Action.STOP, Origin.GOVERNOR, "memory at 91 %", trial_scope("e", 0)),)
    watched.govern(Action.SHED, 1, largest="e/1")
    assert [command.scope for command in watched.sent] == [trial_scope("e", 0)]
    watched.govern(Action.SHED, 2, largest="e/1")
    assert [command.scope for command in watched.sent] == [trial_scope("e", 0), trial_scope("e", 1)]


def test_a_trial_that_has_left_is_not_asked_again(watched):
    watched.govern(Action.SHED, 1)
    assert watched.in_force.given_back(0)
    assert watched.sent == ()
    assert not watched.in_force.given_back(0)


@pytest.mark.parametrize("largest", [None, "e/7", "other/0"])
def test_no_trial_is_asked_while_memory_is_not_short_or_the_largest_is_not_ours(watched, largest):
    watched.govern(Action.SHED, 1, largest=largest)
    assert watched.sent == ()


def test_a_trial_that_is_asked_for_its_memory_is_not_held(watched):
    """It is to come back: neither the search nor the daemon takes it for paused."""
    watched.govern(Action.SHED, 1)
    assert not watched.in_force.keeps_out(0)
    assert not watched.in_force.must_wait("n", 0, reported=True)


def test_later_commands_for_the_watchdogs_have_a_later_stamp(watched):
    """Calls can overtake one another; the watchdog keeps the latest."""
    stamps = [watched.in_force.for_watchdogs()[1]]
    watched.govern(Action.SHED, 1)
    stamps.append(watched.in_force.for_watchdogs()[1])
    watched.in_force.given_back(0)
    stamps.append(watched.in_force.for_watchdogs()[1])
    assert stamps == sorted(set(stamps))


def test_an_unfinished_trial_keeps_its_memory_settings():
    """The next driver gets them with Begin."""
    earlier = {
        "number": 3, "state": "PENDING", "attempt": 2, "checkpoint": None, "results": [], "memory": HALF, "lost": [OOM]
    }  # fmt: skip
    registry = TrialRegistry("loss", "min", [earlier])
    assert registry.open("a", 3, {}).memory == HALF
    assert registry.alone() == []
    alone = TrialRegistry("loss", "min", [{**earlier, "memory": {ALONE: True}}])
    opened = alone.open("a", 3, {})
    assert alone.alone() == [opened]


def test_the_answer_of_a_trial_that_leaves_is_kept():
    registry = TrialRegistry("loss", "min", [])
    entry = registry.open("a", 0, {})
    registry.note_left("a", {"sweep_out_of_memory": "it ran out", "sweep_smaller": HALF})
    assert (entry.ran_out, entry.offer) == ("it ran out", Offer(HALF))
    registry.note_left("a", {"sweep_checkpoint": "/f/0/checkpoint-0.pt"})
    assert (entry.ran_out, entry.checkpoint, entry.resumed_step) == (None, "/f/0/checkpoint-0.pt", 0)
