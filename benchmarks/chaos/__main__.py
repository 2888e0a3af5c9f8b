"""Disturb a real search by a seeded series of faults, then check every promise.

    python -m benchmarks.chaos [--seconds 600] [--seed 1] [--only TEXT] [--keep]    (make chaos SECONDS=600 SEED=1)

Real commands, real Ray, a home on a small disk of its own. For SECONDS faults follow each other, some overlapping:
kill -9 of daemon, driver, workers and Ray's own processes, SIGSTOP, a full disk, and an operator who pauses, resumes
and stops. The seed decides their order (schedule.py). A killed daemon is started again, as by a service manager.
Then the run continues to its end and is judged (verdict.py, and `supervisorctl audit`). Exit code 1 for a broken
promise; the home is kept then. It takes SECONDS and GRACE_S at most.
"""

from __future__ import annotations

import argparse
import json
import signal
import sqlite3
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path

from benchmarks.chaos.injector import RESUMED_WITHIN_S, Injector
from benchmarks.chaos.run import LOOK_S, Run
from benchmarks.chaos.schedule import Kind, schedule
from benchmarks.chaos.site import PARTS, PLAN_NAME, Site
from benchmarks.chaos.verdict import Evidence, Trial, Verdict, judge, parse_diary, render
from benchmarks.machine import machine

GRACE_S = 300.0
TRIALS_PER_S = 1.5
"""More than fit into the time; the rest is hurried at the end."""


def let_go_on(injector: Injector) -> None:
    """Let the run hurry to its end without faults, and wait for the end of its daemon."""
    (injector.run.site.folder / "hurry").touch()
    end_s = injector.until_s + GRACE_S
    injector.run.wait("the run's end", lambda: injector.run.over(), end_s - time.monotonic())
    deadline = time.monotonic() + 60.0
    while injector.run.site.daemons() and time.monotonic() < deadline:
        time.sleep(LOOK_S)
    if injector.run.site.daemons():
        injector.run.trouble("the daemon did not end with its run")
    injector.run.read_log()


def gather(injector: Injector) -> None:
    """Collect the evidence when everything has ended."""
    evidence, site = injector.run.evidence, injector.run.site
    evidence.left = site.left(10.0)
    evidence.seen = site.log.events
    evidence.logged = [json.loads(line) for line in _lines(site.home.audit_log(PLAN_NAME))]
    evidence.diary = parse_diary(_lines(site.folder / "diary"))
    evidence.checkpoints = site.checkpoints()
    if site.home.store.exists():
        with closing(sqlite3.connect(site.home.store)) as store:
            evidence.trials = list(_trials(store))
    audit = site.command("supervisorctl", "audit")
    evidence.audit = None if audit.returncode == 0 else (audit.stdout + audit.stderr)[-3000:]


def _lines(path: Path) -> list[str]:
    """Read the lines of a file with their ends; return none without a file."""
    return path.read_text().splitlines(keepends=True) if path.exists() else []


def _trials(store: sqlite3.Connection) -> Iterator[Trial]:
    results: dict[tuple[str, int], list[tuple[int, float]]] = defaultdict(list)
    for experiment, number, step, value in store.execute(
        "SELECT experiment, trial, step, value FROM result ORDER BY experiment, trial, step"
    ):
        results[experiment, number].append((step, value))
    parts = {
        name: int(json.loads(spec)["cell"]["part"]) for name, spec in store.execute("SELECT name, spec FROM experiment")
    }
    for experiment, number, params, end_reason in store.execute(
        "SELECT experiment, number, params, end_reason FROM trial ORDER BY experiment, number"
    ):
        x = float(json.loads(params)["x"])
        yield Trial(experiment, parts[experiment], number, x, end_reason, tuple(results[experiment, number]))


def report(injector: Injector, verdicts: list[Verdict], seconds: float, seed: int) -> str:
    evidence = injector.run.evidence
    lines = [f"{machine()}; seed {seed}, faults for {seconds:.0f} s", "",
             f"{'fault':<32}{'count':>6}{'kills':>7}{'work resumed after, s: median':>31}{'worst':>8}"]  # fmt: skip
    for kind in Kind:
        injections = [injection for injection in injector.injections if injection.fault.kind is kind]
        if injections:
            waits = [injection.resumed_s for injection in injections if injection.resumed_s is not None]
            figures = f"{statistics.median(waits):31.1f}{max(waits):8.1f}" if waits else f"{'-':>31}{'-':>8}"
            lines.append(
                f"{kind:<32}{len(injections):>6}{sum(injection.kills for injection in injections):>7}{figures}"
            )
    lines.append(f"{'all':<32}{len(injector.injections):>6}{evidence.kills:>7}")
    if injector.run.site.no_disk_reason is not None:
        lines.append(f"the disk was never filled: {injector.run.site.no_disk_reason}")
    return "\n".join([*lines, "", render(verdicts)])


def run(seconds: float, seed: int, kinds: Collection[Kind], *, keep: bool) -> int:
    """Run the test; return the exit code."""
    trials = max(10, round(seconds * TRIALS_PER_S / PARTS))
    with Site(seed, trials, keep=keep) as site:
        evidence = Evidence(wanted=dict.fromkeys(range(1, PARTS + 1), trials))
        injector = Injector(Run(site, evidence), time.monotonic() + seconds)
        injector.run.start(str(site.plan))
        injector.run.wait("a first result", lambda: injector.run.count("trial.reported") > 0, RESUMED_WITHIN_S)
        injector.until_s = time.monotonic() + seconds
        for fault in schedule(seed, kinds):
            if time.monotonic() > injector.until_s or injector.run.over() or injector.run.hopeless():
                break
            injector.inject(fault)
        let_go_on(injector)
        gather(injector)
        verdicts = judge(evidence)
        print(report(injector, verdicts, seconds, seed), flush=True)
        broken = any(verdict.faults for verdict in verdicts)
        site.keep = keep or broken
    return 1 if broken else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long faults come")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--only", action="append", default=[], metavar="TEXT", help="only faults with this in their name"
    )
    parser.add_argument("--keep", action="store_true", help="always keep the home")
    arguments = parser.parse_args()
    kinds = [kind for kind in Kind if not arguments.only or any(text in kind for text in arguments.only)]
    if not kinds:
        parser.error(f"--only {' '.join(arguments.only)}: there are {', '.join(Kind)}")
    # So that SIGTERM cleans up, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    return run(arguments.seconds, arguments.seed, kinds, keep=arguments.keep)


if __name__ == "__main__":
    sys.exit(main())
