"""Reads memory limits and out-of-memory counters of this process's control groups, versions 1 and 2.

In a container the host's figures hide its limit (psutil issue 2100), so every ancestor with a limit counts.
Formats: Linux Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from supervisor.sensors import sysfs

UNLIMITED_BYTES = 1 << 60
"""Version 1 writes "no limit" as the largest page-aligned integer, more than any machine has."""

MAX_DEPTH = 32


@dataclass(frozen=True)
class MemoryGroup:
    """A control group with a limit; `used_bytes` excludes the inactive page cache, which is freed on demand."""

    folder: Path
    limit_bytes: int
    used_bytes: int

    @property
    def available_bytes(self) -> int:
        return max(0, self.limit_bytes - self.used_bytes)


def memory_groups(proc: Path = Path("/proc"), root: Path = Path("/sys/fs/cgroup")) -> list[MemoryGroup]:
    """Return the readable groups with a limit, from this process's own up to the root."""
    return [group for folder, version in _folders(proc, root) if (group := _group(folder, version)) is not None]


def kill_counter(pid: int, proc: Path = Path("/proc"), root: Path = Path("/sys/fs/cgroup")) -> Path | None:
    """Return the file that counts out-of-memory kills for a process: its group's, else the machine's."""
    groups = [_events(folder, version) for folder, version in _folders(proc, root, str(pid))]
    return next((file for file in [*groups, proc / "vmstat"] if kill_count(file) is not None), None)


def kill_count(counter: Path) -> int | None:
    """Return the number of kills in a file of `kill_counter`; None if it has none."""
    return _table(counter).get("oom_kill")


def memory_event_counts(proc: Path = Path("/proc"), root: Path = Path("/sys/fs/cgroup")) -> dict[str, int]:
    """Return the counters of this process's own group: those of high, oom, oom_kill that the kernel shows."""
    for folder, version in _folders(proc, root):
        table = _table(_events(folder, version))
        if table:
            return {key: table[key] for key in ("high", "oom", "oom_kill") if key in table}
    return {}


def _events(folder: Path, version: int) -> Path:
    return folder / ("memory.events" if version == 2 else "memory.oom_control")


def _folders(proc: Path, root: Path, pid: str = "self") -> Iterator[tuple[Path, int]]:
    """Yield each existing folder with its version, innermost first, down to the mount's root.

    In a container without a cgroup namespace the path in /proc names a folder of the host, which is not mounted; the
    mount itself then shows the container's group.
    """
    try:
        lines = (proc / pid / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines[:64]:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            bases, version = [root, root / "unified"], 2
        elif "memory" in controllers.split(","):
            bases, version = [root / "memory"], 1
        else:
            continue
        for base in bases:
            inner = PurePosixPath(path.lstrip("/"))
            for part in [inner, *inner.parents][:MAX_DEPTH]:
                folder = base / part
                if folder.is_dir():
                    yield folder, version


def _group(folder: Path, version: int) -> MemoryGroup | None:
    v2 = version == 2
    # "max" (no limit) and a missing file (the controller is off) are both None.
    names = ("memory.max", "memory.high") if v2 else ("memory.limit_in_bytes",)
    limits = [sysfs.whole(folder / name) for name in names]
    limit = min((value for value in limits if value is not None and value < UNLIMITED_BYTES), default=None)
    used = sysfs.whole(folder / ("memory.current" if v2 else "memory.usage_in_bytes"))
    if limit is None or limit <= 0 or used is None:
        return None
    inactive = _table(folder / "memory.stat").get("inactive_file" if v2 else "total_inactive_file", 0)
    return MemoryGroup(folder, limit, max(0, used - inactive))


def _table(file: Path) -> dict[str, int]:
    try:
        rows = [line.split() for line in file.read_text().splitlines()[:256]]
    except OSError:
        return {}
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}
