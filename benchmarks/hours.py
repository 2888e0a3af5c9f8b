"""Run one experiment of phase6a in given hours; compare the promise with what happened, and draw the cores in use.

    python -m benchmarks.hours [--experiment 2M-h1] [--hours 0.5] [--out docs/pictures/hours]     the hours, and minutes

The commands are the real ones, in a home of their own. The promise is that of `supervisord start --dry-run`.
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
from pathlib import Path
from statistics import mean
from typing import Any

import psutil
from matplotlib.figure import Figure

from benchmarks.machine import machine
from supervisor.home import Home
from supervisor.plan.dataset import choose_dataset
from supervisor.plan.expansion import ExperimentSpec, expand
from supervisor.plan.loader import load_plan
from supervisor.preflight.budget_table import Cost, costs_of
from supervisor.preflight.estimate import planned
from supervisor.preflight.machine import machine_memory_bytes, usable_cores
from supervisor.preflight.timing import times_of_plan
from supervisor.store import queries
from supervisor.store.database import read_only

SAMPLE_S = 5.0
EXTRA_S = 1800.0
"""The time that a run may take beyond its hours: start-up, the test and the report."""


class CoresInUse:
    """Notes every few seconds how many cores of this machine are busy."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, float]] = []
        self._over = threading.Event()
        psutil.cpu_percent()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self.samples.append((time.time(), psutil.cpu_percent() / 100.0 * usable_cores()))

    def end(self) -> None:
        self._over.set()
        self._thread.join()


def promise(home: Home, options: list[str], hours: float, experiment: str) -> Cost:
    """Return what the dry-run says of the experiment."""
    plan = load_plan(options[0]).plan
    assert plan.data is not None
    chosen = choose_dataset(plan.data, home.data)
    specs: list[ExperimentSpec] = expand(
        plan, chosen.num_features, chosen.path, globs=[experiment], hours=hours
    )  # fmt: skip
    cores, memory = usable_cores(), machine_memory_bytes()
    specs = planned(specs, cores, memory)
    return costs_of(specs, memory, cores, times_of_plan(home, specs).steps)[0]


def run(home: Home, *words: str, within_s: float) -> None:
    environment = {**os.environ, "SWEEP_HOME": str(home.root)}
    script = Path(sys.executable).parent / words[0]
    subprocess.run([str(script), *words[1:]], env=environment, check=True, timeout=within_s)


def tell(cost: Cost, experiment: dict[str, Any], saved_bytes: float, hours: float) -> None:
    """Print the promise beside what happened."""
    trials = [trial for trial in experiment["trials"] if trial["end_reason"] is not None]
    seconds = [one for trial in trials for _, _, one in trial["results"] if one is not None]
    by_source = {source: sum(t["source"] == source for t in trials) for source in ("enqueued", "sampled", "finalize")}
    forward = sum(trial["source"] == "walk_forward" for trial in trials)
    took_h = (experiment["ended_wall"] - experiment["started_wall"]) / 3600
    answer = experiment["finalized"]
    rows = [
        ("hours of training", f"at most {hours:g}", f"{took_h:.3f}"),
        ("trials", str(cost.trials), f"{len(trials)} ({by_source}, walk-forward {forward})"),
        ("seconds an epoch", f"{cost.epoch_s:.1f}", f"{sum(seconds) / max(1, len(seconds)):.1f}, of {len(seconds)}"),
        ("bytes written", f"{cost.written_bytes / 2**30:.2f} GiB", f"{saved_bytes / 2**30:.2f} GiB"),
        ("search ended by", "hours", str(experiment["spec"].get("search_end"))),
        ("answer", "one", "none" if answer is None else f"trial {answer['from_trial']}"),
    ]
    for row in rows:
        print("{:<20}{:<18}{}".format(*row))


def draw(path: Path, samples: list[tuple[float, float]], trials: list[dict[str, Any]], title: str) -> None:
    """Draw cores in use and trials at work over the minutes of the run."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    began = samples[0][0]
    above.fill_between([(at - began) / 60 for at, _ in samples], [cores for _, cores in samples], alpha=0.6, lw=0)
    above.set_ylim(0, usable_cores() * 1.05)
    above.set_ylabel("cores in use")
    above.set_title(title, loc="left", fontsize=10)
    colours = {"enqueued": "tab:blue", "sampled": "tab:blue", "finalize": "tab:orange", "walk_forward": "tab:green"}
    for trial in trials:
        if trial["started_wall"] is not None and trial["ended_wall"] is not None:
            left, right = ((trial[key] - began) / 60 for key in ("started_wall", "ended_wall"))
            below.barh(trial["number"], right - left, left=left, height=0.8, color=colours[trial["source"]])
    below.set_ylabel("trial")
    below.set_xlabel("minutes; blue: search, orange: finalisation, green: walk-forward")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path.with_suffix(".png"), dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="2M-h1")
    parser.add_argument("--hours", type=float, default=0.5)
    parser.add_argument("--out", type=Path, default=Path("docs/pictures/hours"))
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sweep-hours-"))
    home = Home(folder.resolve())
    try:
        home.prepare()
        cost = promise(home, ["phase6a"], asked.hours, asked.experiment)
        cores = CoresInUse()
        words = ("phase6a", "--experiments", asked.experiment, "--hours", f"{asked.hours:g}")
        run(home, "supervisord", "start", *words, within_s=EXTRA_S)
        run(home, "supervisorctl", "wait", within_s=asked.hours * 3600 + EXTRA_S)
        cores.end()
        with read_only(home.store) as connection:
            snapshot = queries.run_snapshot(connection, queries.run_named(connection, None))
            saved = connection.execute(
                "SELECT count(*) AS n FROM event WHERE json_extract(fields, '$.checkpoint') IS NOT NULL"
            ).fetchone()["n"]
            events = connection.execute(
                "SELECT name, fields FROM event WHERE name LIKE 'experiment.%' OR name LIKE 'machine.%' ORDER BY seq"
            ).fetchall()
        sizes = [path.stat().st_size for path in home.runs.rglob("checkpoint-*.pt")]
        (experiment,) = snapshot["experiments"]
        print(f"\n{machine()}\n{' '.join(words)}\n\n{'':<20}{'promised':<18}happened")
        tell(cost, experiment, saved * max(sizes, default=0), asked.hours)
        used = mean(one for _, one in cores.samples)
        print(f"cores in use, mean: {used:.2f} of {usable_cores()}\n")
        for event in events:
            print(event["name"], event["fields"])
        draw(asked.out, cores.samples, experiment["trials"], f"{' '.join(words)} on {usable_cores()} cores")
    finally:
        shutil.rmtree(home.runtime(), ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
