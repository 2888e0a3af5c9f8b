"""Which process a pid means: pids are used again, so a pid alone is never a ground to end anything."""

from __future__ import annotations

from pathlib import Path

_AFTER_NAME = ") "
_STATE, _START_TICKS = 0, 19
"""Fields 3 and 22 of /proc/PID/stat (proc_pid_stat(5)), counted from behind the name."""


def started_at(pid: int, proc: Path = Path("/proc")) -> str | None:
    """What no other process of that pid will have, for as long as the machine is up; None for one that is dead.

    Linux: clock ticks from boot to its start, which no change of the clock moves. Elsewhere psutil's creation time.
    """
    try:
        # A process may give itself any bytes for a name.
        fields = (proc / str(pid) / "stat").read_text(errors="replace").rpartition(_AFTER_NAME)[2].split()
        return None if fields[_STATE] in ("Z", "X") else fields[_START_TICKS]
    except (OSError, IndexError):
        if proc.is_dir():
            return None
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.Error:
        return None
