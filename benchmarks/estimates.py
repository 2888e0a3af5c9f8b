"""Compare what an estimate promises with what a run takes: seconds, memory and bytes, at 20k, 2M and 20M.

    python -m benchmarks.estimates [--budget 20k ...]     about twelve minutes on two quiet cores

For each budget one experiment runs with the real commands in a home of its own: phase6a's (at 20k phase6a-mini's) with
fewer trials and epochs, every epoch of each. The promise is that of `supervisord start --dry-run`, which times steps
first. Few trials are drawn, so their mean architecture is not the mean of the grid: `same trials` is the promise for
the trials that ran.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.machine import machine
from supervisor.home import Home
from supervisor.plan.dataset import choose_dataset
from supervisor.plan.expansion import ExperimentSpec, expand, grid_of
from supervisor.plan.loader import load_plan
from supervisor.preflight import training_time
from supervisor.preflight.budget_table import costs_of
from supervisor.preflight.estimate import manifest_value, planned
from supervisor.preflight.machine import machine_memory_bytes, usable_cores
from supervisor.preflight.step_times import TimedStep
from supervisor.preflight.timing import times_of_plan
from supervisor.store import queries
from supervisor.store.database import read_only
from training.memory import predict_trial_memory

ROOT = Path(__file__).parents[1]
# budget: plan, trials, epochs
CASES = {"20k": ("phase6a-mini", 8, 4), "2M": ("phase6a", 8, 2), "20M": ("phase6a", 4, 1)}
WITHIN_S = 3600.0
POLL_S = 1.0


@dataclass
class Found:
    """One figure as promised and as measured."""

    what: str
    promised: float
    measured: float
    unit: str

    def line(self, budget: str) -> str:
        ratio = self.measured / self.promised if self.promised else float("nan")
        return f"{budget:<8}{self.what:<34}{self.promised:>12.4g}{self.measured:>12.4g} {self.unit:<5}{ratio:>8.2f}"


class Watch:
    """Notes the largest worker and the most bytes of checkpoints on disk while a run works."""

    def __init__(self, home: Home) -> None:
        self._home, self._over = home, threading.Event()
        self.memory_bytes = self.disk_bytes = 0
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        while not self._over.wait(POLL_S):
            sizes = [path.stat().st_size for path in self._home.runs.rglob("*.pt") if path.exists()]
            self.disk_bytes = max(self.disk_bytes, sum(sizes))

    def end(self) -> None:
        self._over.set()
        self._thread.join()


def specs_of(home: Home, budget: str) -> tuple[list[str], list[ExperimentSpec]]:
    """Return the options of `supervisord start`, and the experiment that they mean."""
    name, trials, epochs = CASES[budget]
    sets = [
        f"max_trials={trials}", f"max_epochs={epochs}", "enqueue=[]", "pruner={kind: none}", "finalize=null",
        "warm_start=null", f"config.patience={epochs}", "hours=null",
    ]  # fmt: skip
    plan = load_plan(name, sets).plan
    assert plan.data is not None
    chosen = choose_dataset(plan.data, home.data)
    options = [name, "--only", f"{budget}-h1", *(word for one in sets for word in ("--set", one))]
    specs = expand(plan, chosen.num_features, chosen.path, only=f"{budget}-h1")
    return options, planned(specs, usable_cores(), machine_memory_bytes())


def command(home: Home, *words: str) -> None:
    environment = {**os.environ, "SWEEP_HOME": str(home.root)}
    script = Path(sys.executable).parent / words[0]
    subprocess.run([str(script), *words[1:]], env=environment, check=True, timeout=WITHIN_S, stdout=sys.stderr)


def of_budget(budget: str) -> list[Found]:
    """Promise, run and compare one budget."""
    folder = Path(tempfile.mkdtemp(prefix="sweep-estimates-"))
    home = Home(folder.resolve())
    try:
        home.prepare()
        options, specs = specs_of(home, budget)
        started = time.monotonic()
        timed = times_of_plan(home, specs).steps
        timing_s = time.monotonic() - started
        watch = Watch(home)
        command(home, "supervisord", "start", *options)
        command(home, "supervisorctl", "wait")
        watch.end()
        with read_only(home.store) as connection:
            run = queries.run_named(connection, None)
            snapshot = queries.run_snapshot(connection, run)
            largest = connection.execute(
                "SELECT max(high) AS high FROM reading WHERE sensor = 'trial:memory.largest'"
            ).fetchone()["high"]
            saved = connection.execute(
                "SELECT count(*) AS n FROM event WHERE name = 'trial.reported'"
                " AND json_extract(fields, '$.checkpoint') IS NOT NULL"
            ).fetchone()["n"]
        kept = [path.stat().st_size for path in home.runs.rglob("checkpoint-*.pt")]
        found = compare(specs[0], timed, snapshot["experiments"][0], largest or 0.0, saved, max(kept, default=0))
        found.append(Found("checkpoints on disk at most", found[-1].promised, watch.disk_bytes / 2**20, "MiB"))
        found[-1].promised = costs_of(specs, machine_memory_bytes(), usable_cores(), timed)[0].peak_bytes / 2**20
        return [Found("timing its steps (a bound)", 60.0, timing_s, "s"), *found]
    finally:
        shutil.rmtree(home.runtime(), ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def compare(
    spec: ExperimentSpec,
    timed: tuple[TimedStep, ...],
    experiment: dict[str, Any],
    largest_bytes: float,
    saved: int,
    checkpoint_bytes: int,
) -> list[Found]:
    """Return the figures of one experiment."""
    (cost,) = costs_of([spec], machine_memory_bytes(), usable_cores(), timed)
    assert cost.epoch_s is not None
    assert cost.most_s is not None
    trials = [trial for trial in experiment["trials"] if trial["results"]]
    epochs = [seconds for trial in trials for _, _, seconds in trial["results"] if seconds is not None]
    same = [same_trial(spec, trial["params"], timed) for trial in trials]
    took = experiment["ended_wall"] - experiment["started_wall"]
    return [
        Found("seconds an epoch, same trials", mean(same), mean(epochs), "s"),
        Found("seconds an epoch, mean of the grid", cost.epoch_s, mean(epochs), "s"),
        Found("the experiment, every epoch", cost.most_s, took, "s"),
        Found("memory, largest of these trials", largest_memory(spec, trials) / 2**20, largest_bytes / 2**20, "MiB"),
        Found("bytes written by checkpoints", cost.written_bytes / 2**20, saved * checkpoint_bytes / 2**20, "MiB"),
    ]


def same_trial(spec: ExperimentSpec, params: dict[str, Any], timed: tuple[TimedStep, ...]) -> float:
    """Return the promised seconds of an epoch of one trial."""
    one = spec.model_copy(update={"space": {}, "config": {**spec.config, "batch_size": params["batch_size"]}})
    rows = manifest_value(spec.config, "rows")
    assert rows is not None
    return training_time.epoch_seconds(one, [shape_of(spec, params)], rows, usable_cores(), timed)


def shape_of(spec: ExperimentSpec, params: dict[str, Any]) -> Any:
    width = manifest_value(spec.config, "num_features")
    assert width is not None
    return grid_of(dict(spec.config), width).architecture(params["shape_rank"], params["heads_log2"])


def largest_memory(spec: ExperimentSpec, trials: list[dict[str, Any]]) -> float:
    return max(
        predict_trial_memory(shape_of(spec, trial["params"]), trial["params"]["batch_size"]).total_bytes
        for trial in trials
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", action="append", choices=list(CASES), help="which budgets (default: all)")
    print(machine())
    print(f"{'budget':<8}{'figure':<34}{'promised':>12}{'measured':>12} {'unit':<5}{'ratio':>8}")
    for budget in parser.parse_args().budget or CASES:
        for found in of_budget(budget):
            print(found.line(budget), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
