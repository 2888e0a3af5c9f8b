"""Checks for `doctor` what runs now: daemon and socket, the last run, leftovers of Ray, sensors, wake lock."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from supervisor import __version__
from supervisor.cli.watch import last_view
from supervisor.control.client import ask
from supervisor.errors import NotFound, NotOurs, NotPermitted, NotRunning, SweepError, VersionSkew, WorkerFailed
from supervisor.formatting import human
from supervisor.home import Home
from supervisor.home_lock import holder, is_held, orphan
from supervisor.preflight import start as start_checks
from supervisor.preflight.machine import Check, Level, ok
from supervisor.processes.environment import passed_environment

ANSWER_WITHIN_S = 5.0
SENSORS_WITHIN_S = 30.0
MAX_ENTRIES = 20_000
"""The most files that are counted in leftover folders."""
MUCH_BYTES = 1024**3


def check_daemon(home: Home) -> list[Check]:
    """Check the daemon of this home by lock and socket, and its run."""
    try:
        if is_held(home):
            return [_asked(home)]
    except OSError as error:
        detail = f"{home.lock} cannot be opened: {error.strerror}"
        return [Check("daemon", Level.ERROR, detail, f"look at its owner and mode: `ls -l {home.lock}`")]
    return [*_without_daemon(home), *_last_run(home)]


def _asked(home: Home) -> Check:
    left = orphan(home)
    if left is not None:
        return Check("daemon", Level.ERROR, left.sentence(), left.cure())
    try:
        view = ask(home, "status", deadline_s=ANSWER_WITHIN_S)
    except (NotOurs, NotPermitted, VersionSkew) as error:
        return Check("daemon", Level.ERROR, error.message, error.remedy)
    except NotRunning as error:
        return Check("daemon", Level.WARNING, error.message, error.remedy)
    except SweepError as error:
        cure = f"wait a minute; if it goes on, read {home.logs / 'debug.jsonl'}, and `kill -9` it: nothing is lost"
        return Check("daemon", Level.ERROR, f"{holder(home) or 'it'}: {error.message}", cure)
    daemon, run = view["daemon"], view["run"]
    words = f"pid {daemon['pid']} works on {run['id']}, {run['state']}"
    if daemon["version"] != __version__:
        cure = "`supervisorctl shutdown`, then `supervisord start`: the run goes on with the new version"
        return Check(
            "daemon", Level.WARNING, f"{words}; it is version {daemon['version']}, this is {__version__}", cure
        )
    return ok("daemon", words)


def _without_daemon(home: Home) -> list[Check]:
    try:
        found = home.socket.lstat()
    except OSError:
        return [ok("daemon", "no daemon is running; `supervisord start` begins or resumes a run")]
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
        detail = f"expected a socket of this user at {home.socket}, found another file"
        return [Check("daemon", Level.ERROR, detail, f"look at it (`ls -l {home.socket}`), and remove it")]
    detail = f"no daemon is running; {home.socket} is left of one that died"
    return [Check("daemon", Level.WARNING, detail, "`supervisord start` makes the socket anew and resumes the run")]


def _last_run(home: Home) -> list[Check]:
    try:
        view = last_view(home, trials=False)
    except (NotFound, NotRunning):
        return []
    except (SweepError, OSError):
        # The check of the store names the problem.
        return []
    run = view["run"]
    words = f"{run['id']}: {view['why_no_daemon']}"
    if view["daemon_died"]:
        words = words.rpartition("; ")[0]
        return [Check("last run", Level.ERROR, words, "`supervisord start` resumes it; nothing that counted is lost")]
    return [ok("last run", words)]


def check_leftovers(home: Home) -> list[Check]:
    """Check for processes and folders that earlier daemons, also of other homes, have left."""
    return [*_orphans(home), *_session(home), *_other_folders(home)]


def _orphans(home: Home) -> Iterator[Check]:
    import psutil

    from supervisor.processes import orphans

    if is_held(home):
        return
    found: list[str] = []
    for process in orphans.find(home.key):
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            found.append(f"{process.pid} {process.name()}")
    if found:
        detail = f"{len(found)} processes of a daemon that died: {', '.join(found[:5])}"
        pids = " ".join(name.split()[0] for name in found)
        yield Check("Ray's processes", Level.WARNING, detail, f"`supervisord start` ends them; or `kill {pids}`")
    else:
        yield ok("Ray's processes", "no process is left over")


def _session(home: Home) -> Iterator[Check]:
    if home.ray_temp.is_dir() and not is_held(home):
        size = folder_bytes([home.ray_temp])
        yield ok("Ray's session", f"{human(size)} of the last one in {home.ray_temp}; the next start removes it")


def _other_folders(home: Home) -> Iterator[Check]:
    """Look at the runtime folders of this user's other homes; those of live daemons are left out."""
    place = home.runtime().parent
    try:
        others = [one for one in sorted(place.iterdir())[:MAX_ENTRIES] if one != home.runtime() and one.is_dir()]
    except OSError:
        return
    dead = [one for one in others if not _answers(one / "ctl.sock")]
    size = folder_bytes(dead)
    if size > MUCH_BYTES:
        detail = f"{human(size)} of {len(dead)} other homes without a daemon in {place}"
        yield Check("old sessions", Level.WARNING, detail, f"remove those that you know: `du -sh {place}/*`")
    elif dead:
        yield ok("old sessions", f"{human(size)} of {len(dead)} other homes without a daemon in {place}")


def _answers(path: Path) -> bool:
    """Return whether a program listens at this socket."""
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def folder_bytes(folders: list[Path]) -> int:
    """Return the size of all files below `folders`, of at most MAX_ENTRIES of them."""
    size, left, waiting = 0, MAX_ENTRIES, list(folders)
    while waiting and left > 0:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    left -= 1
                    if left < 0:
                        break  # one folder may have millions
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    elif entry.is_file(follow_symlinks=False):
                        size += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue  # another user's, or gone meanwhile
    return size


def _survey() -> dict[str, Any]:
    """Read every sensor in a process of its own: a driver may hang. Raises WorkerFailed."""
    import asyncio

    from supervisor.processes.json_worker import JsonWorker, python_module

    worker = JsonWorker(python_module("supervisor.sensors.survey"), passed_environment(), SENSORS_WITHIN_S)
    found: dict[str, Any] = asyncio.run(worker.ask([]))
    return found


def check_sensors(collect: Callable[[], dict[str, Any]] = _survey) -> list[Check]:
    """Check what can be read here; without a temperature a run is UNPROTECTED."""
    try:
        found = collect()
    except WorkerFailed as error:
        cure = "look at the devices' drivers (`dmesg`), then `supervisorctl sensors`"
        return [Check("sensors", Level.ERROR, f"the process that reads them {error.message}", cure)]
    missing = [one for one in found["providers"] if not one["ok"]]
    broken = [one for one in found["readings"] if one["quality"] == "error"]
    checks = [start_checks.temperature_of(found)]
    checks += [
        Check(f"sensor {one['sensor_id']}", Level.WARNING, f"cannot be read: {one['detail']}",
              "`supervisorctl sensors --record sensors.jsonl` shows when; look at the device's driver (`dmesg`)")
        for one in broken
    ]  # fmt: skip
    names = ", ".join(one["name"] for one in found["providers"] if one["ok"])
    absent = f"; not here: {', '.join(one['name'] for one in missing)} (`supervisorctl sensors`)" if missing else ""
    return [*checks, ok("sensors", f"read: {names}{absent}")]
