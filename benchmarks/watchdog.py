"""Measure the cost of sampling, and the effect of a bad provider on the others.

    python -m benchmarks.watchdog [--seconds 60] [--period 5]

Three tables: latency of one pass (providers and governor); CPU and memory of the watchdog and of the sensors' children
at that period; and the period of the others beside a provider that blocks, crashes, floods or forks. The measured
children are those of hwmon and nvidia; they idle on a machine without such sensors.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from supervisor.clock import Clock, Now
from supervisor.governor.ladder import decide
from supervisor.governor.policy import Policy
from supervisor.governor.state import GovernorState
from supervisor.sensors.discovery import open_providers
from supervisor.sensors.isolation import IsolatedProvider, child_command
from supervisor.sensors.provider import Provider

MIB = 2**20
CLOCK = Clock()
CHILDREN = ("supervisor.sensors.hwmon:HwmonProvider", "supervisor.sensors.nvidia:NvidiaProvider")
BAD = {
    "none": "",
    "blocks for ever": "sleep 100000",
    "crashes": "exit 3",
    "prints 1 MB": "read verb; head -c 1048576 /dev/zero; sleep 100000",
    "prints garbage": "read verb; echo garbage; sleep 100000",
    "forks": "sleep 100000 & sleep 100000 & exit 1",
}


def isolated() -> list[IsolatedProvider]:
    """Start both children, even if this machine has no such sensors."""
    return [IsolatedProvider(target.rpartition(":")[2], child_command(target), CLOCK) for target in CHILDREN]


def one_pass(providers: Sequence[Provider], policy: Policy, memory: GovernorState) -> GovernorState:
    readings = [reading for provider in providers for reading in provider.read()]
    return decide(readings, policy, memory, Now.of(CLOCK))[1]


def latency(providers: Sequence[Provider], passes: int = 500) -> list[float]:
    """Measure the milliseconds of each pass, back to back; return them sorted."""
    policy, memory, taken = Policy(), GovernorState(), []
    for _ in range(passes):
        began = time.perf_counter()
        memory = one_pass(providers, policy, memory)
        taken.append(1000 * (time.perf_counter() - began))
    return sorted(taken)


def percentile(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))]


def cost(providers: list[Provider], children: list[IsolatedProvider], seconds: float, period_s: float) -> str:
    """Measure CPU and memory at the given period."""
    everything = [*providers, *children]
    policy, memory = Policy(), GovernorState()
    one_pass(everything, policy, memory)
    time.sleep(1.0)  # the children start, which happens once a day
    one_pass(everything, policy, memory)
    processes = [psutil.Process(child.pid) for child in children if child.pid is not None]
    before = [sum(process.cpu_times()[:2]) for process in processes]
    own_before, began = _own_cpu_s(), time.monotonic()
    while time.monotonic() - began < seconds:
        memory = one_pass(everything, policy, memory)
        time.sleep(period_s)
    elapsed = time.monotonic() - began
    spent = sum(sum(process.cpu_times()[:2]) for process in processes) - sum(before)
    resident = [process.memory_info().rss / MIB for process in processes]
    unique = [process.memory_full_info().uss / MIB for process in processes]
    return (
        f"children ({len(processes)}): {100 * spent / elapsed:.3f} % of a core, "
        f"{sum(resident):.1f} MiB resident ({sum(unique):.1f} MiB not shared)\n"
        f"watchdog's side: {100 * (_own_cpu_s() - own_before) / elapsed:.3f} % of a core"
    )


def _own_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def beside(script: str, good: Sequence[Provider], period_s: float = 1.0, passes: int = 25) -> str:
    """Measure the period of the good providers beside a bad one."""
    bad: list[Provider] = [IsolatedProvider("bad", ["sh", "-c", script], CLOCK)] if script else []
    times, due = [], time.monotonic()
    for _ in range(passes):
        for provider in [*bad, *good]:
            provider.read()
        times.append(time.monotonic())
        due += period_s
        time.sleep(max(0.0, due - time.monotonic()))
    for provider in bad:
        provider.close()
    periods = [later - earlier for earlier, later in pairwise(times)]
    worst = max(abs(period - period_s) for period in periods) / period_s
    return f"mean {statistics.mean(periods):.3f} s, worst deviation {worst:.0%} of {period_s:g} s"


def table(rows: dict[str, Callable[[], str]]) -> None:
    for name, row in rows.items():
        print(f"  {name:<18}{row()}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--period", type=float, default=5.0)
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        providers, said = open_providers(None, [Path(folder)], CLOCK)
        names = ", ".join(provider.name for provider in providers)
        print(f"python {sys.version.split()[0]}, {psutil.cpu_count()} cores; providers here: {names} of {len(said)}")
        children = isolated()
        taken = latency([*providers, *children])
        print(f"one pass: p50 {percentile(taken, 0.5):.2f} ms, p99 {percentile(taken, 0.99):.2f} ms")
        print(cost(providers, children, arguments.seconds, arguments.period))
        print("beside a bad provider, at the fast period of 1 s:")
        table({name: (lambda script=script: beside(script, providers)) for name, script in BAD.items()})
        for provider in [*providers, *children]:
            provider.close()


if __name__ == "__main__":
    main()
