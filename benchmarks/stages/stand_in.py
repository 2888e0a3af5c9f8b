"""Stands in for a daemon that shows a run of 12 experiments, for benchmarks of `status`."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from supervisor.clock import Clock
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.lifecycle import ProcessState
from supervisor.errors import Conflict, DiskFailed
from supervisor.home import Home
from supervisor.store.database import Store
from supervisor.store.run_writer import RunWriter, create_run
from supervisor.store.status_cache import StatusView


def view(home: Home) -> dict[str, Any]:
    """Return a daemon's view of a run in a real store: 12 experiments, the first of them at work."""
    clock = Clock()
    specs = [
        {"name": f"20M-h{n}", "mode": "min", "metric": "loss", "max_trials": 40, "concurrency": 2, "axes": {}}
        for n in range(12)
    ]
    with closing(Store(home.store, clock)) as store:
        create_run(
            store, "phase6a-1", plan="phase6a", fingerprint="f", source="built-in", plan_text="", hardware={}, data={},
            specs=specs,
        )  # fmt: skip
        writer = RunWriter(store, "phase6a-1")
        writer.move_run(ProcessState.STARTING)
        writer.move_experiment("20M-h0", ProcessState.STARTING)
        found = StatusView(store.connection, "phase6a-1").now()
    reading = {"kind": "temperature", "value": 71.0, "sensor_id": "hwmon:k10temp/Tctl"}
    command = Command(Action.SHED, Origin.GOVERNOR, "cpu at 91 celsius", since_wall=clock.wall_s(), shed_trials=1)
    daemon = {"pid": 42, "now_wall": clock.wall_s(), "started_wall": 1.7e9, "dashboard": "http://x", "log": "l"}
    node = {"protected": True, "readings": [reading] * 40, "command": command.to_json()}
    return {**found, "held": [], "disk": None, "plan_file": None, "nodes": {"node": node}, "daemon": daemon}


class StandIn:
    """Answers `status` as a daemon does, and refuses every other verb."""

    def __init__(self, shown: dict[str, Any]) -> None:
        self._view = shown

    def status(self, trials: bool) -> dict[str, Any]:
        return self._view

    async def _refuse(self, *_: Any) -> dict[str, Any]:
        raise Conflict("the stand-in answers `status` only")

    pause = resume = stop = shutdown = drill = backup = _refuse

    def disk_failed(self, error: DiskFailed) -> None:
        raise error
