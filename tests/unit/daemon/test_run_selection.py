"""Test the choice of the run that a `start` means."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from supervisor.clock import Clock
from supervisor.control.handshake import StartRequest
from supervisor.daemon.run_selection import choose_run
from supervisor.domain.lifecycle import ProcessState
from supervisor.errors import NotFound, PlanChanged, UsageError
from supervisor.store.database import Store
from supervisor.store.run_writer import RunWriter

SPECS: list[dict[str, Any]] = [{"name": "x", "mode": "min", "max_trials": 1, "concurrency": 1}]


class StillClock(Clock):
    """Always shows the same second."""

    def wall_s(self) -> float:
        return 1_700_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "sweep.db", StillClock())


def choose(store: Store, plan: str | None, fingerprint: str = "f", new: bool = False) -> str:
    return choose_run(store, StartRequest(plan=plan, fingerprint=fingerprint, specs=SPECS, new=new), StillClock())


def end(store: Store, run: str, state: ProcessState) -> None:
    writer = RunWriter(store, run)
    writer.move_run(ProcessState.STARTING)
    if state is ProcessState.STOPPED:
        writer.move_run(ProcessState.STOPPING)
    writer.move_run(state)


def runs(store: Store) -> list[str]:
    return [row["id"] for row in store.rows("SELECT id FROM run ORDER BY rowid")]


def events(store: Store) -> list[str]:
    return [event.name for event in store.events_after(0)]


def test_the_first_start_of_a_plan_makes_a_run_with_its_experiments(store: Store) -> None:
    run = choose(store, "smoke")
    assert run == "smoke-20231114-221320"
    row = store.rows("SELECT * FROM run")[0]
    assert (row["state"], row["desired"], row["fingerprint"]) == ("STOPPED", "run", "f")
    assert [row["name"] for row in store.rows("SELECT name FROM experiment WHERE run = ?", run)] == ["x"]
    assert events(store) == ["run.created"]


@pytest.mark.parametrize("state", [ProcessState.STOPPED, ProcessState.FATAL])
def test_an_unfinished_run_of_the_same_fingerprint_resumes(store: Store, state: ProcessState) -> None:
    """A FATAL run too: Ray did not start, but the run has its results."""
    run = choose(store, "smoke")
    end(store, run, state)
    assert choose(store, "smoke") == run
    assert choose(store, None) == run
    assert runs(store) == [run]


def test_a_finished_run_does_not_resume(store: Store) -> None:
    first = choose(store, "smoke")
    end(store, first, ProcessState.EXITED)
    second = choose(store, "smoke")
    assert second != first
    assert runs(store) == [first, second]


def test_a_changed_plan_is_refused_with_both_remedies(store: Store) -> None:
    run = choose(store, "smoke")
    with pytest.raises(PlanChanged, match=f"{run} of smoke is unfinished") as refusal:
        choose(store, "smoke", "another")
    assert "`supervisord start` resumes it" in refusal.value.render()
    assert "--new" in refusal.value.render()
    assert (runs(store), events(store)) == ([run], ["run.created"])


def test_the_remedy_for_a_stopped_run_names_no_start_that_would_not_find_it(
    store: Store,
) -> None:
    run = choose(store, "smoke")
    RunWriter(store, run).record("run.stopped", who="ann")
    with pytest.raises(PlanChanged) as refusal:
        choose(store, "smoke", "another")
    assert "`supervisord start smoke --resume` resumes it" in refusal.value.render()
    assert "`supervisord start` resumes" not in refusal.value.render()


def test_an_edited_plan_goes_on_with_the_runs_own_copy_when_a_person_says_so(store: Store) -> None:
    run = choose(store, "smoke")
    RunWriter(store, run).record("run.stopped", who="ann")
    edited = StartRequest("smoke", "another", specs=SPECS, resume=True)
    assert choose_run(store, edited, StillClock()) == run
    row = store.rows("SELECT fingerprint, desired FROM run")[0]
    assert (row["fingerprint"], row["desired"]) == ("f", "run")


def test_without_an_unfinished_run_there_is_nothing_to_resume(store: Store) -> None:
    with pytest.raises(NotFound, match="no unfinished run of smoke"):
        choose_run(store, StartRequest("smoke", "f", specs=SPECS, resume=True), StillClock())
    assert runs(store) == []


@pytest.mark.parametrize("options", [["--only", "2M"], ["--set", "max_trials=4", "--experiments", "2M-*"]])
def test_a_stopped_run_is_named_with_the_command_that_resumes_it(store: Store, options: list[str]) -> None:
    """Its plan alone would be another run: the options belong to it."""
    request = StartRequest("smoke", "f", specs=SPECS, source="/my/smoke.yaml", hardware={"options": options})
    run = choose_run(store, request, StillClock())
    RunWriter(store, run).record("run.stopped", who="ann")
    command = shlex.join(["supervisord", "start", "/my/smoke.yaml", *options])
    with pytest.raises(NotFound, match=f"run {run} is stopped") as refusal:
        choose(store, None)
    assert refusal.value.remedy == f"`{command}` resumes it"
    with pytest.raises(PlanChanged, match="was begun by") as changed:
        choose(store, "smoke", "another")
    assert f"`{command}` resumes it; --new" in changed.value.render()
    assert choose_run(store, request, StillClock()) == run


def test_new_gives_the_unfinished_run_up_for_good(store: Store) -> None:
    first = choose(store, "smoke")
    second = choose(store, "smoke", "another", new=True)
    assert runs(store) == [first, second]
    row = store.rows("SELECT * FROM run WHERE id = ?", first)[0]
    assert (row["state"], row["desired"]) == ("FATAL", "stop")
    assert row["ended_wall"] is not None
    assert events(store) == ["run.created", "run.abandoned", "run.created"]
    end(store, second, ProcessState.EXITED)
    third = choose(store, "smoke")
    assert third not in (first, second), "a run that was given up does not resume"
    end(store, third, ProcessState.EXITED)
    with pytest.raises(NotFound):
        choose(store, None)


def test_new_without_an_unfinished_run_is_a_plain_start(store: Store) -> None:
    choose(store, "smoke", new=True)
    assert events(store) == ["run.created"]


def test_a_run_of_another_plan_is_left_alone(store: Store) -> None:
    first = choose(store, "smoke")
    second = choose(store, "phase6a", new=True)
    assert runs(store) == [first, second]
    assert store.rows("SELECT state FROM run WHERE id = ?", first)[0]["state"] == "STOPPED"


def test_without_a_plan_the_newest_unfinished_run_resumes(store: Store) -> None:
    choose(store, "smoke")
    newest = choose(store, "phase6a")
    assert choose(store, None) == newest


def test_without_a_plan_and_an_unfinished_run_the_error_names_a_plan(store: Store) -> None:
    with pytest.raises(NotFound, match="no unfinished run") as refusal:
        choose(store, None)
    assert "supervisord start smoke" in refusal.value.render()


def test_a_stopped_run_resumes_only_when_its_plan_is_named(store: Store) -> None:
    run = choose(store, "smoke")
    RunWriter(store, run).record("run.stopped", who="ann")
    with pytest.raises(NotFound):
        choose(store, None)
    assert choose(store, "smoke") == run
    assert store.rows("SELECT desired FROM run")[0]["desired"] == "run"
    assert events(store)[-1] == "run.wanted"
    assert choose(store, None) == run


def test_a_stopped_run_does_not_hide_an_older_unfinished_run(store: Store) -> None:
    older = choose(store, "phase6a")
    newer = choose(store, "smoke")
    RunWriter(store, newer).record("run.stopped", who="ann")
    assert choose(store, None) == older


def test_runs_of_one_second_have_their_own_ids_up_to_99(store: Store) -> None:
    for _ in range(99):
        end(store, choose(store, "smoke"), ProcessState.EXITED)
    assert len(set(runs(store))) == 99
    assert runs(store)[:3] == ["smoke-20231114-221320", "smoke-20231114-221320-2", "smoke-20231114-221320-3"]
    with pytest.raises(UsageError, match="hundred runs"):
        choose(store, "smoke")


def test_a_plan_without_experiments_is_refused_and_changes_nothing(store: Store) -> None:
    with pytest.raises(UsageError, match="no experiments"):
        choose_run(store, StartRequest(plan="smoke", fingerprint="f"), StillClock())
    assert (runs(store), events(store)) == ([], [])
