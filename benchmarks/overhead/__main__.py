"""Measure what supervision adds to a trial that does nothing, and what its milliseconds go to.

    python -m benchmarks.overhead [--trials 60] [--profile FILE]

Side by side, one and two trials at once: a bare Optuna loop, plain Ray Tune (function; class; class with workers that
are used again), and this system: the real daemon, Ray head and driver. The first trials, which start the workers, do
not count; where each trial starts a worker of its own, fewer trials are run. Then this system once more with timers
around its functions, Ray's and Optuna's. With --profile only a profile of the driver, by cProfile.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from benchmarks.machine import machine
from benchmarks.overhead import contenders, tables
from benchmarks.overhead.scenario import LEFT_OUT, Scenario
from benchmarks.overhead.timers import Between
from benchmarks.ray_stage import ROOT, start_head
from supervisor.cli import launch
from supervisor.home import Home
from supervisor.processes import orphans
from supervisor.store.database import read_only

AT_ONCE = (1, 2)
FEW = 6
"""The trials that count where each starts a worker of its own: it takes seconds."""
RUN_WITHIN_S = 900.0
VERSIONS = ("ray", "optuna")
BARE = {"bare Optuna loop, in memory": contenders.MEMORY, tables.BARE: contenders.JOURNAL}
TUNE = {
    "Ray Tune, function": contenders.FUNCTION,
    "Ray Tune, class": contenders.CLASS,
    "Ray Tune, class, workers used again": contenders.REUSED,
}
OURS = {"this system, function": "noop", "this system, class": "Noop"}
TIMED = "this system, function"


@contextmanager
def folder() -> Iterator[Path]:
    """Make a folder; remove it afterwards. Its path is short, for Ray's sockets."""
    made = Path(tempfile.mkdtemp(prefix="swo", dir="/tmp")).resolve()
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def without_us(kind: str, trials: int, at_once: int) -> float:
    """Return the milliseconds a trial of a search without this system, in processes of its own."""
    with folder() as place:
        command = [sys.executable, "-m", "benchmarks.overhead.contenders", kind, str(trials), str(at_once), str(place)]
        if kind not in TUNE.values():
            return tables.steady_ms(ended_of(command, {**os.environ}), LEFT_OUT)
        head, address, environment = start_head(place)
        try:
            return tables.steady_ms(ended_of([*command, address], environment), LEFT_OUT)
        finally:
            os.killpg(head.pid, signal.SIGKILL)
            head.wait()


def ended_of(command: list[str], environment: Mapping[str, str]) -> list[float]:
    """Return the moments that a contender prints. Raises SystemExit with its words when it fails."""
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=RUN_WITHIN_S, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stderr[-3000:]}")
    ended: list[float] = json.loads(done.stdout.splitlines()[-1])
    return ended


@contextmanager
def supervised(trainable: str, trials: int, at_once: int, **options: Any) -> Iterator[tuple[Scenario, Home]]:
    """Run a search under this system in a home of its own; yield both. Raises SystemExit when it fails."""
    with folder() as place:
        home = Home(place)
        scenario = Scenario(str(place), f"benchmarks.overhead.trainables:{trainable}", trials, at_once, **options)
        more = {**launch.MALLOC, **scenario.to_environment(), "PYTHONPATH": str(ROOT), "SWEEP_HOME": str(place)}
        code = "import sys; from benchmarks.overhead.daemon import main; sys.exit(main())"
        try:
            done = subprocess.run(
                [sys.executable, "-c", code], env={**os.environ, **more}, cwd=ROOT, capture_output=True, text=True,
                timeout=RUN_WITHIN_S, check=False,
            )  # fmt: skip
            if done.returncode != 0:
                raise SystemExit(f"the daemon ended with {done.returncode}: {(done.stdout + done.stderr)[-3000:]}")
            yield scenario, home
        finally:
            orphans.end(home.key, grace_s=1.0)
            shutil.rmtree(home.runtime(), ignore_errors=True)


def under_us(trainable: str, trials: int, at_once: int) -> float:
    """Return the milliseconds a trial under this system, from the times at which its ends were committed."""
    with supervised(trainable, trials, at_once) as (_, home), read_only(home.store) as connection:
        rows = connection.execute("SELECT wall FROM event WHERE name = 'trial.finished'").fetchall()
    return tables.steady_ms([row["wall"] for row in rows], LEFT_OUT)


def split(trials: int, at_once: int) -> dict[str, Between | None]:
    """Return what the milliseconds of a trial under this system go to, by process."""
    with supervised(OURS[TIMED], trials, at_once, timed=True) as (scenario, _):
        return {
            "the driver": tables.mean(scenario.read("driver")),
            "a worker": tables.mean(scenario.read("worker")),
            "the daemon, beside them": tables.mean(scenario.read("daemon")),
        }


def measure(trials: int) -> dict[str, dict[int, float | None]]:
    """Return the milliseconds a trial of every contender."""
    found: dict[str, dict[int, float | None]] = {}
    for name, kind in {**BARE, **TUNE}.items():
        count = LEFT_OUT + FEW if kind in (contenders.FUNCTION, contenders.CLASS) else trials
        found[name] = {at_once: _said(name, at_once, without_us(kind, count, at_once)) for at_once in AT_ONCE}
    for name, trainable in OURS.items():
        found[name] = {at_once: _said(name, at_once, under_us(trainable, trials, at_once)) for at_once in AT_ONCE}
    return found


def _said(name: str, at_once: int, milliseconds: float) -> float:
    print(f"{name}, {at_once} at once: {milliseconds:.1f} ms a trial", file=sys.stderr, flush=True)
    return milliseconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=60, help="of each search (default 60)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--profile", type=Path, help="only write a profile of the driver, one trial at a time")
    asked = parser.parse_args()
    if asked.trials <= LEFT_OUT:
        parser.error(f"--trials {asked.trials}: expected more than {LEFT_OUT}")
    if asked.profile is not None:
        with supervised(OURS[TIMED], asked.trials, 1, profile=str(asked.profile.resolve())):
            print(f"read it by: python -m pstats {asked.profile}")
        return 0
    about = f"{machine()}; {', '.join(f'{name} {version(name)}' for name in VERSIONS)}"
    about += f"; load {psutil.getloadavg()[0]:.1f} before; {asked.trials} trials, the first {LEFT_OUT} left out"
    found = measure(asked.trials)
    by_number = {at_once: split(asked.trials, at_once) for at_once in AT_ONCE}
    parts = {name: {number: each[name] for number, each in by_number.items()} for name in by_number[AT_ONCE[0]]}
    print(f"{about}\n\n{tables.costs(found)}\n\n{tables.pieces(parts)}")
    if asked.json is not None:
        asked.json.write_text(json.dumps({"machine": about, "ms_per_trial": found}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
