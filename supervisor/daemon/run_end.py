"""Ends a run: its last state, its checkpoints, its report, the daemon's exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from supervisor.clock import Clock
from supervisor.daemon.upkeep.checkpoint_retention import CheckpointRetention
from supervisor.domain import answer
from supervisor.domain.lifecycle import ENDED, ProcessState
from supervisor.errors import SweepError
from supervisor.report.process import write_report
from supervisor.store import lookups, queries
from supervisor.store.run_writer import RunWriter
from supervisor.store.status_cache import StatusView


async def end_run(writer: RunWriter, clock: Clock, checkpoints: CheckpointRetention, run_folder: Path) -> None:
    """Move the run to EXITED and write its report; to STOPPED if an experiment has not ended. Raises DiskFailed."""
    views = _experiments(writer)
    if not all(view["state"] in ENDED for view in views):
        writer.move_run(ProcessState.STOPPING)
        writer.move_run(ProcessState.STOPPED)
        return
    await checkpoints.tidy_up()
    created = lookups.run(writer.store, writer.run_id)["created_wall"]
    writer.record("run.finished", **answer.counts(views), seconds=max(0.0, round(clock.wall_s() - created, 1)))
    await report(writer, run_folder)


async def report(writer: RunWriter, run_folder: Path) -> None:
    """Write the report of a run that has ended; a failure is recorded, and leaves the run as it is."""
    try:
        path = await write_report(queries.run_snapshot(writer.store.connection, writer.run_id), run_folder)
    except (SweepError, OSError) as error:
        # OSError: a full folder for temporary files, for example.
        writer.record("report.failed", error=str(error))
    else:
        writer.record("report.written", path=str(path))


def exit_code(writer: RunWriter) -> int:
    """Return the daemon's exit code: that of the run, or 0 if the run was stopped."""
    views = _experiments(writer)
    return answer.exit_code(views) if all(view["state"] in ENDED for view in views) else 0


def _experiments(writer: RunWriter) -> list[dict[str, Any]]:
    with writer.store.reading():
        return StatusView(writer.store.connection, writer.run_id).now()["experiments"]  # type: ignore[no-any-return]
