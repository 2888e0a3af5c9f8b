"""Homes for the tests of doctor: sound, empty and broken ones."""

from __future__ import annotations

from pathlib import Path

from supervisor.clock import Clock
from supervisor.domain.lifecycle import ProcessState
from supervisor.home import Home
from supervisor.preflight.machine import Check, Level
from supervisor.store.database import Store
from supervisor.store.run_writer import RunWriter, create_run


def sound_home(folder: Path) -> Home:
    """Return a home with a store and one run, which its daemon left RUNNING."""
    home = Home(folder)
    home.prepare()
    store = Store(home.store, Clock())
    spec = {"name": "2M-h1", "mode": "min", "metric": "loss", "max_trials": 1, "concurrency": 1, "axes": {}}
    create_run(
        store, "smoke-1", plan="smoke", fingerprint="f", source="built-in", plan_text="", hardware={}, data={},
        specs=[spec],
    )  # fmt: skip
    writer = RunWriter(store, "smoke-1")
    writer.move_run(ProcessState.STARTING)
    writer.record("run.started")
    store.close()
    return home


def levels(checks: list[Check]) -> dict[str, Level]:
    """Return the worst level of each name."""
    order = (Level.OK, Level.WARNING, Level.ERROR)
    found: dict[str, Level] = {}
    for check in checks:
        found[check.name] = max(found.get(check.name, Level.OK), check.level, key=order.index)
    return found
