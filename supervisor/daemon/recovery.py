"""Recovers the state that the last daemon left: the audit log, orphans, and a run that nothing works on."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from supervisor import __version__
from supervisor.audit.log import AuditLog, head_key
from supervisor.audit.rebuild import UNREPORTED, Rebuilt
from supervisor.clock import Clock, boot_id
from supervisor.daemon.upkeep.crash_loop import Verdict, judge_start
from supervisor.home import Home
from supervisor.processes import orphans
from supervisor.store.event import Event
from supervisor.store.run_writer import RunWriter

log = logging.getLogger("supervisor")

MANY = 100
"""So many events of one transaction, such as thousands of discarded trials, are synced together."""


class AuditFeed:
    """Writes a run's events to its audit log. Notes the log's head in the store."""

    def __init__(self, audit: AuditLog, writer: RunWriter, plan: str) -> None:
        self.audit, self._writer, self._plan = audit, writer, plan

    def write(self, events: Sequence[Event]) -> None:
        """Write the committed events of the run, each with a sync of the disk; with one sync for many of them."""
        own = [event for event in events if event.run == self._writer.run_id]
        for together in [own] if len(own) >= MANY else [[event] for event in own]:
            failure = self.audit.append_all_committed(together, self._writer.store, self._plan)
            if failure is not None:
                log.error("%s", failure)
            self._note_head()

    def mend(self) -> None:
        """Write the events that were committed and not written, or were written and lost."""
        lines = self.audit.catch_up(self._writer.store, self._plan)
        self._note_head()
        if self.audit.lost_from is not None:
            self._writer.record("audit.restored", lines=lines, after=self.audit.lost_from)

    def _note_head(self) -> None:
        self._writer.store.note(head_key(self.audit.path), self.audit.head.to_json())


@dataclass(frozen=True)
class Recovery:
    """Knows what was found at this start."""

    home: Home
    writer: RunWriter
    clock: Clock
    feed: AuditFeed
    rebuilt: Rebuilt | None
    """The store was rebuilt from the audit logs."""
    replaced_log: Path | None
    """An audit log of another store was moved to this path."""
    by_service: bool

    async def run(self) -> Verdict | None:
        """Mend the log, end orphans, and make the run ready to start; for a service, judge this start.

        Raises CrashLoop.
        """
        writer = self.writer
        self.feed.mend()
        self._record_findings()
        ended = await asyncio.to_thread(orphans.end, self.home.key)
        if ended:
            writer.record("orphans.ended", processes=ended)
        verdict = judge_start(writer, self.clock) if self.by_service else None
        writer.recover()
        writer.record(
            "daemon.started", pid=os.getpid(), version=__version__, socket=str(self.home.socket), boot_id=boot_id(),
            by="service" if self.by_service else "command",
        )  # fmt: skip
        if os.geteuid() == 0:
            log.warning("running as root: a trial may do anything to this machine")
            writer.record("daemon.privileged", uid=0)
        return verdict

    def _record_findings(self) -> None:
        if self.rebuilt is not None:
            with self.writer.store.change(self.writer.run_id) as change:
                change.forget(UNREPORTED)
                change.record("store.rebuilt", **self.rebuilt.to_json())
        if self.replaced_log is not None:
            self.writer.record("audit.replaced", path=str(self.replaced_log))
        if self.feed.audit.torn_bytes:
            self.writer.record("audit.repaired", bytes=self.feed.audit.torn_bytes)
