"""The blows of the chaos test: how each fault is struck, and how it is seen that work goes on."""

from __future__ import annotations

import contextlib
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psutil

from benchmarks.chaos_field import Field
from benchmarks.chaos_schedule import Fault, Kind
from benchmarks.chaos_verdict import Evidence

GOES_ON_WITHIN_S = 90.0
"""A hung driver is found after 60 s; whatever else happens, work goes on sooner."""
PAUSED_WITHIN_S = ENDED_WITHIN_S = 60.0
FULL_WITHIN_S = 30.0
MAX_TROUBLES = 8
"""After so many it is given up: what is broken is known by then."""
LOOK_S = 0.1
WANTED_ENDS = ("the run has ended", "stopped by", "SIGTERM")
"""How a daemon's reason for its end may begin."""

ROLES: dict[Kind, tuple[str, ...]] = {
    Kind.WORKER: ("worker",),
    Kind.WORKERS: ("worker", "worker"),
    Kind.DRIVER: ("driver",),
    Kind.DAEMON: ("daemon",),
    Kind.RAYLET: ("raylet",),
    Kind.GCS: ("gcs",),
    Kind.KEEPER: ("guardian",),
    Kind.WATCHDOG: ("watchdog",),
    Kind.DASHBOARD: ("dashboard",),
    Kind.AGENT: ("agent",),
    Kind.STORM: ("worker", "worker", "driver", "raylet"),
    Kind.STOP_WORKER: ("worker",),
    Kind.STOP_DRIVER: ("driver",),
    Kind.STOP_DAEMON: ("daemon",),
}
STOPS = frozenset({Kind.STOP_WORKER, Kind.STOP_DRIVER, Kind.STOP_DAEMON})
_BEGINS_ANEW = ROLES.keys() - STOPS - {Kind.WATCHDOG}
"""After such kills an attempt must begin: results of those that were not hit say nothing."""


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
    _known: int = 0
    """How many events there were before the blow that was struck last."""

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
        before, self._known = self.evidence.kills, len(self.site.log.events)
        struck_s = time.time()
        print(f"{self.until_s - time.monotonic():6.0f} s left: {fault.kind}{' (hasty)' * fault.hasty}", flush=True)
        with contextlib.suppress(psutil.NoSuchProcess):
            # Whatever was to be hit has ended by itself this moment.
            struck_s = self._hit(fault)
        kills = self.evidence.kills - before
        anew = fault.kind is Kind.TERM_DAEMON or (fault.kind in _BEGINS_ANEW and kills > 0)
        goes_on_s = None if fault.hasty else self._until_work_goes_on(fault.kind, struck_s, anew=anew)
        self.blows.append(Blow(fault, kills, goes_on_s))
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
            Kind.TERM_DAEMON: self._terminate,
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

    def _until_work_goes_on(self, kind: Kind, struck_s: float, *, anew: bool) -> float | None:
        """Seconds from the blow; None where the run ended first, or work did not go on."""
        went_on: list[float] = []

        def goes_on() -> bool:
            events = self.site.log.events[self._known :]
            went_on[:] = first_result(events, struck_s, anew=anew, watched=kind is Kind.WATCHDOG)
            return bool(went_on)

        if self.wait(f"work goes on after: {kind}", goes_on, GOES_ON_WITHIN_S):
            return went_on[0] - struck_s
        return None

    def _terminate(self, fault: Fault) -> float:
        """As a service manager restarts it. What it has to say of its end is in the log before the next one begins."""
        struck_s = time.time()
        for daemon in self.site.daemons():
            daemon.terminate()
            try:
                daemon.wait(ENDED_WITHIN_S)
            except psutil.TimeoutExpired:
                self.trouble(f"the daemon did not end within {ENDED_WITHIN_S:.0f} s of SIGTERM")
        if not self.over():
            self.start()
        return struck_s

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
