"""Inject the faults of the chaos test, and measure when work resumes."""

from __future__ import annotations

import contextlib
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

from benchmarks.chaos.run import Run
from benchmarks.chaos.schedule import Fault, Kind
from benchmarks.chaos.verdict import first_result

RESUMED_WITHIN_S = 90.0
"""A hung driver is found after 60 s; after any other fault work resumes sooner."""
PAUSED_WITHIN_S = ENDED_WITHIN_S = 60.0
FULL_WITHIN_S = 30.0

ROLES: dict[Kind, tuple[str, ...]] = {
    Kind.WORKER: ("worker",),
    Kind.WORKERS: ("worker", "worker"),
    Kind.DRIVER: ("driver",),
    Kind.DAEMON: ("daemon",),
    Kind.RAYLET: ("raylet",),
    Kind.GCS: ("gcs",),
    Kind.GUARDIAN: ("guardian",),
    Kind.WATCHDOG: ("watchdog",),
    Kind.DASHBOARD: ("dashboard",),
    Kind.AGENT: ("agent",),
    Kind.STORM: ("worker", "worker", "driver", "raylet"),
    Kind.STOP_WORKER: ("worker",),
    Kind.STOP_DRIVER: ("driver",),
    Kind.STOP_DAEMON: ("daemon",),
}
STOPS = frozenset({Kind.STOP_WORKER, Kind.STOP_DRIVER, Kind.STOP_DAEMON})
_NEEDS_NEW_ATTEMPT = ROLES.keys() - STOPS - {Kind.WATCHDOG}
"""After such kills a new attempt must begin: results of attempts that were not hit prove nothing."""


@dataclass(frozen=True)
class Injection:
    """An injected fault; `resumed_s` is the time to the first result of the work that it ended.

    It is None if work did not resume, or if the test did not wait for it.
    """

    fault: Fault
    kills: int
    resumed_s: float | None


@dataclass
class Injector:
    """Injects faults into one run."""

    run: Run
    until_s: float
    injections: list[Injection] = field(default_factory=list)
    _known: int = 0
    """The number of events before the last injection."""

    def inject(self, fault: Fault) -> None:
        """Inject one fault; then wait until work resumes, unless the fault is a hasty one."""
        time.sleep(fault.after_s)
        self.run.read_log()
        before, self._known = self.run.evidence.kills, len(self.run.site.log.events)
        injected_s = time.time()
        print(f"{self.until_s - time.monotonic():6.0f} s left: {fault.kind}{' (hasty)' * fault.hasty}", flush=True)
        with contextlib.suppress(psutil.NoSuchProcess):
            # The process may end by itself in this moment.
            injected_s = self._hit(fault)
        kills = self.run.evidence.kills - before
        new_attempt = fault.kind is Kind.TERM_DAEMON or (fault.kind in _NEEDS_NEW_ATTEMPT and kills > 0)
        resumed_s = None if fault.hasty else self._until_work_resumes(fault.kind, injected_s, new_attempt=new_attempt)
        self.injections.append(Injection(fault, kills, resumed_s))
        self._count_descriptors()
        self.run.site.agents()

    def _hit(self, fault: Fault) -> float:
        """Inject the fault; return the wall time from which work can resume."""
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
        """Choose as many processes of each role as the kind names it, beginning by `aim`."""
        chosen = []
        for role, count in Counter(ROLES[kind]).items():
            found = self.run.site.workers() if role == "worker" else self.run.site.processes(role)
            first = int(aim * len(found))
            chosen += (found[first:] + found[:first])[:count]
        return chosen

    def _kill(self, kind: Kind, aim: float) -> float:
        injected_s = time.time()
        for process in self._targets(kind, aim):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                self.run.evidence.kills += 1
        return injected_s

    def _stand_still(self, fault: Fault) -> float:
        for process in self._targets(fault.kind, fault.aim)[:1]:
            process.suspend()
            try:
                time.sleep(fault.lasts_s)
            finally:
                process.send_signal(signal.SIGCONT)
        return time.time()

    def _fill_disk(self, fault: Fault) -> float:
        if self.run.site.no_disk_reason is not None:
            return time.time()
        logged = self.run.count("disk.filled")
        self.run.site.fill()
        try:
            self.run.wait("disk.filled in the log", lambda: self.run.count("disk.filled") > logged, FULL_WITHIN_S)
            if fault.during is not None:
                self._kill(fault.during, fault.aim)
            time.sleep(fault.lasts_s)
            if not self.run.site.daemons():
                # It may refuse while the disk is full.
                self.run.start(may_fail=True)
        finally:
            self.run.site.free()
        return time.time()

    def _pause(self, fault: Fault) -> float:
        if not self.run.operate("pause", "--now", "--reason", "chaos") or not self._rests():
            return time.time()
        began_s = time.monotonic()
        if fault.during is not None:
            self._kill(fault.during, fault.aim)
            if fault.during is Kind.DRIVER:
                time.sleep(1.0)
            self._rests()
        time.sleep(fault.lasts_s)
        self.run.evidence.quiet.append((began_s, time.monotonic()))
        self.run.operate("resume")
        return time.time()

    def _rests(self) -> bool:
        return self.run.wait("PAUSED in status", lambda: self._state() == "PAUSED", PAUSED_WITHIN_S)

    def _state(self) -> str | None:
        """Return the state of the running experiment, or AT WORK while one of its trials still works."""
        view = self.run.site.status()
        for experiment in view["experiments"] if view else ():
            if experiment["state"] not in ("EXITED", "STOPPED"):
                at_work = [trial for trial in experiment["running"] if trial["state"] != "PAUSED"]
                return "AT WORK" if at_work else str(experiment["state"])
        return None

    def _hold(self, fault: Fault) -> float:
        self.run.operate("pause", "--reason", "chaos")
        time.sleep(fault.lasts_s)
        self.run.operate("resume")
        return time.time()

    def _pause_a_trial(self, fault: Fault) -> float:
        """Pause one trial; it may end before the command arrives."""
        live = sorted(self.run.site.log.live_workers())
        if live:
            experiment, number = live[int(fault.aim * len(live))]
            if self.run.operate("pause", f"{experiment}/{number}", "--now", may_fail=True):
                time.sleep(fault.lasts_s)
                self.run.operate("resume", f"{experiment}/{number}", may_fail=True)
        return time.time()

    def _stop_and_start(self, fault: Fault) -> float:
        self.run.operate("stop")
        began_s = time.monotonic()
        time.sleep(fault.lasts_s)
        self.run.evidence.quiet.append((began_s, time.monotonic()))
        if not self.run.over():
            self.run.start(str(self.run.site.plan))
        return time.time()

    # After a fault

    def _until_work_resumes(self, kind: Kind, injected_s: float, *, new_attempt: bool) -> float | None:
        """Return the seconds until work resumes; None if the run ended first, or work did not resume."""
        resumed: list[float] = []

        def resumes() -> bool:
            events = self.run.site.log.events[self._known :]
            resumed[:] = first_result(events, injected_s, new_attempt=new_attempt, watched=kind is Kind.WATCHDOG)
            return bool(resumed)

        if self.run.wait(f"work resumes after: {kind}", resumes, RESUMED_WITHIN_S):
            return resumed[0] - injected_s
        return None

    def _terminate(self, fault: Fault) -> float:
        """Restart the daemon like a service manager; its last event is in the log before the next start."""
        injected_s = time.time()
        for daemon in self.run.site.daemons():
            daemon.terminate()
            try:
                daemon.wait(ENDED_WITHIN_S)
            except psutil.TimeoutExpired:
                self.run.trouble(f"the daemon did not end within {ENDED_WITHIN_S:.0f} s of SIGTERM")
        if not self.run.over():
            self.run.start()
        return injected_s

    def _count_descriptors(self) -> None:
        for daemon in self.run.site.daemons():
            with contextlib.suppress(psutil.Error):
                self.run.evidence.descriptors.setdefault(daemon.pid, []).append(daemon.num_fds())
