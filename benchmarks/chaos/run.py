"""Watch the run of the chaos test: its log, its commands, its troubles."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.chaos.site import Site
from benchmarks.chaos.verdict import Evidence

MAX_TROUBLES = 8
"""The test is given up after so many: the fault is known by then."""
LOOK_S = 0.1
WANTED_ENDS = ("the run has ended", "stopped by", "SIGTERM")
"""Allowed beginnings of a daemon's reason for its end."""


@dataclass
class Run:
    """The run under test, which must work in spite of the faults."""

    site: Site
    evidence: Evidence

    def read_log(self) -> list[dict[str, Any]]:
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
        """Wait until `test` holds; start a missing daemon meanwhile, like a service manager."""
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            self.read_log()
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
        self.read_log()
        if done.returncode != 0 and not may_fail and not self.over():
            self.trouble(f"supervisord start {' '.join(plan)}: {done.returncode}: {done.stderr.strip()[-300:]!r}")
            time.sleep(1.0)

    def operate(self, *arguments: str, may_fail: bool = False) -> bool:
        done = self.site.command("supervisorctl", *arguments)
        self.read_log()
        if done.returncode != 0 and not may_fail and not self.over():
            self.trouble(f"supervisorctl {' '.join(arguments)}: {done.returncode}: {done.stderr.strip()[-300:]!r}")
        return done.returncode == 0

    def count(self, name: str) -> int:
        return sum(event["event"] == name for event in self.site.log.events)
