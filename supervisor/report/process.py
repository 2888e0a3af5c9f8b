"""Writes a report in a process of its own, because its figures need libraries too heavy for the daemon.

Standard library only.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from supervisor.errors import ReportFailed, WorkerFailed
from supervisor.processes.environment import passed_environment
from supervisor.processes.json_worker import JsonWorker, python_module

DEADLINE_S = 180.0


async def write_report(view: dict[str, Any], folder: Path, deadline_s: float = DEADLINE_S) -> Path:
    """Write the report of the snapshot `view` into `folder`; return the path of its report.html.

    Raises ReportFailed if the process cannot start, fails, or takes longer than `deadline_s`.
    """
    # Matplotlib writes its font cache to MPLCONFIGDIR: the HOME of a service may be read-only.
    with tempfile.TemporaryDirectory(prefix="sweep-report-", ignore_cleanup_errors=True) as cache:
        # One thread: its matrices are tiny, and trials may use the other cores.
        own = {"MPLBACKEND": "Agg", "MPLCONFIGDIR": cache, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = python_module("supervisor.report", str(folder))
        try:
            await JsonWorker(command, {**passed_environment(), **own}, deadline_s).run(view)
        except WorkerFailed as error:
            raise ReportFailed(f"the report's process {error.message}") from error
    return folder / "report.html"


def write_report_now(view: dict[str, Any], folder: Path, deadline_s: float = DEADLINE_S) -> Path:
    """Write the report for a caller without an event loop, such as the command line. Raises ReportFailed."""
    return asyncio.run(write_report(view, folder, deadline_s))
