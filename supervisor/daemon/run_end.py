"""Ends a run: its last state, its checkpoints, its report, the daemon's exit code.

What concerns all its results is read in a thread: the daemon answers meanwhile.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any, TypeVar

from supervisor.clock import Clock
from supervisor.daemon.upkeep.checkpoint_retention import CheckpointRetention
from supervisor.domain import answer
from supervisor.domain.lifecycle import ENDED, ProcessState
from supervisor.errors import StoreError, SweepError
from supervisor.page.reader import StoreReader
from supervisor.report.process import ReportAhead
from supervisor.store import lookups, queries
from supervisor.store.run_writer import RunWriter
from supervisor.store.status_cache import StatusView

log = logging.getLogger("supervisor")

T = TypeVar("T")


async def end_run(writer: RunWriter, clock: Clock, checkpoints: CheckpointRetention, ahead: ReportAhead) -> None:
    """Move the run to EXITED and write its report; to STOPPED if an experiment has not ended. Raises DiskFailed."""
    if not _have_ended(writer):
        writer.move_run(ProcessState.STOPPING)
        writer.move_run(ProcessState.STOPPED)
        return
    await checkpoints.tidy_up()
    views = await _experiments(writer)
    created = lookups.run(writer.store, writer.run_id)["created_wall"]
    writer.record("run.finished", **answer.counts(views), seconds=max(0.0, round(clock.wall_s() - created, 1)))
    await report(writer, ahead)


async def report(writer: RunWriter, ahead: ReportAhead) -> None:
    """Write the report of a run that has ended; a failure is recorded, and leaves the run as it is."""
    try:
        snapshot = await read_beside(writer, lambda connection: queries.run_snapshot(connection, writer.run_id))
        path = await ahead.write(snapshot)
    except (SweepError, OSError) as error:
        # OSError: a full folder for temporary files, for example.
        writer.record("report.failed", error=str(error))
    else:
        writer.record("report.written", path=str(path))


async def exit_code(writer: RunWriter) -> int:
    """Return the daemon's exit code: that of the run, or 0 if the run was stopped. Raises DiskFailed."""
    return answer.exit_code(await _experiments(writer)) if _have_ended(writer) else 0


def _have_ended(writer: RunWriter) -> bool:
    return all(row["state"] in ENDED for row in lookups.experiments(writer.store, writer.run_id))


async def _experiments(writer: RunWriter) -> list[dict[str, Any]]:
    return await read_beside(writer, lambda connection: StatusView(connection, writer.run_id).now()["experiments"])


async def read_beside(writer: RunWriter, query: Callable[[sqlite3.Connection], T]) -> T:
    """Return the answer of `query`, of the daemon's own connection where no other one answers. Raises DiskFailed."""
    try:
        with closing(StoreReader(writer.store.path, writer.run_id)) as reader:
            return await reader.read(query)
    except StoreError as error:
        # The end of a run needs its answer, and better late than never.
        log.warning("%s; the daemon reads it itself", error.message)
        with writer.store.reading():
            return query(writer.store.connection)
