"""Print the dry-run of phase6a for a machine that is not here: its cores, its memory, and an accelerator's speed.

    python -m benchmarks.elsewhere [--cores 16 --memory-gib 128 --tflops 4 --hours 140.5]     a few seconds

Nothing is timed: a step on the stand-in takes its operations at so many TFLOP/s, and `--step-ms` beside them. So the
table shows what the plan does with such a machine, not how fast a real one is.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from supervisor.home import Home
from supervisor.plan.dataset import choose_dataset
from supervisor.plan.expansion import ExperimentSpec, expand
from supervisor.plan.loader import load_plan
from supervisor.preflight import estimate, training_time
from supervisor.preflight.budget_table import budget_table
from supervisor.preflight.estimate import dry_run_table, planned
from supervisor.preflight.hours import outlook_lines
from supervisor.preflight.machine import MACHINE_SHARE
from supervisor.preflight.step_times import TimedStep, operations, rule_seconds
from training.settings import parse_budget

GIB = 2**30


def steps(specs: Sequence[ExperimentSpec], cores: int, tflops: float, step_s: float) -> Iterator[TimedStep]:
    """Yield the steps that would be timed, two architectures by two batches of each budget; trials share the device."""
    for spec in specs:
        budget = parse_budget(str(spec.config["budget"]))
        threads, at_once = training_time.threads_of(spec), training_time.at_once(spec, cores)
        ordered = sorted(estimate.architectures(spec), key=lambda shape: rule_seconds(shape, 1, threads))
        for shape in (ordered[0], ordered[-1]):
            for batch in sorted(training_time.batch_sizes(spec)):
                seconds = step_s + at_once * 3 * operations(shape, batch) / (tflops * 1e12)
                yield TimedStep(budget, shape, batch, threads, at_once, "stand-in", seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, default=16)
    parser.add_argument("--memory-gib", type=float, default=128.0)
    parser.add_argument("--tflops", type=float, default=4.0, help="of all trials together (default 4)")
    parser.add_argument("--step-ms", type=float, default=15.0, help="a step's cost beside its operations")
    parser.add_argument("--hours", type=float, help="default: the plan's own")
    asked = parser.parse_args()
    memory = int(asked.memory_gib * GIB * MACHINE_SHARE)
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        home.data.mkdir(parents=True)
        plan = load_plan("phase6a").plan
        assert plan.data is not None
        chosen = choose_dataset(plan.data, home.data)
        specs = planned(expand(plan, chosen.num_features, chosen.path, hours=asked.hours), asked.cores, memory)
        timed = tuple(steps(specs, asked.cores, asked.tflops, asked.step_ms / 1e3))
        print(f"a stand-in: {asked.cores} cores, {asked.memory_gib:g} GiB, an accelerator of {asked.tflops:g} TFLOP/s")
        print(dry_run_table(specs, available_bytes=memory, cores=asked.cores, timed=timed))
        for line in outlook_lines(specs, asked.cores, memory, timed):
            print(line)
        print("\n" + budget_table(specs, memory, asked.cores, timed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
