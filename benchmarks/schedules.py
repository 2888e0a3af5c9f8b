"""Compare learning-rate schedules where trials stop early: cosines, decayed branches, and averaged weights.

    python -m benchmarks.schedules [--bars FILE] [--tier TIER] [--normalisation KIND] [--results FILE]

A trial is phase6a-mini's cell of 60k parameters at the wide one of its enqueued points, in batches of 128, with a
patience of 10 epochs and a contiguous split. Schedules:

- cosine 50: warm-up over 5 epochs, then a cosine that ends at epoch 50
- cosine 15: warm-up over 1.5 epochs, then a cosine that ends at epoch 15, about where trials stop
- WSD 5: warm-up over 1.5 epochs, then a constant rate (warm-up-stable-decay: Hu et al., MiniCPM, 2024). After every
  fifth epoch a branch decays to 0 by 1 - sqrt within .75 epochs (Haegele et al., 2024) and is judged; training goes on
  from before it. At most 50 epochs
- WSD 2: the same with a branch of .3 epochs after every second epoch
- average: the same constant rate; the moving average of the weights over about an epoch is judged after each

Columns, as means over horizons and seeds:

- least loss: as a search sees it, the least of all peaks and points
- crossed loss: peak and point are chosen on one half of the validation days and judged on the other, so that a schedule
  gains nothing by being judged more often; then its difference from cosine 50 and the standard error of that
- best epoch, rate there over its peak, epochs and steps: of all trials
- spread of seeds: the standard deviation of a trial's least loss at the same horizon and peak
- order of seeds: how often two seeds put a pair of peaks in the same order; order as average: how often a schedule and
  "average" do, at the same seed. Chance is 50 %

With --results, finished trials are kept in FILE, and a later call runs only those that are missing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import multiprocessing
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import machine
from benchmarks.trials.schedule import AVERAGE, BRANCHES, CONSTANT, COSINES, PLAIN, Point, Trial, best, run
from supervisor.plan.expansion import expand
from supervisor.plan.loader import load_plan
from supervisor.processes.environment import thread_environment
from training.data.dataset_files import build_dataset
from training.data.imports import import_file, import_sample
from training.data.manifest import dataset_path

PLAN, BUDGET, ENQUEUED, BATCH_SIZE = "phase6a-mini", "60k", 2, 128
HORIZONS, SEEDS, PEAKS = (1, 3, 5), (1, 2, 3), (3e-4, 1e-3)
SPLIT = {"kind": "contiguous", "purge": 5}
SCHEDULES = (*COSINES, *BRANCHES, AVERAGE)
HEADER = (
    "schedule", "least loss", "crossed loss", "minus cosine 50", "best epoch", "rate there", "epochs", "steps",
    "spread of seeds", "order of seeds", "order as average",
)  # fmt: skip

Cell = tuple[int, int]
"""A horizon and a seed."""
Result = dict[str, Any]


class Comparison:
    """The courses of all schedules, by cell and peak."""

    def __init__(self, results: Sequence[Result]) -> None:
        self._courses: dict[tuple[str, Cell, float], list[Point]] = {}
        for result in results:
            for name, points in result["courses"].items():
                course = [Point(**{**point, "halves": tuple(point["halves"])}) for point in points]
                self._courses[name, (result["horizon"], result["seed"]), result["peak"]] = course
        self.cells = sorted({cell for _, cell, _ in self._courses})
        self.peaks = sorted({peak for _, _, peak in self._courses})

    def row(self, name: str) -> list[str]:
        """Return a schedule's cells of the table."""
        every = [self._course(name, cell, peak) for cell in self.cells for peak in self.peaks]
        against = [self.crossed(name, cell) - self.crossed(SCHEDULES[0], cell) for cell in self.cells]
        error = statistics.stdev(against) / math.sqrt(len(against)) if len(against) > 1 else math.nan
        return [
            name,
            f"{statistics.mean(min(self._least(name, cell)) for cell in self.cells):.4f}",
            f"{statistics.mean(self.crossed(name, cell) for cell in self.cells):.4f}",
            "" if name == SCHEDULES[0] else f"{statistics.mean(against):+.4f} ± {error:.4f}",
            f"{statistics.mean(best(course).epoch for course in every):.1f}",
            f"{statistics.mean(best(course).share for course in every):.2f}",
            f"{statistics.mean(course[-1].epoch for course in every):.1f}",
            f"{statistics.mean(course[-1].steps for course in every):.0f}",
            f"{self._spread(name):.4f}",
            self._agreement(((name, one), (name, other)) for one, other in self._same_horizon()),
            "" if name == AVERAGE else self._agreement(((name, cell), (AVERAGE, cell)) for cell in self.cells),
        ]

    def crossed(self, name: str, cell: Cell) -> float:
        """Choose peak and point on one half of the days, judge on the other, and in reverse; return the mean."""
        points = [point for peak in self.peaks for point in self._course(name, cell, peak)]
        early = min(points, key=lambda point: point.halves[0])
        late = min(points, key=lambda point: point.halves[1])
        return (early.halves[1] + late.halves[0]) / 2

    def orders_kept(self, name: str) -> tuple[int, int]:
        """Count the pairs of peaks whose order a decayed branch left as it was, and all pairs judged at one epoch."""
        kept: list[bool] = []
        for cell in self.cells:
            for one, other in itertools.combinations(self.peaks, 2):
                before = self._by_epoch(PLAIN, cell, one), self._by_epoch(PLAIN, cell, other)
                after = self._by_epoch(name, cell, one), self._by_epoch(name, cell, other)
                kept += [
                    (before[0][epoch] < before[1][epoch]) == (after[0][epoch] < after[1][epoch])
                    for epoch in set.intersection(*(set(losses) for losses in (*before, *after)))
                ]
        return sum(kept), len(kept)

    def _course(self, name: str, cell: Cell, peak: float) -> list[Point]:
        return self._courses[name, cell, peak]

    def _by_epoch(self, name: str, cell: Cell, peak: float) -> dict[int, float]:
        return {point.epoch: point.loss for point in self._course(name, cell, peak)}

    def _least(self, name: str, cell: Cell) -> list[float]:
        return [best(self._course(name, cell, peak)).loss for peak in self.peaks]

    def _same_horizon(self) -> Iterator[tuple[Cell, Cell]]:
        return ((one, other) for one, other in itertools.combinations(self.cells, 2) if one[0] == other[0])

    def _spread(self, name: str) -> float:
        groups = [
            [best(self._course(name, cell, peak)).loss for cell in self.cells if cell[0] == horizon]
            for horizon in {cell[0] for cell in self.cells}
            for peak in self.peaks
        ]
        return statistics.mean(statistics.stdev(group) if len(group) > 1 else math.nan for group in groups)

    def _agreement(self, pairs: Iterator[tuple[tuple[str, Cell], tuple[str, Cell]]]) -> str:
        """Say how often the losses of two sides put a pair of peaks in the same order."""
        same = [
            (one[i] < one[j]) == (other[i] < other[j])
            for one, other in ((self._least(*left), self._least(*right)) for left, right in pairs)
            for i, j in itertools.combinations(range(len(self.peaks)), 2)
        ]
        return f"{statistics.mean(same):.0%}" if same else ""


def prepare(folder: Path, bars: Path | None, tier: str | None, normalisation: str | None) -> dict[int, dict[str, Any]]:
    """Import the bars, build the dataset and return the config of each horizon."""
    plan = load_plan(PLAN).plan
    ticker = "SP500" if bars is None else bars.stem.split("_")[0]
    if bars is None:
        import_sample(folder)
    else:
        import_file(bars, ticker, folder)
    tier = tier or plan.data.tier
    features = build_dataset(ticker, tier, folder).num_features
    dataset = str(dataset_path(folder, ticker, tier))
    changes: dict[str, Any] = {"dataset": dataset, "batch_size": BATCH_SIZE, "split": SPLIT}
    if normalisation is not None:
        changes["normalisation"] = normalisation
    specs = [spec.model_dump(mode="json") for spec in expand(plan, num_features=features, only=BUDGET)]
    return {spec["cell"]["horizon"]: {**spec["config"], **spec["enqueue"][ENQUEUED], **changes} for spec in specs}


def missing(results: Sequence[Result], seeds: Sequence[int], peaks: Sequence[float]) -> list[Trial]:
    """List the trials that ``results`` lacks, one seed after the other."""
    done = {Trial(*(result[key] for key in ("training", "horizon", "seed", "peak"))) for result in results}
    wanted = itertools.product(seeds, HORIZONS, peaks, (*COSINES, CONSTANT))
    trials = [Trial(training, horizon, seed, peak) for seed, horizon, peak, training in wanted]
    return [trial for trial in trials if trial not in done]


def train(trials: Sequence[Trial], configs: dict[int, dict[str, Any]], keep: Callable[[Result], None]) -> None:
    """Run trials in two processes of one thread each; keep each result as it comes."""
    os.environ.update(thread_environment(1))  # read when a worker loads torch
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        for result in pool.map(run, trials, [configs[trial.horizon] for trial in trials]):
            keep(result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", type=Path, help="daily bars, named TICKER or TICKER_*; default: the embedded sample")
    parser.add_argument("--tier", help="default: the plan's")
    parser.add_argument("--normalisation", help="default: the plan's")
    parser.add_argument("--results", type=Path, help="JSON lines of finished trials, read and added to")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--peaks", type=float, nargs="+", default=PEAKS)
    arguments = parser.parse_args()
    file: Path | None = arguments.results
    results = [json.loads(line) for line in file.read_text().splitlines()] if file and file.exists() else []

    def keep(result: Result) -> None:
        results.append(result)
        if file:
            with file.open("a") as stream:
                stream.write(json.dumps(result) + "\n")

    with tempfile.TemporaryDirectory() as folder:
        configs = prepare(Path(folder), arguments.bars, arguments.tier, arguments.normalisation)
        train(missing(results, arguments.seeds, arguments.peaks), configs, keep)
    print(f"{machine()}, torch {torch.__version__}, {sum(result['cpu_s'] for result in results) / 60:.0f} CPU minutes")
    comparison = Comparison(results)
    print("\n| " + " | ".join(HEADER) + " |\n|" + "---|" * len(HEADER))
    for name in SCHEDULES:
        print("| " + " | ".join(comparison.row(name)) + " |")
    for name in BRANCHES:
        kept, pairs = comparison.orders_kept(name)
        print(f"{name}: the decay left the order of two peaks as it was in {kept} of {pairs} branches")


if __name__ == "__main__":
    main()
