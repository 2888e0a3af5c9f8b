"""Compare a search that is killed again and again with an undisturbed one, bit by bit."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from supervisor.home import Home
from supervisor.store import queries
from supervisor.store.database import read_only
from tests.acceptance.conftest import Sweep, driver_pid

SEED = 20261123
PLAN = """\
name: bits
description: the built-in model, small, one trial at a time
trainable: patchtst
seed: 11
matrix: {budget: [60k], horizon: [1]}
config:
  context: 80
  patch: 10
  stride: 5
  grid: {d_model: [16, 24, 32, 48, 64], n_layers: [1, 2, 3, 4], n_heads: [2, 4], d_ff_ratio: [2, 4], tolerance: 0.25}
  patience: 3
  gradient_clip: 1.0
  target: {price: high, threshold: 0.01}
  split: {kind: contiguous, purge: 1}
  device: cpu
space:
  shape_rank: {type: grid, axis: shape_rank}
  heads_log2: {type: grid, axis: heads_log2}
  learning_rate: {type: float, low: 1e-4, high: 1e-2, log: true}
  dropout: {type: float, low: 0.0, high: 0.3}
  batch_size: {type: categorical, choices: [32, 64]}
max_trials: 7
max_epochs: 4
concurrency: 1
resources: {cpu: 1}
sampler: {kind: tpe, startup_trials: 3}
pruner: {kind: asha, grace_period: 2, reduction_factor: 2}
data: {ticker: SP500, tier: a25, fallback: sample}
max_failures: 10
"""
TIMINGS = ("time_this_iter_s", "seconds", "samples_per_s")
"""Metrics that say how fast the machine was."""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_interrupted_search_ends_with_the_same_trials_and_bits(homes: tuple[Sweep, Sweep]) -> None:
    """kill -9 of driver, daemon and worker and a stop, at seeded moments: parameters, losses and ends are the same."""
    calm, stormy = homes
    (calm.folder / "bits.yaml").write_text(PLAN)
    assert _run(calm, lambda: None) == 0
    # The same data, not fetched and built twice.
    shutil.copytree(calm.home.data, stormy.home.data)
    assert _run(stormy, lambda: _interrupt(stormy, random.Random(SEED))) == 0

    left, right = _outcome(calm.home), _outcome(stormy.home)
    assert left == right
    assert len(left["trials"]) == 7
    assert {trial["end_reason"] for trial in left["trials"].values()} >= {"finished", "pruned"}

    lost = {event["cause"] for event in stormy.events("bits") if event["event"] == "trial.requeued"}
    assert lost >= {"driver_died", "daemon_died", "worker_died", "stopped"}
    assert stormy.ctl("audit").returncode == 0


def _run(sweep: Sweep, meanwhile: Callable[[], None]) -> int:
    started = sweep.d("start", str(sweep.folder / "bits.yaml"))
    assert started.returncode == 0, started.stderr
    meanwhile()
    return sweep.ctl("wait").returncode


def _interrupt(sweep: Sweep, rng: random.Random) -> None:
    """Four faults spread over the search, each in the middle of an epoch."""
    faults = [_kill_driver, _kill_daemon, _kill_worker, _stop]
    rng.shuffle(faults)
    for place, fault in enumerate(faults):
        wanted = 4 * place + rng.randrange(1, 4)
        view = sweep.until(f"{wanted} results, an epoch at work", lambda view, n=wanted: _at_work(view, n))
        time.sleep(rng.uniform(0.0, 0.2))
        fault(sweep, view)


def _at_work(view: dict[str, Any], wanted: int) -> bool:
    """Return whether so many results are there, and a trial has ended its first or third epoch."""
    experiment = view["experiments"][0]
    results = sum(len(trial["results"]) for trial in experiment["trials"])
    return results >= wanted and any(t["state"] == "RUNNING" and t["epoch"] % 2 == 1 for t in experiment["running"])


def _kill_driver(sweep: Sweep, _view: dict[str, Any]) -> None:
    os.kill(driver_pid(sweep.events("bits")), signal.SIGKILL)


def _kill_worker(sweep: Sweep, _view: dict[str, Any]) -> None:
    started = [event["worker_pid"] for event in sweep.events("bits") if event["event"] == "trial.started"]
    os.kill(started[-1], signal.SIGKILL)


def _kill_daemon(sweep: Sweep, view: dict[str, Any]) -> None:
    os.kill(view["daemon"]["pid"], signal.SIGKILL)
    assert sweep.d("start").returncode == 0


def _stop(sweep: Sweep, _view: dict[str, Any]) -> None:
    assert sweep.ctl("stop").returncode == 0
    assert sweep.d("start", str(sweep.folder / "bits.yaml")).returncode == 0


def _outcome(home: Home) -> dict[str, Any]:
    """Return all facts that must be the same after any interruption; floats as hex."""
    with read_only(home.store) as connection:
        run = connection.execute("SELECT id FROM run").fetchone()[0]
        (experiment,) = queries.run_snapshot(connection, run)["experiments"]
        metrics = connection.execute("SELECT trial, step, metrics FROM result ORDER BY trial, step").fetchall()
    trials = {
        trial["number"]: {
            "params": _exact(trial["params"]),
            "source": trial["source"],
            "end_reason": trial["end_reason"],
            "value": _exact(trial["value"]),
            "losses": {step: _exact(value) for step, value, _ in trial["results"]},
        }
        for trial in experiment["trials"]
    }
    metrics_of = {(row["trial"], row["step"]): _exact(_untimed(json.loads(row["metrics"]))) for row in metrics}
    return {"state": experiment["state"], "best": _exact(experiment["best"]), "trials": trials, "metrics": metrics_of}


def _untimed(metrics: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metrics.items() if key not in TIMINGS}


def _exact(value: Any) -> Any:
    if isinstance(value, float):
        return value.hex()
    return {key: _exact(item) for key, item in value.items()} if isinstance(value, dict) else value
