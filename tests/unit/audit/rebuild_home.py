"""Make a home whose run is written to its log, for tests of replay and rebuild."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from supervisor.audit.log import head_key, open_audit_log
from supervisor.audit.rotation import Limits
from supervisor.clock import Clock
from supervisor.domain import messages as link
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.lifecycle import ProcessState
from supervisor.home import Home
from supervisor.store.database import Store
from supervisor.store.run_writer import RunWriter, create_run
from supervisor.store.trial_writer import TrialWriter

E = "2M-h1"
TABLES = ("run", "experiment", "trial", "attempt", "result", "command", "evaluation", "event")
SPECS = [
    {"name": name, "mode": "min", "max_trials": 3, "enqueue": [], "warm_start": None, "config": {"threads": 1},
     "resources": {"auto": True, "cpu": 1.0}, "max_hours": 1e6,
     "space": {"shape_rank": {"low": 0, "high": 2}}} for name in (E, "20M-h1")
]  # fmt: skip


class UnevenClock(Clock):
    """A clock that is later at each reading, by times that a float cannot represent exactly."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self.now = start

    def wall_s(self) -> float:
        self.now += 1.0 / 3.0
        return self.now


def make_home(folder: Path) -> Home:
    folder.mkdir(exist_ok=True)
    home = Home(folder)
    for each in (home.state, home.logs, home.runs):
        each.mkdir(exist_ok=True)
    return home


def a_run(home: Home, plan: str = "p", clock: Clock | None = None) -> RunWriter:
    """Make a store with one run, whose events are written to the log when committed."""
    store = Store(home.store, clock or UnevenClock())
    create_run(
        store, f"{plan}-1", plan=plan, fingerprint="f", source="built-in", plan_text="name: p\n",
        hardware={"policy": {"x": 1.5}}, data={"ticker": "SPX"}, specs=SPECS,
    )  # fmt: skip
    write_log(home, store, plan)
    return RunWriter(store, f"{plan}-1")


def write_log(home: Home, store: Store, plan: str = "p", limits: Limits | None = None) -> None:
    log, _ = open_audit_log(home.audit_log(plan), store, limits)
    log.catch_up(store, plan)
    log.close()


def end_in_order(home: Home, store: Store) -> None:
    """Write the log as a daemon that ends in order does: with its head noted in the store, and its last event."""
    log, _ = open_audit_log(home.audit_log("p"), store)
    log.catch_up(store, "p")
    store.note(head_key(log.path), log.head.to_json())
    with store.change("p-1") as change:
        change.record("daemon.stopped", reason="x")
    log.catch_up(store, "p")
    log.close()
    store.close()


def tables(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    connection = sqlite3.connect(path)
    try:
        return {name: connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2, 3").fetchall() for name in TABLES}
    finally:
        connection.close()


def started(attempt: int, number: int = 0) -> link.TrialStarted:
    return link.TrialStarted(number, attempt, f"ray-{attempt}", "node", 4242, 3 if attempt > 1 else None)


def reported(attempt: int, step: int, value: float | None, number: int = 0) -> link.ResultReported:
    checkpoint = f"/c/checkpoint-{step}.pt" if step % 2 else None
    return link.ResultReported(number, attempt, step, value, {"loss": value, "lr": 1e-3 / 7}, checkpoint)


def ended(attempt: int, reason: str, value: float | None, number: int = 0) -> link.TrialEnded:
    return link.TrialEnded(number, attempt, reason, value, "why" if value is None else None, {"parameters": 2_000_000})


def lived(writer: RunWriter) -> None:
    """A little of everything."""
    writer.move_run(ProcessState.STARTING)
    writer.record("run.started")
    writer.move_experiment(E, ProcessState.STARTING)
    writer.record("experiment.started", experiment=E, max_trials=3)
    for message in (
        link.TrialAdded(0, {"lr": 0.1 + 0.2, "seed": 2**70, "note": "é"}, "sampled"), started(1), reported(1, 1, 0.3),
        reported(1, 2, None), link.AttemptLost(0, 1, "worker_died", "SIGKILL"), started(2), reported(2, 2, 0.25),
        reported(2, 3, 0.125), ended(2, "finished", 0.125), link.TrialAdded(1, {"lr": 1}, "enqueued"), started(1, 1),
        link.TrialHeld(1, 1, "PAUSED", "too hot"),
    ):  # fmt: skip
        TrialWriter(writer.store, writer.run_id).handle(E, message)
    writer.put_command(Command(Action.HOLD, Origin.OPERATOR, "visitors", since_wall=5.0, who="ann"), "after")


RESULT = {
    "windows": {"test": 1}, "dates": {"test": ["e", "f"]}, "predictions": {"file": "p.json", "sha256": "cd"},
    "models": {name: {"test": {"bce": {"value": 0.6, "low": 0.5, "high": 0.7}}} for name in ("patchtst", "prior")},
}  # fmt: skip
OPENING = {
    "by": "a test", "reason": "its turn", "dataset": "x.parquet", "dataset_sha256": "ab", "split": {}, "horizon": 1,
    "trials": [8, 9], "sealed_days": [],
}  # fmt: skip
