"""Identifies a process by its start time: pids are reused, so a pid alone is no reason to end a process."""

from __future__ import annotations

from pathlib import Path

_AFTER_NAME = ") "
_STATE, _START_TICKS = 0, 19
"""Fields 3 and 22 of /proc/PID/stat (proc_pid_stat(5)), counted from the field after the name."""


def started_at(pid: int, proc: Path = Path("/proc")) -> str | None:
    """Return the start time of process `pid`, unique for that pid until the next boot; None for a dead process.

    Linux: clock ticks from boot to its start; they do not change when the clock is set, and psutil's time does.
    Elsewhere psutil's creation time.
    """
    try:
        # A process may choose any bytes as its name.
        fields = (proc / str(pid) / "stat").read_text(errors="replace").rpartition(_AFTER_NAME)[2].split()
        return None if fields[_STATE] in ("Z", "X") else fields[_START_TICKS]
    except (OSError, IndexError):
        if proc.is_dir():
            return None
    import psutil  # slow to import

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.Error:
        return None
