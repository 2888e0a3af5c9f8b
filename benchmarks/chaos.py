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
import contextlib
import json
import signal
import sqlite3
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from benchmarks.chaos_field import PARTS, PLAN_NAME, Field
from benchmarks.chaos_schedule import Fault, Kind, schedule
from benchmarks.chaos_verdict import Evidence, Trial, Verdict, judge, parse_diary, render
from benchmarks.overhead import machine

GRACE_S = 300.0
GOES_ON_WITHIN_S = 90.0
"""A hung driver is found after 60 s; whatever else happens, work goes on sooner."""
PAUSED_WITHIN_S = 60.0
FULL_WITHIN_S = 30.0
TRIALS_PER_S = 1.5
"""More than are done in that time; what is left is hurried through at the end."""
MAX_TROUBLES = 8
"""After so many it is given up: what is broken is known by then."""
LOOK_S = 0.1
WANTED_ENDS = ("the run has ended", "stopped by")
"""How a daemon's reason for its end may begin."""

ROLES: dict[Kind, tuple[str, ...]] = {
    Kind.WORKER: ("worker",),
    Kind.WORKERS: ("worker", "worker"),
    Kind.DRIVER: ("driver",),
    Kind.DAEMON: ("daemon",),
    Kind.RAYLET: ("raylet",),
    Kind.GCS: ("gcs",),
    Kind.KEEPER: ("keeper",),
    Kind.WATCHDOG: ("watchdog",),
    Kind.DASHBOARD: ("dashboard",),
    Kind.AGENT: ("agent",),
    Kind.STORM: ("worker", "driver", "raylet"),
    Kind.STOP_WORKER: ("worker",),
    Kind.STOP_DRIVER: ("driver",),
    Kind.STOP_DAEMON: ("daemon",),
}
STOPS = frozenset({Kind.STOP_WORKER, Kind.STOP_DRIVER, Kind.STOP_DAEMON})
_BEGINS_ANEW = frozenset({Kind.WORKER, Kind.WORKERS, Kind.DRIVER, Kind.DAEMON, Kind.GCS, Kind.KEEPER, Kind.STORM})
"""After these an attempt must begin: results of those that were not hit say nothing."""


@dataclass(frozen=True)
class Blow:
    """A fault that was struck. `goes_on_s`: from the blow to the first result of work that it had ended; None: never,
    or nobody waited for it.
    """

    fault: Fault
    kills: int
    goes_on_s: float | None


@dataclass
class Play:
    """The faults of one run, as they are struck."""

    site: Field
    evidence: Evidence
    until_s: float
    blows: list[Blow] = field(default_factory=list)

    # What the log says

    def look(self) -> list[dict[str, Any]]:
        fresh = self.site.log.read()
        for event in fresh:
            if event["event"] == "daemon.stopped" and not event["reason"].startswith(WANTED_ENDS):
                self.trouble(f"the daemon ended by itself: {event['reason']}")
        return fresh

    def hopeless(self) -> bool:
        return len(self.evidence.troubles) >= MAX_TROUBLES

    def trouble(self, what: str) -> None:
        print(f"  TROUBLE: {what}", flush=True)
        self.evidence.troubles.append(what)

    def over(self) -> bool:
        return any(event["event"] in ("run.finished", "run.failed") for event in self.site.log.events)

    def wait(self, what: str, test: Callable[[], bool], within_s: float) -> bool:
        """Looks until `test` holds; a daemon that is not there is started, as a service manager would."""
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            self.look()
            if test():
                return True
            if self.over() or self.hopeless():
                return False
            if not self.site.daemons():
                self.start()
            time.sleep(LOOK_S)
        self.trouble(f"not within {within_s:.0f} s: {what}")
        return False

    def start(self, *plan: str, may_fail: bool = False) -> None:
        done = self.site.command("supervisord", "start", *plan)
        self.look()
        if done.returncode != 0 and not may_fail and not self.over():
            self.trouble(f"supervisord start {' '.join(plan)}: {done.returncode}: {done.stderr.strip()[-300:]!r}")
            time.sleep(1.0)

    def operate(self, *arguments: str, may_fail: bool = False) -> bool:
        done = self.site.command("supervisorctl", *arguments)
        self.look()
        if done.returncode != 0 and not may_fail and not self.over():
            self.trouble(f"supervisorctl {' '.join(arguments)}: {done.returncode}: {done.stderr.strip()[-300:]!r}")
        return done.returncode == 0

    # Blows

    def strike(self, fault: Fault) -> None:
        """One fault, and then, unless it is a hasty one, the wait for work to go on."""
        time.sleep(fault.after_s)
        self.look()
        before = self.evidence.kills
        struck_s = time.time()
        print(f"{self.until_s - time.monotonic():6.0f} s left: {fault.kind}{' (hasty)' * fault.hasty}", flush=True)
        with contextlib.suppress(psutil.NoSuchProcess):
            # Whatever was to be hit has ended by itself this moment.
            struck_s = self._hit(fault)
        goes_on_s = None if fault.hasty else self._until_work_goes_on(fault, struck_s)
        self.blows.append(Blow(fault, self.evidence.kills - before, goes_on_s))
        self._count_descriptors()
        self.site.agents()

    def _hit(self, fault: Fault) -> float:
        """The wall time from which on work may go on."""
        others: dict[Kind, Callable[[Fault], float]] = {
            Kind.DISK: self._fill_disk,
            Kind.PAUSE: self._pause,
            Kind.HOLD: self._hold,
            Kind.PAUSE_TRIAL: self._pause_a_trial,
            Kind.STOP_START: self._stop_and_start,
        }
        if fault.kind in others:
            return others[fault.kind](fault)
        return self._stand_still(fault) if fault.kind in STOPS else self._kill(fault.kind, fault.aim)

    def _targets(self, kind: Kind, aim: float) -> list[psutil.Process]:
        """The processes to hit: as many of each role as it is named, the first of them by `aim`."""
        chosen = []
        for role, count in Counter(ROLES[kind]).items():
            found = self.site.workers() if role == "worker" else self.site.processes(role)
            first = int(aim * len(found))
            chosen += (found[first:] + found[:first])[:count]
        return chosen

    def _kill(self, kind: Kind, aim: float) -> float:
        struck_s = time.time()
        for process in self._targets(kind, aim):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                self.evidence.kills += 1
        return struck_s

    def _stand_still(self, fault: Fault) -> float:
        for process in self._targets(fault.kind, fault.aim)[:1]:
            process.suspend()
            try:
                time.sleep(fault.lasts_s)
            finally:
                process.send_signal(signal.SIGCONT)
        return time.time()

    def _fill_disk(self, fault: Fault) -> float:
        if self.site.why_no_disk is not None:
            return time.time()
        told = self.count("disk.filled")
        self.site.fill()
        try:
            self.wait("the full disk is told", lambda: self.count("disk.filled") > told, FULL_WITHIN_S)
            if fault.during is not None:
                self._kill(fault.during, fault.aim)
            time.sleep(fault.lasts_s)
            if not self.site.daemons():
                # It may refuse, for want of space; once there is some it may not.
                self.start(may_fail=True)
        finally:
            self.site.free()
        return time.time()

    def count(self, name: str) -> int:
        return sum(event["event"] == name for event in self.site.log.events)

    def _pause(self, fault: Fault) -> float:
        if not self.operate("pause", "--now", "--reason", "chaos") or not self._rests():
            return time.time()
        began_s = time.monotonic()
        if fault.during is not None:
            self._kill(fault.during, fault.aim)
            if fault.during is Kind.DRIVER:
                time.sleep(1.0)
            self._rests()
        time.sleep(fault.lasts_s)
        self.evidence.quiet.append((began_s, time.monotonic()))
        self.operate("resume")
        return time.time()

    def _rests(self) -> bool:
        return self.wait("the pause is told by status", lambda: self._state() == "PAUSED", PAUSED_WITHIN_S)

    def _state(self) -> str | None:
        """Of the experiment at work, once its trials have come to rest where they are to."""
        view = self.site.status()
        for experiment in view["experiments"] if view else ():
            if experiment["state"] not in ("EXITED", "STOPPED"):
                at_work = [trial for trial in experiment["running"] if trial["state"] != "PAUSED"]
                return "AT WORK" if at_work else str(experiment["state"])
        return None

    def _hold(self, fault: Fault) -> float:
        self.operate("pause", "--reason", "chaos")
        time.sleep(fault.lasts_s)
        self.operate("resume")
        return time.time()

    def _pause_a_trial(self, fault: Fault) -> float:
        """One that ends before the operator's word arrives cannot be paused any more."""
        live = sorted(self.site.log.live_workers())
        if live:
            experiment, number = live[int(fault.aim * len(live))]
            if self.operate("pause", f"{experiment}/{number}", "--now", may_fail=True):
                time.sleep(fault.lasts_s)
                self.operate("resume", f"{experiment}/{number}", may_fail=True)
        return time.time()

    def _stop_and_start(self, fault: Fault) -> float:
        self.operate("stop")
        began_s = time.monotonic()
        time.sleep(fault.lasts_s)
        self.evidence.quiet.append((began_s, time.monotonic()))
        if not self.over():
            self.start(str(self.site.plan))
        return time.time()

    # What follows

    def _until_work_goes_on(self, fault: Fault, struck_s: float) -> float | None:
        anew = fault.kind in _BEGINS_ANEW
        went_on: list[float] = []

        def goes_on() -> bool:
            went_on[:] = first_result(self.site.log.events, struck_s, anew=anew, watched=fault.kind is Kind.WATCHDOG)
            return bool(went_on)

        if self.wait(f"work goes on after: {fault.kind}", goes_on, GOES_ON_WITHIN_S):
            return went_on[0] - struck_s
        return None

    def _count_descriptors(self) -> None:
        for daemon in self.site.daemons():
            with contextlib.suppress(psutil.Error):
                self.evidence.descriptors.setdefault(daemon.pid, []).append(daemon.num_fds())


def wall_s(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["ts"]).timestamp()


def first_result(events: list[dict[str, Any]], since_s: float, *, anew: bool, watched: bool) -> list[float]:
    """The wall time of the first result after a moment, or nothing. `anew`: of an attempt that began after it;
    `watched`: and after a watchdog came up.
    """
    begun: set[tuple[Any, ...]] = set()
    for event in events:
        when_s = wall_s(event)
        if when_s < since_s:
            continue
        key = (event.get("experiment"), event.get("trial"), event.get("attempt"))
        watched = watched and event["event"] != "watchdog.started"
        if event["event"] == "trial.started":
            begun.add(key)
        if event["event"] == "trial.reported" and not watched and (key in begun or not anew):
            return [when_s]
    return []


# The end


def let_go_on(play: Play) -> None:
    """No more faults: the run hurries to its end, and its daemon with it."""
    (play.site.folder / "hurry").touch()
    end_s = play.until_s + GRACE_S
    play.wait("the run's end", lambda: play.over(), end_s - time.monotonic())
    play.evidence.left = []
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
