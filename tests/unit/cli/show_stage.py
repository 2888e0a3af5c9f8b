"""A home with two runs of phase6a-mini in a real store, for the verbs that show runs."""

from __future__ import annotations

from typing import Any

from supervisor.domain.lifecycle import ProcessState
from supervisor.home import Home
from supervisor.store.database import Store
from supervisor.store.evaluation_writer import EvaluationWriter
from supervisor.store.run_writer import RunWriter
from tests.unit.store.evaluation_stage import OPENING, RESULT, FixedClock, finalised, run_of

NAME = "20k-h1"
CHOSEN = {"val_loss": 0.485}


def open_store(home: Home) -> Store:
    for folder in (home.state, home.logs, home.runs):
        folder.mkdir(exist_ok=True)
    return Store(home.store, FixedClock())


def create_tested_run(store: Store, run_id: str) -> EvaluationWriter:
    """Create a run whose first experiment was searched, finalised and tested; the others have not begun."""
    writer, run = run_of(store, run_id), RunWriter(store, run_id)
    run.move_run(ProcessState.STARTING)
    run.record("run.started")
    run.move_experiment(NAME, ProcessState.STARTING)
    run.record("experiment.started", experiment=NAME, max_trials=12)
    finalised(writer)
    writer.open_test(NAME, OPENING)
    result: dict[str, Any] = {**RESULT, "chosen": CHOSEN}
    writer.keep_result(NAME, result)
    run.record("experiment.finished", experiment=NAME, best=0.5, best_trial=0, trials=12)
    return writer


def two_runs(home: Home) -> None:
    """Create the runs mini-1, tested, and mini-2, of the same plan with folds, finalised and not tested."""
    store = open_store(home)
    create_tested_run(store, "mini-1")
    finalised(run_of(store, "mini-2", split="folds"))
    store.close()
