"""The daemon shows the other runs of its home as runs without a daemon, and all runs in short."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from supervisor.clock import Clock
from supervisor.daemon.handlers import Handlers
from supervisor.errors import NotFound
from supervisor.home import Home
from supervisor.plan.drift import PlanSource
from supervisor.store.run_writer import RunWriter
from tests.unit.cli.show_stage import NAME, create_tested_run, open_store
from tests.unit.store.evaluation_stage import run_of


@pytest.fixture
def handlers(tmp_path: Path) -> Any:
    """The handlers of a daemon that works on mini-2; what steers a run is left out."""
    home = Home(tmp_path)
    store = open_store(home)
    create_tested_run(store, "mini-1")
    run_of(store, "mini-2")
    nothing, source = cast(Any, None), PlanSource(None, None)
    writer = RunWriter(store, "mini-2")
    yield Handlers(home, writer, Clock(), "mini", nothing, nothing, source, None, *[nothing] * 4)
    store.close()


def test_another_run_is_shown_with_or_without_its_trials(handlers: Handlers) -> None:
    short, whole = handlers.run("mini-1", False), handlers.run("mini-1", True)
    assert (short["run"]["id"], short["daemon"]) == ("mini-1", None)
    assert (short["run"]["state"], short["run"]["recorded_state"]) == ("STOPPED", "RUNNING"), "no daemon works on it"
    assert "trials" not in short["experiments"][0]
    assert len(whole["experiments"][0]["trials"]) == 12
    assert short["experiments"][0]["finalized"] == whole["experiments"][0]["finalized"]


def test_an_unknown_run_is_refused_with_the_nearest_name(handlers: Handlers) -> None:
    with pytest.raises(NotFound, match="no run or plan 'mini-9'") as refusal:
        handlers.run("mini-9", False)
    assert "did you mean mini-" in str(refusal.value.remedy)


def test_the_history_names_the_run_at_work(handlers: Handlers) -> None:
    found = handlers.history(5)["runs"]
    assert [(run["run"], run["live"]) for run in found] == [("mini-2", True), ("mini-1", False)]
    assert found[1]["experiments"][0]["name"] == NAME
    assert [run["run"] for run in handlers.history(1)["runs"]] == ["mini-2"]
