"""A trial of an ended run trains on, is killed meanwhile, and ends with the bits of one that was not."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from typing import Any

import pytest

from supervisor.domain.checkpoint_name import checkpoint_step
from supervisor.home import Home
from supervisor.processes import orphans
from supervisor.store.database import read_only
from tests.acceptance.conftest import Sweep

PLAN = (
    "smoke", "--only", "20k", "--set", "max_trials=2", "--set", "max_epochs=2", "--set", "checkpoint_every_s=0",
    "--set", "concurrency=1", "--set", "resources.cpu=1", "--set", "pruner={kind: none}",
)  # fmt: skip
NAME, MORE = "20k-h1", 8
TIMINGS = ("time_this_iter_s", "seconds", "samples_per_s", "paused_s")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_trial_that_is_killed_while_it_trains_on_ends_with_the_same_bits(homes: tuple[Sweep, Sweep]) -> None:
    """kill -9 of its worker, then of the daemon, whose next one finds an older checkpoint; the audit is content."""
    calm, stormy = homes
    _search(calm)
    # The same data, not fetched and built twice.
    shutil.copytree(calm.home.data, stormy.home.data)
    _search(stormy)
    best = _best(calm)
    assert best == _best(stormy)
    _extend(calm, best, lambda: None)
    _extend(stormy, best, lambda: _kill(stormy, best))
    left, right = _results(calm.home, best), _results(stormy.home, best)
    assert left == right
    assert sorted(left) == list(range(1, 3 + MORE))

    said = [event for event in stormy.events("smoke") if event.get("trial") == best]
    (asked,) = [event for event in said if event["event"] == "trial.extended"]
    assert (asked["epochs"], asked["last_step"], asked["from_step"]) == (MORE, 2 + MORE, 2)
    repeated = [event for event in said if event["event"] == "trial.repeated"]
    assert repeated, "an epoch was trained again"
    for again in repeated:
        first = next(e for e in said if e["event"] == "trial.reported" and e["step"] == again["step"])
        assert _exact(again["value"]) == _exact(first["value"])
    lost = {event["cause"] for event in said if event["event"] == "trial.requeued"}
    assert lost == {"worker_died", "daemon_died"}
    (value,) = [event["value"] for event in said if event["event"] == "trial.finished"][1:]
    assert value == min(float.fromhex(loss) for loss, _ in left.values())
    for each in homes:
        audit = each.ctl("audit")
        assert audit.returncode == 0, audit.stdout


def _search(sweep: Sweep) -> None:
    started = sweep.d("start", *PLAN)
    assert started.returncode == 0, started.stderr
    assert sweep.ctl("wait").returncode == 0


def _best(sweep: Sweep) -> int:
    """Return the trial whose newest checkpoint stays."""
    return int(sweep.status()["experiments"][0]["best"]["trial"])


def _extend(sweep: Sweep, trial: int, meanwhile: Callable[[], None]) -> None:
    other = sweep.d("start", "--extend", f"{NAME}/{1 - trial}={MORE}")
    assert other.returncode != 0
    assert "no checkpoint of it is left; with --anew it trains from epoch 0" in other.stderr
    started = sweep.d("start", "--extend", f"{NAME}/{trial}={MORE}")
    assert started.returncode == 0, started.stderr
    meanwhile()
    assert sweep.ctl("wait").returncode == 0


def _kill(sweep: Sweep, trial: int) -> None:
    sweep.until("an epoch of the extension", lambda view: _epochs(view, trial) >= 3)
    started = [e["worker_pid"] for e in sweep.events("smoke") if e["event"] == "trial.started" and e["trial"] == trial]
    os.kill(started[-1], signal.SIGKILL)
    sweep.until("one more", lambda view: _epochs(view, trial) >= 4)
    # So that no epoch ends between the look and the kill.
    assert sweep.ctl("pause", "--now").returncode == 0
    view = sweep.until("it waits", lambda view: view["experiments"][0]["trials"][trial]["state"] == "PAUSED")
    os.kill(view["daemon"]["pid"], signal.SIGKILL)
    orphans.end(sweep.home.key, grace_s=0.5)
    # As if the disk had lost the newest one: its epoch is trained again.
    folder = sweep.home.run_folder(view["run"]["id"]) / NAME / str(trial)
    max(folder.glob("checkpoint-*.pt"), key=lambda path: checkpoint_step(path) or 0).unlink()
    assert sweep.d("start").returncode == 0
    assert sweep.ctl("resume").returncode == 0


def _epochs(view: dict[str, Any], trial: int) -> int:
    return max((result[0] for result in view["experiments"][0]["trials"][trial]["results"]), default=0)


def _results(home: Home, trial: int) -> dict[int, tuple[str, dict[str, Any]]]:
    """Return value and metrics of each epoch of a trial; floats as hex."""
    with read_only(home.store) as connection:
        rows = connection.execute("SELECT step, value, metrics FROM result WHERE trial = ? ORDER BY step", (trial,))
        found = {int(row["step"]): (row["value"], json.loads(row["metrics"])) for row in rows}
    return {
        step: (_exact(value), {key: _exact(one) for key, one in metrics.items() if key not in TIMINGS})
        for step, (value, metrics) in found.items()
    }


def _exact(value: Any) -> Any:
    return value.hex() if isinstance(value, float) else value
