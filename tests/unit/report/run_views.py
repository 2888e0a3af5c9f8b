"""Make the snapshots of runs that a report is written from, as the store's queries give them."""

from __future__ import annotations

from typing import Any

BEGAN, NOW = 1_790_000_000.0, 1_790_007_200.0
PARAMS = {"learning_rate": 0.001, "batch_size": 64}
SPACE = {
    "learning_rate": {"type": "float", "low": 1e-5, "high": 1e-2, "log": True},
    "batch_size": {"type": "categorical", "choices": [32, 64]},
}


def trial(number: int, value: float | None, end_reason: str | None = "finished", **facts: Any) -> dict[str, Any]:
    """Make a trial of two epochs as the store's queries give it."""
    state = {None: "RUNNING", "diverged": "ERROR", "oom": "ERROR", "error": "ERROR"}.get(end_reason, "TERMINATED")
    epochs = [] if value is None else [[1, value + 0.1, 2.0], [2, value, 3.0]]
    return {
        "number": number, "state": state, "source": "sampled", "attempt": 1, "end_reason": end_reason, "value": value,
        "error": None, "checkpoint": None, "checkpoint_step": None, "held_for": None, "added_wall": BEGAN,
        "started_wall": BEGAN, "ended_wall": None if end_reason is None else BEGAN + 60,
        "params": {**PARAMS, "learning_rate": 1e-5 * (number + 1)}, "record": {}, "results": epochs, **facts,
    }  # fmt: skip


def experiment(
    name: str, state: str, trials: list[dict[str, Any]], reason: str | None = None, **spec: Any
) -> dict[str, Any]:
    """Make an experiment of ten trials as the store's queries give it."""
    mode = spec.get("mode", "min")
    valued = [t for t in trials if t["value"] is not None]
    best = (min if mode == "min" else max)(valued, key=lambda t: t["value"]) if valued else None
    ended = sum(t["end_reason"] is not None for t in trials)
    return {
        "name": name, "state": state, "reason": reason, "driver_starts": 1,
        "started_wall": BEGAN if trials else None,
        "ended_wall": BEGAN + 3600 if state in ("EXITED", "FATAL") else None,
        "spec": {"name": name, "cell": {"horizon": 1}, "trainable": "my.module:train", "config": {}, "space": SPACE,
                 "metric": "val_loss", "mode": mode, "max_trials": 10, **spec},
        "max_trials": 10, "counts": {}, "ended": ended, "running": [], "trials": trials,
        "missing": None, "test": None,
        "best": None if best is None else {"value": best["value"], "trial": best["number"], "params": best["params"]},
    }  # fmt: skip


def snapshot_of(
    *experiments: dict[str, Any], state: str = "EXITED", data: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    run = {
        "id": "mine-1", "plan": "mine", "fingerprint": "ab" * 32, "source": "built-in", "hardware": {},
        "data": data or {}, "state": state, "desired": "run", "reason": None, "created_wall": BEGAN,
        "ended_wall": BEGAN + 3600 if state == "EXITED" else None,
    }  # fmt: skip
    return {"run": run, "commands": [], "lost": [], "experiments": list(experiments), **more}


def ten_trials() -> list[dict[str, Any]]:
    return [trial(n, 0.5 + 0.01 * ((n * 7) % 10)) for n in range(10)]
