"""Measure how soon a search has its answer: a sequential loop, plain Ray Tune and this system, on the same problem.

    python -m benchmarks.time_to_answer [--seeds 10] [--trials 24] [--epochs 12] [--results FILE]

The problem is one experiment of phase6a-mini. (a) is the loop of a hand-written script: Optuna's TPE with its defaults,
each trial to its early stop, one process with all threads. (b) is plain Ray Tune with OptunaSearch, ASHA and two
one-core trials at once. (c) is this system by its commands in a home of its own. All train by the same code, on the
same data, with the same draws and initial weights (problem.py); each clock starts at the command, imports included,
after the dataset has been built.

The loss to reach is that of (a)'s best epoch of the seed, plus 0.5 %. Each search is kept in --results as soon as it is
over and is never measured twice: interrupted, the same command goes on. The
tables are printed after each whole seed. A busy machine shows mostly its other work.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from benchmarks.contender import CHECKOUT
from benchmarks.machine import machine
from benchmarks.time_to_answer import results
from benchmarks.time_to_answer.contenders import CONTENDERS, OURS, SEQUENTIAL, order
from benchmarks.time_to_answer.problem import Settings, pose
from benchmarks.time_to_answer.reach import of_complete_seeds
from benchmarks.time_to_answer.table import text

WITHIN = 0.005
SEARCH_WITHIN_S = 3600.0
LOOK_S = 2.0
VERSIONS = ("ray", "optuna", "torch")


def measure(settings: Settings, seeds: int, file: Path, within_s: float) -> None:
    """Measure what `file` lacks; print the tables after each seed that something was measured of."""
    done = {(one.seed, one.contender) for one in results.read(file, settings)}
    with tempfile.TemporaryDirectory(prefix="swa-data-") as data:
        for place, seed in enumerate(range(1, seeds + 1)):
            missing = [name for name in order(place) if (seed, name) not in done]
            for name in missing:
                problem = pose(settings, seed, Path(data))
                about = _about()
                found = CONTENDERS[name](problem, settings, seed, within_s)
                results.add(file, settings, found, about)
                print(f"seed {seed}, {name}: {len(found.reports)} epochs in {found.search_s:.0f} s", file=sys.stderr,
                      flush=True)  # fmt: skip
            if missing and seed < seeds:
                print(f"\nafter seed {seed}:\n{show(settings, file)}", flush=True)


def show(settings: Settings, file: Path) -> str:
    """Return the tables of a file's whole seeds, with what they were measured on."""
    found = of_complete_seeds(results.read(file, settings), list(CONTENDERS))
    if not found[SEQUENTIAL]:
        return f"{file}: no seed is whole yet"
    what = (
        f"{settings.experiment} of phase6a-mini, {settings.trials} trials of at most {settings.epochs} epochs, "
        f"{'the plan’s points first' if settings.enqueued else 'no enqueued points'}, "
        f"{'finalised' if settings.finalised else 'not finalised'}"
    )
    return "\n".join([*results.about_of(file), what, "", text(found, SEQUENTIAL, OURS, WITHIN)])


def _about() -> dict[str, Any]:
    """Return the machine with versions and commit, and the share of its cores that is busy before a search."""
    asked = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(asked, cwd=CHECKOUT, capture_output=True, text=True, check=False).stdout.strip()
    libraries = ", ".join(f"{name} {version(name)}" for name in VERSIONS)
    # Nothing of ours runs now: what is busy is other work.
    busy = psutil.cpu_percent(LOOK_S) / 100.0
    return {"machine": f"{machine()}, {libraries}, commit {commit or 'unknown'}", "busy_before": busy}


def _positive(text_of_number: str) -> int:
    number = int(text_of_number)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {number}")
    return number


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=_positive, default=10)
    parser.add_argument("--trials", type=_positive, default=24, help="of the search (default 24)")
    parser.add_argument("--epochs", type=_positive, default=12, help="of a trial at most (default 12)")
    parser.add_argument("--experiment", default="200k-h1", help="of phase6a-mini, with ASHA (default 200k-h1)")
    parser.add_argument("--enqueue", action="store_true", help="give the plan's enqueued points to all contenders")
    parser.add_argument("--finalize", action="store_true", help="let this system finalise and test after its search")
    parser.add_argument("--within-s", type=float, default=SEARCH_WITHIN_S, help="end a longer search (default 3600)")
    parser.add_argument(
        "--results", type=Path, default=CHECKOUT / "logs" / "time-to-answer.jsonl", help="the file that keeps them"
    )
    parser.add_argument("--show", action="store_true", help="print the tables of --results, measure nothing")
    asked = parser.parse_args()
    settings = Settings(asked.experiment, asked.trials, asked.epochs, asked.enqueue, asked.finalize)
    if not asked.show:
        # An end from outside, too, ends the processes of the search at work.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        measure(settings, asked.seeds, asked.results, asked.within_s)
    elif not asked.results.exists():
        parser.error(f"--results {asked.results}: expected a file of results, found none; measure first")
    print(show(settings, asked.results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
