"""Write a large run into a real store: one experiment at work with thousands of ended trials, and a long event log."""

from __future__ import annotations

import json
import random
from contextlib import closing
from typing import Any

from supervisor.clock import Clock
from supervisor.domain import messages
from supervisor.domain.lifecycle import ProcessState
from supervisor.home import Home
from supervisor.store.database import Store
from supervisor.store.run_writer import RunWriter, create_run
from supervisor.store.trial_writer import TrialWriter

RUN, PLAN, AT_WORK = "big-1", "big", "20M-h0"
EPOCHS = 3


def specs(trials: int) -> list[dict[str, Any]]:
    """Return 12 experiments of `trials` trials each."""
    return [
        {
            "name": f"20M-h{number}", "mode": "min", "metric": "loss", "max_trials": trials, "max_epochs": EPOCHS,
            "concurrency": 2, "seed": 1, "enqueue": [], "trainable": "mine:objective", "resources": {"cpu": 1},
            "cell": {}, "finalize": None,
        }
        for number in range(12)
    ]  # fmt: skip


def write_run(home: Home, ended: int) -> None:
    """Write the run into the home's store: `ended` trials of the first experiment have ended, two run."""
    chance = random.Random(1)
    with closing(Store(home.store, Clock())) as store:
        store.connection.execute("PRAGMA synchronous = OFF")  # this store need not survive a power cut
        create_run(
            store, RUN, plan=PLAN, fingerprint="f", source="built-in", plan_text="", hardware={}, data={},
            specs=specs(ended + 10),
        )  # fmt: skip
        writer, trials = RunWriter(store, RUN), TrialWriter(store, RUN)
        writer.move_run(ProcessState.STARTING)
        writer.move_experiment(AT_WORK, ProcessState.STARTING)
        writer.move_experiment(AT_WORK, ProcessState.RUNNING)
        for number in range(ended + 2):
            _write_trial(trials, number, chance, ends=number < ended)


def _write_trial(trials: TrialWriter, number: int, chance: random.Random, *, ends: bool) -> None:
    trials.handle(AT_WORK, messages.TrialAdded(number, {"rate": chance.random()}, "sampled"))
    trials.handle(AT_WORK, messages.TrialStarted(number, 1, f"{number:08x}", "node", 1000, None))
    value = chance.uniform(0.6, 0.7)
    for step in range(1, EPOCHS if ends else 2):
        metrics = {"loss": value, "time_this_iter_s": 1.5}
        trials.handle(AT_WORK, messages.ResultReported(number, 1, step, value, metrics, None))
    if ends:
        trials.handle(AT_WORK, messages.TrialEnded(number, 1, "finished", value, None, {}))


def write_log(home: Home, lines: int) -> None:
    """Write `lines` lines of events into the plan's log, as months leave them."""
    home.audit_log(PLAN).parent.mkdir(parents=True, exist_ok=True)
    with home.audit_log(PLAN).open("w") as log:
        for number in range(lines):
            event = {"ts": "2026-11-30T08:00:00.000000Z", "seq": number, "level": "info", "event": "trial.reported"}
            log.write(json.dumps({**event, "msg": f"trial {number % 10_000} epoch 1: 0.65", "run": RUN}) + "\n")
