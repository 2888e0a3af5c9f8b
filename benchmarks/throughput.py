"""Compare the throughput of `concurrency: auto` and `resources: auto` with two fixed one-core trials.

    python -m benchmarks.throughput [--cores 1 --cores 2] [--seconds 8]     about ten minutes
    python -m benchmarks.throughput --budget 20M --seconds 60               its steps take longer: ten more

At 20k, 200k, 2M and 20M, with the first one or two cores of this machine (sched_setaffinity), auto chooses as before an
experiment; then its share and the fixed one are measured again, in turn. Windows a second of all trials together, with
an architecture and a batch from the middle of the plan's. On one core Ray runs one of the two fixed trials at a time;
here both processes run, and the later one's last steps are measured alone, so its figure there is too high.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from benchmarks.machine import machine
from supervisor.home import Home
from supervisor.plan.dataset import choose_dataset
from supervisor.plan.expansion import ExperimentSpec, expand
from supervisor.plan.loader import load_plan
from supervisor.preflight import estimate
from supervisor.preflight.concurrency import Choice, Share, limits_of, with_share
from supervisor.preflight.machine import machine_memory_bytes, usable_cores
from supervisor.preflight.probe import compare, windows_per_second
from supervisor.preflight.timing import middle_case

PLANS = {"20k": "phase6a-mini", "200k": "phase6a-mini", "2M": "phase6a", "20M": "phase6a"}
FIXED = Share(2, 1)
ROUNDS = 2
LONG_S = 1e6
"""A likely time at which the probe may take its whole minute."""


def spec_of(home: Home, budget: str) -> ExperimentSpec:
    plan = load_plan(PLANS[budget], ["concurrency=auto", "resources=auto"]).plan
    assert plan.data is not None
    chosen = choose_dataset(plan.data, home.data)
    return expand(plan, chosen.num_features, chosen.path, only=f"{budget}-h1")[0]


def _mean(rates: Sequence[float | None]) -> float | None:
    known = [rate for rate in rates if rate is not None]
    return mean(known) if known else None


async def row(spec: ExperimentSpec, budget: str, seconds: float) -> str:
    """Choose, measure and compare one budget on the cores of this process."""
    memory, cores = machine_memory_bytes(), usable_cores()
    shapes = estimate.fitting_architectures(spec, memory)

    async def measure(share: Share, within_s: float) -> float | None:
        case = middle_case(with_share(spec, Choice(share, "", share.trials)), shapes, share.threads, share.trials)
        return await windows_per_second(case, within_s)

    choice = await compare(limits_of(spec, cores, estimate.trial_bytes(spec), memory), LONG_S, measure)
    shares = [choice.share, FIXED] if choice.share != FIXED else [FIXED]
    rounds = [{share: await measure(share, seconds) for share in shares} for _ in range(ROUNDS)]
    auto, fixed = (_mean([found[share] for found in rounds]) for share in (choice.share, FIXED))
    rates = [f"{rate:.4g}" if rate else "-" for rate in (auto, fixed)]
    ratio = "the same" if choice.share == FIXED else f"{auto / fixed:.2f}" if auto and fixed else "-"
    return f"{budget:<8}{cores:>6}{choice.share!s:>12}{rates[0]:>12}{rates[1]:>12}{ratio:>10}   {choice.reason}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, action="append", help="how many cores (default: 1 and 2)")
    parser.add_argument("--budget", action="append", choices=list(PLANS), help="which budgets (default: all)")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each figure is measured")
    arguments = parser.parse_args()
    print(f"{machine()}\nwindows a second; fixed: {FIXED}")
    print(f"{'budget':<8}{'cores':>6}{'auto':>12}{'auto w/s':>12}{'fixed w/s':>12}{'ratio':>10}   why")
    all_cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        home.data.mkdir(parents=True)
        for budget in arguments.budget or PLANS:
            spec = spec_of(home, budget)
            for count in arguments.cores or (1, 2):
                os.sched_setaffinity(0, all_cores[:count])
                print(asyncio.run(row(spec, budget, arguments.seconds)), flush=True)
                os.sched_setaffinity(0, all_cores)
    return 0


if __name__ == "__main__":
    sys.exit(main())
