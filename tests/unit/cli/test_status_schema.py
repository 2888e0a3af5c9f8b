"""`status --json` is what docs/status.schema.json says, with a daemon and without."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace as Fake
from typing import Any, cast

import jsonschema
import pytest

from supervisor.cli import supervisorctl, watch
from supervisor.clock import Clock
from supervisor.daemon.handlers import Handlers
from supervisor.domain.lifecycle import EndReason, ProcessState, TrialState
from supervisor.home import Home
from supervisor.plan.drift import PlanSource
from supervisor.store.run_writer import RunWriter
from tests.unit.cli.show_stage import create_tested_run, open_store, two_runs
from tests.unit.cli.status_view import command, experiment, untouched, view

SCHEMA = json.loads((Path(__file__).resolve().parents[3] / "docs" / "status.schema.json").read_text(encoding="utf-8"))


def check(shown: Any) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(shown)


def test_the_schema_is_a_schema_and_knows_every_state() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    definitions = SCHEMA["$defs"]
    assert set(definitions["experiment"]["properties"]["state"]["enum"]) == set(ProcessState)
    assert set(definitions["trial"]["properties"]["state"]["enum"]) == set(TrialState)
    assert set(definitions["trial"]["properties"]["end_reason"]["enum"]) == {*EndReason, None}
    assert SCHEMA["properties"]["schema"] == {"const": watch.STATUS_SCHEMA}


def test_the_last_run_as_json_follows_the_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path))
    two_runs(Home(tmp_path))
    assert supervisorctl.main(["status", "--json"]) == 4
    shown = json.loads(capsys.readouterr().out)
    check(shown)
    assert next(iter(shown)) == "schema"
    assert shown["experiments"][0]["finalized"]["val_loss"] == 0.485


def at_work(**changes: Any) -> dict[str, Any]:
    """Return the view of a run at work, its first experiment with `changes`."""
    best = {"value": 0.5, "trial": 4, "params": {}, "prior": None}
    first = experiment(best=best) | changes
    found = view(first, untouched("2M-h3"), commands=[command("PAUSE")], lost=[], in_force=command("PAUSE"))
    found["run"] |= {"desired": "run", "ended_wall": None}
    return found


def test_a_run_at_work_as_json_follows_the_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path))
    monkeypatch.setattr(watch, "ask", lambda *_, **__: at_work())
    assert supervisorctl.main(["status", "--json"]) == 0
    check(json.loads(capsys.readouterr().out))


def test_each_fact_of_a_daemon_is_in_the_schema(tmp_path: Path) -> None:
    home, nothing = Home(tmp_path), cast(Any, None)
    store = open_store(home)
    create_tested_run(store, "mini-1")
    head, stop = Fake(dashboard="http://127.0.0.1:8266", port_taken=8265), Fake(asked=lambda: False)
    orchestrator, page = cast(Any, Fake(ray=Fake(head=head), stop=stop)), cast(Any, Fake(address=None))
    source, writer = PlanSource(None, None), RunWriter(store, "mini-1")
    handlers = Handlers(
        home, writer, Clock(), "mini", orchestrator, nothing, source, None, nothing, nothing, nothing, page
    )
    facts = handlers.facts()
    assert set(facts) <= set(SCHEMA["$defs"]["daemon"]["properties"])
    check({"schema": 1, **at_work(), "daemon": {**facts, "now_wall": 1.0}})
    store.close()


@pytest.mark.parametrize(
    ("key", "value"),
    [("state", "RUNNIN"), ("ended", "17"), ("running", [{"number": 1}]), ("doing", 3), ("best", {"value": "low"})],
)
def test_what_differs_from_the_schema_is_found(key: str, value: Any) -> None:
    check({"schema": 1, **at_work()})
    with pytest.raises(jsonschema.ValidationError):
        check({"schema": 1, **at_work(**{key: value})})
