"""Make a home with an ended run, its store and its log, for the verbs that need no daemon."""

from __future__ import annotations

from typing import Any

from supervisor.audit.log import AuditLog
from supervisor.clock import Clock
from supervisor.domain.lifecycle import ProcessState
from supervisor.domain.messages import ResultReported, TrialAdded, TrialEnded, TrialStarted
from supervisor.home import Home
from supervisor.store.database import Store
from supervisor.store.run_writer import RunWriter, create_run
from supervisor.store.trial_writer import TrialWriter


def finished_run(home: Home, run: str = "smoke-1", plan: str = "smoke") -> Store:
    """Return the store of an ended run with one experiment and one trial."""
    for folder in (home.state, home.logs, home.runs):
        folder.mkdir(exist_ok=True)
    store = Store(home.store, Clock())
    spec: dict[str, Any] = {
        "name": "2M-h1", "mode": "min", "metric": "loss", "max_trials": 1, "concurrency": 1, "axes": {},
    }  # fmt: skip
    create_run(
        store, run, plan=plan, fingerprint="f", source="built-in", plan_text="", hardware={}, data={}, specs=[spec]
    )
    writer = RunWriter(store, run)
    writer.move_run(ProcessState.STARTING)
    writer.record("run.started")
    writer.move_experiment("2M-h1", ProcessState.STARTING)
    writer.record("experiment.started", experiment="2M-h1", max_trials=1)
    for message in (
        TrialAdded(0, {"lr": 0.1}, "sampled"), TrialStarted(0, 1, "ray", "node", 1, None),
        ResultReported(0, 1, 1, 0.25, {"time_this_iter_s": 2.0}, None), TrialEnded(0, 1, "finished", 0.25, None),
    ):  # fmt: skip
        TrialWriter(writer.store, writer.run_id).handle("2M-h1", message)
    writer.record("experiment.finished", experiment="2M-h1", best=0.25, best_trial=0, trials=1)
    writer.record("run.finished", passed=1, failed=0, skipped=0, seconds=3.0)
    log = AuditLog(home.audit_log(plan))
    log.catch_up(store, plan)
    log.close()
    return store
