"""A real search under a seeded storm of faults, and what is left of the promises at its end.

    python -m benchmarks.chaos [--seconds 600] [--seed 1] [--only TEXT] [--keep]    (make chaos SECONDS=600 SEED=1)

Real commands, real Ray, a home on a small disk of its own. For SECONDS faults come, one after the other and some on
top of each other: kill -9 of daemon, driver, workers and Ray's own processes, SIGSTOP, a full disk, and an operator who
pauses, resumes and stops. The seed says which comes when (chaos_schedule). A daemon that was killed is started again,
as a service manager would. Then the run is let go on to its end, and judged (chaos_verdict, and `supervisorctl audit`).
Exit code 1 when a promise was broken: then the home is kept. Bound: SECONDS and GRACE_S.
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

from benchmarks.chaos_field import PARTS, PLAN_NAME, Field
from benchmarks.chaos_play import GOES_ON_WITHIN_S, LOOK_S, Play
from benchmarks.chaos_schedule import Kind, schedule
from benchmarks.chaos_verdict import Evidence, Trial, Verdict, judge, parse_diary, render
from benchmarks.overhead import machine

GRACE_S = 300.0
TRIALS_PER_S = 1.5
"""More than are done in that time; what is left is hurried through at the end."""


def let_go_on(play: Play) -> None:
    """No more faults: the run hurries to its end, and its daemon with it."""
    (play.site.folder / "hurry").touch()
    end_s = play.until_s + GRACE_S
    play.wait("the run's end", lambda: play.over(), end_s - time.monotonic())
    deadline = time.monotonic() + 60.0
    while play.site.daemons() and time.monotonic() < deadline:
        time.sleep(LOOK_S)
    if play.site.daemons():
        play.trouble("the daemon did not end with its run")
    play.look()


def gather(play: Play) -> None:
    """What is left when everything has ended."""
    evidence, site = play.evidence, play.site
    evidence.left = site.left(10.0)
    evidence.seen = site.log.events
    evidence.told = [json.loads(line) for line in _lines(site.home.audit_log(PLAN_NAME))]
    evidence.diary = parse_diary(_lines(site.folder / "diary"))
    evidence.checkpoints = site.checkpoints()
    if site.home.store.exists():
        with closing(sqlite3.connect(site.home.store)) as store:
            evidence.trials = list(_trials(store))
    audit = site.command("supervisorctl", "audit")
    evidence.audit = None if audit.returncode == 0 else (audit.stdout + audit.stderr)[-3000:]


def _lines(path: Path) -> list[str]:
    """With their ends; none where there is no file: then nothing ever worked."""
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


def report(play: Play, verdicts: list[Verdict], seconds: float, seed: int) -> str:
    evidence = play.evidence
    lines = [f"{machine()}; seed {seed}, faults for {seconds:.0f} s", "",
             f"{'fault':<32}{'count':>6}{'kills':>7}{'work went on after, s: median':>31}{'worst':>8}"]  # fmt: skip
    for kind in Kind:
        blows = [blow for blow in play.blows if blow.fault.kind is kind]
        if blows:
            waits = [blow.goes_on_s for blow in blows if blow.goes_on_s is not None]
            figures = f"{statistics.median(waits):31.1f}{max(waits):8.1f}" if waits else f"{'-':>31}{'-':>8}"
            lines.append(f"{kind:<32}{len(blows):>6}{sum(blow.kills for blow in blows):>7}{figures}")
    lines.append(f"{'in all':<32}{len(play.blows):>6}{evidence.kills:>7}")
    if play.site.why_no_disk is not None:
        lines.append(f"the disk was never filled: {play.site.why_no_disk}")
    return "\n".join([*lines, "", render(verdicts)])


def run(seconds: float, seed: int, kinds: Collection[Kind], *, keep: bool) -> int:
    """The exit code."""
    trials = max(10, round(seconds * TRIALS_PER_S / PARTS))
    with Field(seed, trials, keep=keep) as site:
        evidence = Evidence(wanted=dict.fromkeys(range(1, PARTS + 1), trials))
        play = Play(site, evidence, time.monotonic() + seconds)
        play.start(str(site.plan))
        play.wait("a first result", lambda: play.count("trial.reported") > 0, GOES_ON_WITHIN_S)
        play.until_s = time.monotonic() + seconds
        for fault in schedule(seed, kinds):
            if time.monotonic() > play.until_s or play.over() or play.hopeless():
                break
            play.strike(fault)
        let_go_on(play)
        gather(play)
        verdicts = judge(evidence)
        print(report(play, verdicts, seconds, seed), flush=True)
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
    parser.add_argument("--keep", action="store_true", help="keep the home, whatever comes out")
    arguments = parser.parse_args()
    kinds = [kind for kind in Kind if not arguments.only or any(text in kind for text in arguments.only)]
    if not kinds:
        parser.error(f"--only {' '.join(arguments.only)}: there are {', '.join(Kind)}")
    # So that a TERM, too, takes everything away again.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    return run(arguments.seconds, arguments.seed, kinds, keep=arguments.keep)


if __name__ == "__main__":
    sys.exit(main())
