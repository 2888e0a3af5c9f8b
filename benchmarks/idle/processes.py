"""Look at the processes of a run: what each has used, and which libraries it has mapped."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

from benchmarks.chaos.site import Site, role_of
from benchmarks.idle.figures import Cost, Look, cost_of, memory_of
from supervisor.processes import orphans

ROLES = ("daemon", "helpers", "driver", "watchdog", "worker", "pump", "sensor", "Ray")
"""The daemon's helpers are its guardian and the processes that it starts for a moment; pumps write trials' prints."""

MODULES = {
    "actors.driver": "driver", "supervisor.sensors.isolation_child": "sensor",
    "supervisor.processes.print_pump": "pump",
}  # fmt: skip


def role(name: str, command: list[str]) -> str:
    """Return the role of a process of a run, one of ROLES."""
    for module, known in MODULES.items():
        if module in command:
            return known
    if any(part.startswith("supervisor.") for part in command):
        return "helpers"
    found = role_of(name, command)
    return found if found in ("watchdog", "worker") else "Ray"


def processes_of(site: Site) -> dict[psutil.Process, str]:
    """Return the live processes of a run, each with its role."""
    found = dict.fromkeys(site.daemons(), "daemon")
    for process in [*orphans.find(site.home.key), *site.agents()]:
        try:
            if process not in found:
                found[process] = role(process.name(), process.cmdline())
        except psutil.Error:
            continue
    return found


def look_at(process: psutil.Process) -> Look:
    """Look at a process. Raises psutil.Error when it has ended."""
    times = process.cpu_times()
    return Look(time.monotonic(), times.user + times.system, switches_of(process.pid))


def switches_of(pid: int) -> int | None:
    """Return how often the threads of a process have waited; None where the platform does not tell."""
    tasks = Path(f"/proc/{pid}/task")
    if not tasks.is_dir():
        return None
    total = 0
    for status in tasks.glob("*/status"):
        try:
            lines = status.read_text().splitlines()
        except OSError:
            continue  # the thread has just ended
        total += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))
    return total


def ended_children_s(daemon: psutil.Process) -> float:
    """Return the seconds of CPU of a process's children that have ended."""
    times = daemon.cpu_times()
    return float(times.children_user + times.children_system)


def costs_over(site: Site, seconds: float) -> tuple[list[Cost], float]:
    """Watch a run for `seconds`; return what each process took, and the percent of a core of ended helpers.

    A process that began or ended meanwhile is left out; what an ended one of the daemon's own took is in the second.
    """
    roles = processes_of(site)
    daemons = [process for process, role in roles.items() if role == "daemon"]
    before = _looks(roles)
    ended_before = sum(ended_children_s(daemon) for daemon in daemons)
    time.sleep(seconds)
    after = _looks(before)
    ended_s = sum(ended_children_s(daemon) for daemon in daemons if daemon in after) - ended_before
    found = []
    for process, look in after.items():
        try:
            # Only now: to read the memory of some dozens of processes takes its time.
            found.append(cost_of(roles[process], before[process], look, memory_of(process)))
        except psutil.Error:
            continue
    return found, 100.0 * ended_s / seconds


def _looks(processes: Iterable[psutil.Process]) -> dict[psutil.Process, Look]:
    found = {}
    for process in processes:
        try:
            found[process] = look_at(process)
        except psutil.Error:
            continue
    return found


def mapped_packages(process: psutil.Process) -> set[str]:
    """Return the installed packages of which a process has mapped a library; empty where that cannot be read."""
    try:
        maps = Path(f"/proc/{process.pid}/maps").read_text()
    except OSError:
        return set()
    found = set()
    for line in maps.splitlines():
        _, installed, below = line.partition("/site-packages/")
        if installed:
            found.add(below.partition("/")[0].partition(".")[0])
    return found


def mapped_by_role(site: Site) -> Mapping[str, set[str]]:
    """Return the packages whose libraries the processes of each role have mapped."""
    found: dict[str, set[str]] = {}
    for process, role in processes_of(site).items():
        found.setdefault(role, set()).update(mapped_packages(process))
    return found
