"""Measure how a run uses the cores: the mean use by stage as a table, and a picture of each second.

    python -m benchmarks.utilisation PLAN [--before CHECKOUT] [--picture FILE.svg] [--set KEY=VALUE]

The plan is run by the real commands in a home of its own, whose dataset is built before the clock starts. Each second
the CPU time of the run's processes (the command, the daemon and all that descends from it: Ray, drivers, trials, test,
report) and of the whole machine is sampled; stages are read from the run's log. With `--before` another checkout's
commands run the same plan first.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import psutil

from benchmarks.contender import CHECKOUT, VERSIONS, Contender, home_of_a_run
from benchmarks.machine import machine
from benchmarks.utilisation.picture import Run, picture
from benchmarks.utilisation.samples import Sampler
from benchmarks.utilisation.stages import LAST, spans, table

LOOK_EVERY_S = 1.0
TAIL_BYTES = 65_536
DAEMON_BYTES = 65_536


def run_once(contender: Contender, plan: str, arguments: Sequence[str], within_s: float) -> Run:
    """Return the samples and stages of one run, to its report or until `within_s` are over."""
    with home_of_a_run() as home:
        contender.succeed(home.root, "supervisord", "start", plan, *arguments, "--dry-run")
        log = home.audit_log(plan)
        with Sampler(lambda: daemon_of(log)) as sampler:
            typed_s = time.time()
            contender.succeed(home.root, "supervisord", "start", plan, *arguments)
            try:
                wait_for_report(log, within_s)
            finally:
                contender.command(home.root, "supervisorctl", "stop")
        lines = log.read_text().splitlines()
    return sampler.samples, spans(typed_s, [json.loads(line) for line in lines])


def daemon_of(log: Path) -> int | None:
    """Return the pid of the daemon that began the log; None before it has."""
    if not log.exists():
        return None
    with log.open("rb") as stream:
        head = stream.read(DAEMON_BYTES)
    for line in head.splitlines(keepends=True):
        if line.endswith(b"\n") and (event := json.loads(line))["event"] == "daemon.started":
            return int(event["pid"])
    return None


def wait_for_report(log: Path, within_s: float) -> None:
    """Wait until the log has its last event, that of the report, or `within_s` are over."""
    until, marks = time.monotonic() + within_s, [f'"{name}"'.encode() for name in LAST]
    while time.monotonic() < until:
        if log.exists():
            with log.open("rb") as stream:
                stream.seek(max(0, log.stat().st_size - TAIL_BYTES))
                tail = stream.read(TAIL_BYTES)
            if any(mark in tail for mark in marks):
                return
        time.sleep(LOOK_EVERY_S)
    print(f"no report within {within_s:.0f} s: the table ends there", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", help="a built-in plan: smoke, phase6a-mini")
    parser.add_argument("--before", type=Path, help="another checkout with its .venv, to compare with")
    parser.add_argument("--picture", type=Path, help="also draw each second into this SVG file")
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE", help="as for start")
    parser.add_argument("--experiments", action="append", default=[], metavar="GLOB", help="as for start")
    parser.add_argument("--within-s", type=float, default=4 * 3600.0, help="stop a longer run (default 4 hours)")
    asked = parser.parse_args()
    if "/" in asked.plan or asked.plan.endswith((".yaml", ".yml")):
        parser.error(f"{asked.plan}: expected a built-in plan's name, found a file; change one with --set instead")
    given = [("--set", one) for one in asked.sets] + [("--experiments", one) for one in asked.experiments]
    contenders = [Contender("now", CHECKOUT)]
    if asked.before is not None:
        contenders.insert(0, Contender("before", asked.before.resolve()))
    # An end from outside, too, ends the daemon of the run at work.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    load, cores = psutil.getloadavg()[0], psutil.cpu_count() or 1
    runs: dict[str, Run] = {}
    for contender in contenders:
        arguments = [word for pair in given for word in pair]
        runs[contender.name] = run_once(contender, asked.plan, arguments, asked.within_s)
        print(f"{contender.name}: done", file=sys.stderr, flush=True)
    libraries = ", ".join(f"{name} {version(name)}" for name in VERSIONS)
    print(f"{machine()}; {libraries}; load {load:.1f} before; plan {asked.plan}, a run of each\n")
    print(table(runs, cores))
    if asked.picture is not None:
        asked.picture.write_text(picture(f"Use of the {cores} cores: {asked.plan}", runs, cores))
    return 0


if __name__ == "__main__":
    sys.exit(main())
