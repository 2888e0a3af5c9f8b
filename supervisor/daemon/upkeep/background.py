"""What the daemon does now and then beside its work: it bounds its children's logs, watches the disk and the clocks."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from supervisor.audit.log import AuditLog
from supervisor.clock import Clock
from supervisor.daemon.upkeep import time_watch
from supervisor.daemon.upkeep.bounded_files import keep_bounded
from supervisor.daemon.upkeep.checkpoint_retention import CheckpointRetention
from supervisor.daemon.upkeep.disk_reserve import DiskReserve
from supervisor.daemon.upkeep.time_watch import Look
from supervisor.errors import DiskFull
from supervisor.home import Home
from supervisor.store.run_writer import RunWriter

log = logging.getLogger("supervisor")

HOUSEKEEPING_PERIOD_S = 60.0
ROOM_PERIOD_S = 1.0


async def keep_house(home: Home, run_id: str, clock: Clock, checkpoints: CheckpointRetention) -> None:
    """What children write themselves has no bound of its own. Never returns; raises DiskFailed."""
    while True:
        await clock.sleep(HOUSEKEEPING_PERIOD_S)
        run_folder = home.run_folder(run_id)
        for path in (home.logs / "daemon.log", run_folder / "ray.log", *run_folder.glob("*/driver.log")):
            try:
                keep_bounded(path)
            except OSError as error:
                log.warning("%s cannot be cut: %s", path, error)
        await checkpoints.tidy()


async def watch_log(audit: AuditLog, plan: str, ledger: RunWriter, clock: Clock) -> None:
    """A log that lags behind the store is told of, tried again, and told of when it has caught up.

    Never returns; raises DiskFailed.
    """
    told = False
    while True:
        await clock.sleep(ROOM_PERIOD_S)
        try:
            if audit.lag is not None and not told:
                ledger.record("audit.lagged", error=audit.lag)
                told = True
            if told:
                audit.catch_up(ledger.store, plan)
                ledger.record("audit.recovered")
                told = False
        except (DiskFull, OSError) as error:
            log.warning("the log lags: %s", error)


async def watch_time(ledger: RunWriter, clock: Clock) -> None:
    """What the clocks show to have passed for nobody is told. Never returns; raises DiskFailed."""
    before = Look.at(clock)
    while True:
        await clock.sleep(time_watch.PERIOD_S)
        now = Look.at(clock)
        try:
            for event, fields in time_watch.between(before, now):
                ledger.record(event, **fields)
        except DiskFull as error:
            log.warning("the time that passed for nobody cannot be told of: %s", error)
        before = now


async def watch_room(
    room: DiskReserve, ledger: RunWriter, clock: Clock, hold: Callable[[str | None], Awaitable[None]], folder: str
) -> None:
    """The pause while the disk is full, and its end, are told and kept up, by `hold`. Raises DiskFailed."""
    told = False
    while True:
        try:
            room.look()
            if room.full != told:
                name, free = "disk.filled" if not told else "disk.freed", room.free()
                ledger.record(name, folder=folder, free_bytes=free)
                told = not told
                await hold("the disk is full" if told else None)
        except (DiskFull, OSError) as error:
            log.warning("the full disk cannot be told of yet: %s", error)
        await clock.sleep(ROOM_PERIOD_S)
