"""Test the scopes of pause and resume: an unknown name is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.clock import Clock
from supervisor.daemon.command_scope import ScopeResolver
from supervisor.domain import messages
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.lifecycle import ProcessState
from supervisor.domain.scope import MAX_HELD_TRIALS, trial_scope
from supervisor.errors import Conflict, NotFound, UsageError
from supervisor.store.database import Store
from supervisor.store.run_writer import RunWriter, create_run
from supervisor.store.trial_writer import TrialWriter

NODES = ["3fa" + "0" * 53, "3fb" + "0" * 53]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Make two experiments; trial 0 of the first has ended, trial 1 waits."""
    store = Store(tmp_path / "sweep.db", Clock())
    specs = [{"name": name, "mode": "min", "max_trials": 3, "concurrency": 1} for name in ("a", "b")]
    create_run(
        store, "r", plan="p", fingerprint="f", source="built-in", plan_text="", hardware={}, data={}, specs=specs
    )
    writer = RunWriter(store, "r")
    for message in (
        messages.TrialAdded(0, {}, "sampled"), messages.TrialAdded(1, {}, "sampled"),
        messages.TrialStarted(0, 1, "ray", "n", 1, None), messages.TrialEnded(0, 1, "finished", 0.5, None),
    ):  # fmt: skip
        TrialWriter(writer.store, writer.run_id).handle("a", message)
    return store


@pytest.fixture
def scopes(store: Store) -> ScopeResolver:
    return ScopeResolver(store, "r", "p", "a", NODES)


def command(scope: str) -> Command:
    return Command(Action.PAUSE, Origin.OPERATOR, "x", scope)


@pytest.mark.parametrize(
    ("target", "node", "scope"),
    [
        (None, None, "all"), ("r", None, "all"), ("p", None, "all"), ("a", None, "all"),
        ("1", None, "a/1"), ("a/1", None, "a/1"), (None, "3fa", NODES[0]), (None, NODES[1], NODES[1]),
    ],
)  # fmt: skip
def test_each_name_has_its_scope(scopes: ScopeResolver, target: str | None, node: str | None, scope: str) -> None:
    assert scopes.to_pause(target, node, []) == scope
    assert scopes.to_resume(target, node, []) == scope


@pytest.mark.parametrize(
    ("target", "node", "error", "text"),
    [
        ("c", None, NotFound, "there are a, b"),
        ("7", None, NotFound, "no trial 7 in a; not ended are 1"),
        ("c/1", None, NotFound, "no experiment 'c'"),
        ("b/0", None, NotFound, "no trial 0 in b; not ended are none"),
        ("b", None, Conflict, "b is not running now; a is"),
        ("0", None, Conflict, "trial a/0 has ended"),
        ("1", "3fa", UsageError, "cannot be given together"),
        (None, "3f", NotFound, "the beginning of 2 node ids"),
        (None, "", NotFound, "the nodes are 3fa000000000, 3fb000000000"),
        (None, "9", NotFound, "the nodes are 3fa000000000, 3fb000000000"),
        ("a/-1", None, NotFound, "no experiment 'a/-1'"),
        ("99999999999999999999", None, NotFound, "no experiment"),
        ("²", None, NotFound, "no experiment"),
    ],
)
def test_an_unknown_or_ended_target_is_refused_with_the_names(
    scopes: ScopeResolver, target: str | None, node: str | None, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        scopes.to_pause(target, node, [])


def test_without_an_experiment_at_work_a_bare_number_names_no_trial(store: Store) -> None:
    with pytest.raises(NotFound, match="needs its experiment's name"):
        ScopeResolver(store, "r", "p", None, []).to_pause("1", None, [])


def test_a_command_can_be_lifted_although_its_node_is_gone(store: Store) -> None:
    gone = "77" * 28
    scopes = ScopeResolver(store, "r", "p", "a", NODES)
    assert scopes.to_resume(None, "77", [command(gone)]) == gone
    with pytest.raises(NotFound):
        scopes.to_pause(None, "77", [command(gone)])


def test_only_so_many_trials_are_held_one_by_one_as_a_flag_has_slots(scopes: ScopeResolver) -> None:
    held = [command(trial_scope("a", 100 + number)) for number in range(MAX_HELD_TRIALS)]
    with pytest.raises(Conflict, match="one by one"):
        scopes.to_pause("1", None, held)
    assert scopes.to_pause("1", None, [*held[1:], command("a/1")]) == "a/1"


@pytest.mark.parametrize(
    ("target", "found"),
    [(None, (None, None)), ("r", (None, None)), ("b", ("b", None)), ("0", ("a", 0)), ("a/1", ("a", 1))],
)
def test_what_is_tried_again_has_the_same_names(
    scopes: ScopeResolver, target: str | None, found: tuple[str | None, int | None]
) -> None:
    assert scopes.to_retry(target) == found


@pytest.mark.parametrize("target", ["c", "7", "b/0"])
def test_an_unknown_name_is_not_tried_again(scopes: ScopeResolver, target: str) -> None:
    with pytest.raises(NotFound):
        scopes.to_retry(target)


def test_a_finish_is_for_the_experiment_at_work_or_a_named_one(store: Store, scopes: ScopeResolver) -> None:
    with pytest.raises(Conflict, match="no experiment is at work"):
        scopes.to_finish(None)
    RunWriter(store, "r").move_experiment("b", ProcessState.STARTING)
    assert scopes.to_finish(None) == "b"
    assert scopes.to_finish("a") == "a"
    with pytest.raises(NotFound, match="there are a, b"):
        scopes.to_finish("0")
