"""Make the view of a run that `status` and `wait` print."""

from __future__ import annotations

from typing import Any

HOUR = 3600.0
NOW = 1_700_000_000.0
ETA = {"median_s": 1955.0, "low_s": 1500.0, "high_s": 2580.0}
ETA_WORDS = "ETA 32 min 35 s (25 min 00 s to 43 min 00 s)"

TRACEBACK = """\
Traceback (most recent call last):
  File "/opt/sweep/actors/trial/supervised.py", line 125, in wrapped
    return function(config)
  File "/home/ann/mine.py", line 6, in raises3
    if config["n"] == 3: raise ValueError("n is three")
ValueError: n is three
"""
CHOSEN = {"concurrency": 2, "resources": {"cpu": 4.0}, "chosen": "measured", "max_epochs": 20}


def experiment(name: str = "2M-h1", state: str = "RUNNING", **changes: Any) -> dict[str, Any]:
    return {
        "name": name, "state": state, "reason": None, "action": None, "origin": None,
        "started_wall": NOW - HOUR, "ended_wall": None,
        "spec": {"concurrency": 2, "max_epochs": 20}, "max_trials": 50, "ended": 17, "counts": {"finished": 17},
        "running": [trial(17, 3, last_value=0.6931), trial(18, 1, state="PAUSED", held_for="92 C")],
        "doing": "search" if state in ("RUNNING", "PAUSED") else None,
        "best": {"value": 0.12345, "trial": 4, "params": {}}, "eta": ETA,
        "missing": None, "test": None,
    } | changes  # fmt: skip


def trial(number: int, epoch: int, **changes: Any) -> dict[str, Any]:
    """A running trial of ten seconds an epoch that reported ten seconds ago."""
    return {
        "number": number, "state": "RUNNING", "epoch": epoch, "last_value": None, "recent": [], "held_for": None,
        "spent_s": 10.0 * epoch,
        "since_wall": NOW - 10.0,
    } | changes  # fmt: skip


def untouched(name: str) -> dict[str, Any]:
    return experiment(
        name, "STOPPED", started_wall=None, ended=0, running=[], best=None, eta=None, max_trials=10, counts={}
    )


def command(action: str, origin: str = "operator", **changes: Any) -> dict[str, Any]:
    return {
        "action": action, "origin": origin, "reason": "visitors", "who": "ann" if origin == "operator" else None,
        "since_wall": NOW - 90.0, "drill": False,
    } | changes  # fmt: skip


def node(value: float | None = 61.0, protected: bool = True, **changes: Any) -> dict[str, Any]:
    readings = [{"kind": "temperature", "value": value}, {"kind": "memory", "value": 40.0}]
    return {"protected": protected, "readings": readings, "command": command("RUN", "governor")} | changes


def view(*experiments: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "run": {"id": "smoke-20231114-221320", "state": "RUNNING", "plan": "smoke", "created_wall": NOW - 2 * HOUR},
        "commands": [], "experiments": list(experiments), "eta": ETA, "nodes": {"n": node()},
        "daemon": {"pid": 42, "now_wall": NOW, "started_wall": NOW - 2 * HOUR, "dashboard": "http://127.0.0.1:8265",
                   "log": "/h/logs/smoke.jsonl"},
    } | changes  # fmt: skip
