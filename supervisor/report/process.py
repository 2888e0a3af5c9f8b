"""Writes a report in a process of its own, because its figures need libraries too heavy for the daemon.

Standard library only.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from supervisor.errors import ReportFailed, WorkerFailed
from supervisor.processes.environment import passed_environment
from supervisor.processes.json_worker import JsonWorker, WaitingWorker, python_module

log = logging.getLogger("supervisor")

DEADLINE_S = 180.0
AHEAD = "--ahead"


async def write_report(view: dict[str, Any], folder: Path, deadline_s: float = DEADLINE_S) -> Path:
    """Write the report of the snapshot `view` into `folder`; return the path of its report.html.

    Raises ReportFailed if the process cannot start, fails, or takes longer than `deadline_s`.
    """
    with _font_cache() as cache:
        try:
            await _worker((str(folder),), {"MPLCONFIGDIR": cache}, deadline_s).run(view)
        except WorkerFailed as error:
            raise ReportFailed(f"the report's process {error.message}") from error
    return folder / "report.html"


class ReportAhead:
    """A report's process that is started before the run's end: it imports, and draws what has ended.

    One that fails costs only its head start: another process then writes the report.
    """

    def __init__(self, folder: Path, deadline_s: float = DEADLINE_S) -> None:
        self._folder, self._deadline_s = folder, deadline_s
        self._cache: tempfile.TemporaryDirectory[str] | None = None
        self._waiting: WaitingWorker | None = None

    @property
    def waits(self) -> bool:
        """Return whether a process is there."""
        return self._waiting is not None

    async def start(self, view: dict[str, Any]) -> None:
        """Start the process, and let it draw the experiments of the snapshot `view` that have ended."""
        await self.end()
        try:
            self._cache = _font_cache()
            own = {"MPLCONFIGDIR": self._cache.name}
            self._waiting = await _worker((str(self._folder), AHEAD), own, self._deadline_s).start()
        except (WorkerFailed, OSError) as error:
            log.warning("the report's process cannot be started before the run's end: %s", error)
            return
        await self._waiting.send_ahead(view)

    async def write(self, view: dict[str, Any]) -> Path:
        """Write the report of the snapshot `view`, as `write_report` does. Raises ReportFailed."""
        if self._waiting is not None and self._waiting.lives:
            try:
                await self._waiting.run(view)
                return self._folder / "report.html"
            except WorkerFailed as error:
                log.warning("the report's process %s; another one writes the report", error.message)
            finally:
                await self.end()
        return await write_report(view, self._folder, self._deadline_s)

    async def end(self) -> None:
        """End the process, if there is one."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            await waiting.end()
        cache, self._cache = self._cache, None
        if cache is not None:
            cache.cleanup()


def _font_cache() -> tempfile.TemporaryDirectory[str]:
    """Return a folder for matplotlib's font cache: the HOME of a service may be read-only."""
    return tempfile.TemporaryDirectory(prefix="sweep-report-", ignore_cleanup_errors=True)


def _worker(arguments: Sequence[str], own: Mapping[str, str], deadline_s: float) -> JsonWorker:
    """Describe the process with those `arguments` and its `own` variables."""
    # One thread: its matrices are tiny, and trials may use the other cores.
    calm = {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = python_module("supervisor.report", *arguments)
    return JsonWorker(command, {**passed_environment(), **calm, **own}, deadline_s)


def write_report_now(view: dict[str, Any], folder: Path, deadline_s: float = DEADLINE_S) -> Path:
    """Write the report for a caller without an event loop, such as the command line. Raises ReportFailed."""
    return asyncio.run(write_report(view, folder, deadline_s))
