"""Writes a report in a process of its own: figures need libraries that the daemon and `status` must not load.

Standard library only.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from supervisor.errors import ReportFailed
from supervisor.processes.environment import passed_on
from supervisor.processes.guardian import end_group

DEADLINE_S = 180.0
LAST_WORDS_BYTES = 2_000
"""How much of a dead child's complaint an error carries."""


async def write_report(view: dict[str, Any], folder: Path, deadline_s: float = DEADLINE_S) -> Path:
    """The report of a `run_snapshot`, written into `folder`; the path of its report.html.

    Raises ReportFailed, with the child's last words, when it cannot be started, fails or takes over `deadline_s`.
    """
    with _scratch() as scratch, tempfile.TemporaryFile() as complaint:
        try:
            child = await asyncio.create_subprocess_exec(
                *_command(folder), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
                stderr=complaint, env=_environment(scratch), start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise ReportFailed(f"the report's process cannot start: {error}") from error
        try:
            async with asyncio.timeout(deadline_s):
                await child.communicate(_encoded(view))
        except TimeoutError as error:
            raise _too_slow(deadline_s) from error
        finally:
            # Also on cancellation: a child that nobody waits for must not live on.
            if child.returncode is None:
                end_group(child.pid, 0.0)
                await child.wait()
        return _written(folder, child.returncode, complaint)


def write_report_now(view: dict[str, Any], folder: Path, deadline_s: float = DEADLINE_S) -> Path:
    """`write_report` for a caller without an event loop, such as the command line."""
    with _scratch() as scratch, tempfile.TemporaryFile() as complaint:
        try:
            child = subprocess.Popen(
                _command(folder), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=complaint,
                env=_environment(scratch), start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise ReportFailed(f"the report's process cannot start: {error}") from error
        try:
            child.communicate(_encoded(view), timeout=deadline_s)
        except subprocess.TimeoutExpired as error:
            raise _too_slow(deadline_s) from error
        finally:
            if child.returncode is None:
                end_group(child.pid, 0.0)
                child.wait()
        return _written(folder, child.returncode, complaint)


def _command(folder: Path) -> list[str]:
    # -P: a file beside the daemon's working folder must not stand in for a module.
    return [sys.executable, "-P", "-m", "supervisor.report", str(folder)]


@contextmanager
def _scratch() -> Iterator[str]:
    """Matplotlib writes its font cache where MPLCONFIGDIR says; a service's HOME may be read-only."""
    with tempfile.TemporaryDirectory(prefix="sweep-report-", ignore_cleanup_errors=True) as folder:
        yield folder


def _environment(scratch: str) -> dict[str, str]:
    # One thread: its matrices are tiny, and trials may be at work on the other cores.
    return {
        **passed_on(),
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": scratch,
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def _encoded(view: dict[str, Any]) -> bytes:
    return json.dumps(view).encode()


def _too_slow(deadline_s: float) -> ReportFailed:
    return ReportFailed(f"the report was not written within {deadline_s:g} s")


def _written(folder: Path, returncode: int | None, complaint: IO[bytes]) -> Path:
    if returncode != 0:
        complaint.seek(max(0, complaint.seek(0, os.SEEK_END) - LAST_WORDS_BYTES))
        words = complaint.read().decode(errors="replace").strip()
        raise ReportFailed(f"the report's process ended with {returncode}: {words or 'without a word'}")
    return folder / "report.html"
