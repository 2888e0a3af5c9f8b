"""Runs the daemon's background tasks: bounds its children's logs, watches the audit log, the disk and the clocks."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.audit.log import CATCH_UP_EVENTS, AuditLog
from supervisor.clock import Clock
from supervisor.daemon.upkeep.checkpoint_retention import CheckpointRetention
from supervisor.daemon.upkeep.disk_reserve import DiskReserve
from supervisor.errors import DiskFailed, DiskFull, SweepError
from supervisor.home import Home
from supervisor.store.run_writer import RunWriter

log = logging.getLogger("supervisor")

HOUSEKEEPING_PERIOD_S = 60.0
LOOK_PERIOD_S = 1.0
RETRY_AFTER_S = 60.0
"""A task that failed starts again after this time."""
MAX_LOG_BYTES = 20_000_000

CLOCK_PERIOD_S = 2.0
SLEPT_S = 5.0
STOOD_STILL_S = 10.0
"""A busy machine is late by a second or three."""
SET_S = 5.0
"""NTP slews by 0.5 ms a second at most (adjtime(3)); a larger difference means that the clock was set."""

Task = Callable[[], Coroutine[Any, Any, None]]


async def keep_running(task: Task, clock: Clock, disk_failed: Callable[[DiskFailed], None]) -> None:
    """Run `task` until it returns; start it again after an error, since no person watches it for weeks.

    A failed disk ends it: `disk_failed` is called.
    """
    while True:
        try:
            return await task()
        except DiskFailed as error:
            return disk_failed(error)
        except Exception:
            # An error of any kind in a background task must not end the trials.
            log.exception("a background task failed; it starts again in %s s", RETRY_AFTER_S)
        await clock.sleep(RETRY_AFTER_S)


async def keep_looking(look: Callable[[], None], clock: Clock, period_s: float, unrecorded: str) -> None:
    """Call `look` every `period_s` seconds, for ever; log `unrecorded` while the disk is full. Raises DiskFailed."""
    while True:
        await clock.sleep(period_s)
        try:
            look()
        except DiskFull as error:
            log.warning("%s: %s", unrecorded, error)


async def keep_house(home: Home, run_id: str, clock: Clock, checkpoints: CheckpointRetention) -> None:
    """Bound the children's logs and remove old checkpoints, forever. Raises DiskFailed."""
    while True:
        await clock.sleep(HOUSEKEEPING_PERIOD_S)
        run_folder = home.run_folder(run_id)
        for path in (home.logs / "daemon.log", run_folder / "ray.log", *run_folder.glob("*/driver.log")):
            try:
                keep_bounded(path)
            except OSError as error:
                log.warning("%s cannot be cut: %s", path, error)
        await checkpoints.tidy()


def keep_bounded(path: Path, max_bytes: int = MAX_LOG_BYTES) -> bool:
    """Cut a log that a child writes: its last half moves to PATH.1. Return whether it was too large.

    The child keeps its open file, which must be open for appending (else a hole would remain). Lines written between
    the copy and the cut are lost, so this is for diagnostics only. Raises OSError.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return False
    if size <= max_bytes:
        return False
    with path.open("rb") as source:
        source.seek(size - max_bytes // 2)
        path.with_name(f"{path.name}.1").write_bytes(source.read())
    os.truncate(path, 0)
    return True


async def watch_log(audit: AuditLog, plan: str, writer: RunWriter, clock: Clock) -> None:
    """Write the lines that an audit log lacks, forever; record when it lags, has caught up, or was taken away.

    Raises DiskFailed.
    """
    lagging, refused = False, False
    while True:
        await clock.sleep(LOOK_PERIOD_S)
        try:
            if audit.taken and not refused:
                refused = not _opened_again(audit, writer)
                lagging = lagging or audit.lag is not None
            if audit.lag is not None and not lagging:
                writer.record("audit.lagged", error=audit.lag)
                lagging = True
            if lagging:
                audit.catch_up(writer.store, plan, CATCH_UP_EVENTS)
                if audit.lag is None:
                    writer.record("audit.recovered")
                    lagging = False
        except (DiskFull, OSError) as error:
            log.warning("the audit log lags behind the store: %s", error)


def _opened_again(audit: AuditLog, writer: RunWriter) -> bool:
    """Go on with the log in the file of its name; return False where that is no file that we may write."""
    try:
        gone = audit.open_again()
    except SweepError as error:
        # The old file gets the lines, whatever its name; the next start refuses by name.
        log.error("%s", error.message)  # noqa: TRY400 - the trace says nothing more
        return False
    if gone:
        writer.record("audit.taken", path=str(audit.path), after=audit.head.seq)
    return True


async def watch_disk(
    reserve: DiskReserve, writer: RunWriter, clock: Clock, hold: Callable[[str | None], Awaitable[None]], folder: str
) -> None:
    """Pause the work by `hold` while the disk is full, forever. Its filling and freeing are events.

    Raises DiskFailed.
    """
    recorded = False
    while True:
        try:
            reserve.look()
            if reserve.full != recorded:
                name = "disk.freed" if recorded else "disk.filled"
                writer.record(name, folder=folder, free_bytes=reserve.free())
                recorded = not recorded
                await hold("the disk is full" if recorded else None)
        except (DiskFull, OSError) as error:
            log.warning("the full disk cannot be recorded yet: %s", error)
        await clock.sleep(LOOK_PERIOD_S)


async def watch_time(writer: RunWriter, clock: Clock) -> None:
    """Record the time in which nothing could run, forever. Raises DiskFailed."""
    before = Look.at(clock)
    while True:
        await clock.sleep(CLOCK_PERIOD_S)
        now = Look.at(clock)
        try:
            for event, fields in between(before, now, CLOCK_PERIOD_S):
                writer.record(event, **fields)
        except DiskFull as error:
            log.warning("time in which nothing could run cannot be recorded: %s", error)
        before = now


@dataclass(frozen=True)
class Look:
    """The clocks at one moment, in seconds: wall, monotonic, and one that goes on while the machine sleeps."""

    wall_s: float
    mono_s: float
    boot_s: float | None

    @classmethod
    def at(cls, clock: Clock) -> Look:
        """Look at the clocks now."""
        return cls(clock.wall_s(), clock.mono_s(), clock.boot_s())


def between(before: Look, now: Look, planned_s: float) -> list[tuple[str, dict[str, Any]]]:
    """Return the events (name, fields) between two looks that were planned `planned_s` apart.

    The machine slept, this process stood still, or the wall clock was set.
    """
    ran_s = now.mono_s - before.mono_s
    passed_s = ran_s if before.boot_s is None or now.boot_s is None else now.boot_s - before.boot_s
    slept_s, late_s, set_s = passed_s - ran_s, ran_s - planned_s, now.wall_s - before.wall_s - passed_s
    found = [
        ("machine.slept", slept_s, slept_s > SLEPT_S),
        ("daemon.stood_still", late_s, late_s > STOOD_STILL_S),
        ("clock.set", set_s, abs(set_s) > SET_S),
    ]
    return [(name, {"seconds": round(seconds, 3)}) for name, seconds, large in found if large]
