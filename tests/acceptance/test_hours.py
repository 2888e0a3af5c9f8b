"""Give a run its hours, and end a search by a person's word, on a real Ray."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from tests.acceptance.conftest import Sweep
from tests.acceptance.faults.evidence import audited, names

FINALIZE = "finalize={top: 2, seeds: 2}"
HOUR_S = 3600.0


def numbers_of(view: dict[str, Any], *sources: str) -> list[int]:
    return [trial["number"] for trial in view["experiments"][0]["trials"] if trial["source"] in sources]


def assert_finalised(view: dict[str, Any], reason: str) -> None:
    """Assert that the search ended early for `reason`, and that its answer follows it in number."""
    experiment = view["experiments"][0]
    spec = experiment["spec"]
    searched = numbers_of(view, "sampled", "enqueued")
    assert (experiment["state"], spec["search_end"]) == ("EXITED", reason)
    assert searched == list(range(spec["searched"]))
    assert 0 < len(searched) < spec["max_trials"]
    assert numbers_of(view, "finalize") == list(range(len(searched), len(experiment["trials"])))
    assert experiment["finalized"] is not None
    assert all(trial["end_reason"] in ("finished", "early_stopped") for trial in experiment["trials"])


@pytest.mark.slow
def test_a_run_ends_within_its_hours_with_its_answer_and_passes_on_what_is_left(sweep: Sweep) -> None:
    """A thousand trials do not fit into a few seconds: some search, the best of them are finalised."""
    # On a busy machine forty seconds are too few for a trial or its finalisation; then four times as many are given.
    for hours_s in (40.0, 160.0, 640.0):
        name = f"short{hours_s:.0f}"
        plan = sweep.plan(name, "[0]", max_trials=1000, pause_s=0.25)
        started = sweep.d("start", plan, "--set", FINALIZE, "--hours", f"{hours_s / HOUR_S:.6f}")
        assert started.returncode == 0, started.stderr
        waited = sweep.ctl("wait")
        if waited.returncode == 0:
            break
    assert waited.returncode == 0, waited.stdout + waited.stderr
    assert_finalised(sweep.status(), "hours")
    events = audited(sweep.home, name)
    assert "stop.forced" not in names(events)
    assert "search ended (hours)" in sweep.ctl("status").stdout
    assert sweep.ctl("report").returncode == 0
    report = next(sweep.home.runs.rglob(f"{name}-*/report.html")).read_text()
    assert "no further trial fitted into its hours" in report


@pytest.mark.slow
def test_a_finish_survives_the_daemons_death_and_ends_with_the_answer(sweep: Sweep) -> None:
    """Killed as soon as the command has answered: the next daemon finishes, and no trial is lost or doubled."""
    plan = sweep.plan("enough", "[0]", max_trials=1000, pause_s=0.5)
    assert sweep.d("start", plan, "--set", FINALIZE).returncode == 0
    view = sweep.until("three trials have ended", lambda view: view["experiments"][0]["ended"] >= 3)
    said = sweep.ctl("finish")
    os.kill(view["daemon"]["pid"], signal.SIGKILL)
    assert said.returncode == 0, said.stderr
    assert "its search ends with" in said.stdout

    assert sweep.d("start").returncode == 0
    unknown = sweep.ctl("finish", "nothing")
    assert (unknown.returncode, "no experiment 'nothing'" in unknown.stderr) == (2, True)
    waited = sweep.ctl("wait")
    assert waited.returncode == 0, waited.stdout + waited.stderr
    assert_finalised(sweep.status(), "finish")
    events = audited(sweep.home, "enough")
    assert names(events).count("experiment.finish_asked") == 1
    assert names(events).count("experiment.search_ended") == 1
    assert names(events).count("daemon.recovered") == 1
