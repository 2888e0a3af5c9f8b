"""Measure what each second goes to that no trial trains: the start, from experiment to experiment, and the end.

    python -m benchmarks.startup [--runs 2] [--before CHECKOUT] [--picture FILE.svg]

Each run is the smoke plan by the real commands in a home of its own, whose dataset is built before the clock starts.
The seconds are those between events of the run's log; the first count from the moment at which `start` is called. With
`--before` the same is measured with another checkout's commands, a run of each in turn.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from importlib.metadata import version
from pathlib import Path

import psutil

from benchmarks.contender import CHECKOUT, REPORT_WITHIN_S, RUN_WITHIN_S, VERSIONS, Contender, home_of_a_run
from benchmarks.machine import machine
from benchmarks.startup.picture import picture
from benchmarks.startup.seconds import Seconds, bars, seconds_of, table
from supervisor.home import Home

PLAN = "smoke"


def run_once(contender: Contender) -> Seconds:
    """Return the seconds of one whole run."""
    with home_of_a_run() as home:
        contender.succeed(home.root, "supervisord", "start", PLAN, "--dry-run")
        typed_s = time.time()
        contender.succeed(home.root, "supervisord", "start", PLAN)
        try:
            contender.command(home.root, "supervisorctl", "wait", "--timeout", f"{RUN_WITHIN_S:.0f}")
            until = time.monotonic() + REPORT_WITHIN_S
            while not has_a_report(home) and time.monotonic() < until:
                time.sleep(0.1)
        finally:
            contender.command(home.root, "supervisorctl", "stop")
        lines = home.audit_log(PLAN).read_text().splitlines()
    return seconds_of(typed_s, [json.loads(line) for line in lines])


def has_a_report(home: Home) -> bool:
    """Return whether the run's log has its last event, that of the report."""
    log = home.audit_log(PLAN)
    text = log.read_text() if log.exists() else ""
    return '"report.written"' in text or '"report.failed"' in text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2, help="of each checkout (default 2)")
    parser.add_argument("--before", type=Path, help="another checkout with its .venv, to compare with")
    parser.add_argument("--picture", type=Path, help="also draw the seconds into this SVG file")
    asked = parser.parse_args()
    if asked.runs < 1:
        parser.error(f"--runs {asked.runs}: expected at least 1")
    contenders = [Contender("now", CHECKOUT)]
    if asked.before is not None:
        contenders.insert(0, Contender("before", asked.before.resolve()))
    # An end from outside, too, ends the daemon of the run at work.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    load = psutil.getloadavg()[0]
    runs: dict[str, list[Seconds]] = {each.name: [] for each in contenders}
    for number in range(asked.runs):
        for contender in contenders:
            runs[contender.name].append(run_once(contender))
            print(f"run {number + 1} of {asked.runs}, {contender.name}: done", file=sys.stderr, flush=True)
    libraries = ", ".join(f"{name} {version(name)}" for name in VERSIONS)
    print(f"{machine()}; {libraries}; load {load:.1f} before; plan {PLAN}, median of {asked.runs} runs\n")
    print(table(runs))
    if asked.picture is not None:
        asked.picture.write_text(picture("Seconds in which no trial trains", bars(runs)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
