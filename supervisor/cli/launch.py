"""Starts a daemon, unless one works already, and waits until it is ready. Standard library only."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from supervisor.cli.guide.progress import working
from supervisor.control.client import ask
from supervisor.control.handshake import StartRequest
from supervisor.control.unix_socket import inode
from supervisor.errors import AlreadyRunning, DaemonDied, NotRunning, SweepError
from supervisor.home import Home
from supervisor.home_lock import check_no_orphan, holder, is_held
from supervisor.processes import init
from supervisor.processes.environment import absolute_paths

LAST_LOG_LINES = 20
HELD_POLL_S = 0.1
END_WITHIN_S = 20.0
ENDING = ("STOPPING", "STOPPED", "EXITED", "FATAL")
"""States of a run that its daemon leaves alone from then on."""

MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""For the daemon, which runs for weeks: with an arena for each thread glibc kept 3.6 MiB more every simulated day, with
a single one 0.9 (mallopt(3); `make bench BENCH=soak`). Its children do not inherit it (processes.environment)."""


def launch(home: Home, request: StartRequest, timeout_s: float, *, foreground: bool) -> int:
    """Start a daemon for `request` and print its facts; return the exit code.

    `foreground`: this very process becomes the daemon, for a service manager. A daemon that already works on `request`
    is enough. Raises AlreadyRunning for one that works on another plan, HomeHeld, and the errors of `start_daemon`.
    """
    if already_running(home, request, timeout_s):
        return 0
    if foreground:
        become_daemon(home, request)
    try:
        with working(_stages(home)):
            facts = start_daemon(home, request, timeout_s)
        _print_facts(facts)
    except AlreadyRunning:
        # Another `start` was quicker; that is an error only if it asked for another plan.
        if not already_running(home, request, timeout_s):
            raise
    return 0


def _stages(home: Home) -> Callable[[], str]:
    """Return a function that says which part of the start goes on: the daemon's socket is open before Ray is up."""
    before = inode(home.socket)
    return lambda: "starting the daemon" if inode(home.socket) in (None, before) else "waiting until Ray is up"


def already_running(home: Home, request: StartRequest, timeout_s: float) -> bool:
    """Return whether a daemon works on `request`; wait for one that is starting or ending. False: the home is free.

    Raises AlreadyRunning when it works on something else, or neither answers nor ends within `timeout_s`, HomeHeld
    when an orphan holds the lock.
    """
    end_s = time.monotonic() + timeout_s
    while is_held(home):
        try:
            return _works_on(home, request)
        except NotRunning as absent:
            check_no_orphan(home)
            if time.monotonic() > end_s:
                raise AlreadyRunning(
                    f"a daemon ({holder(home)}) has been starting or ending in the home {home.root} for"
                    f" {timeout_s:.0f} s",
                    remedy="`supervisorctl doctor` looks for the cause",
                ) from absent
            time.sleep(HELD_POLL_S)
    return False


def _works_on(home: Home, request: StartRequest) -> bool:
    """Return True when the daemon works on `request`. Raises AlreadyRunning when it works on something else.

    Raises NotRunning when no daemon answers, or when it is ending: after a run's end it still writes the report.
    """
    view = ask(home, "status")
    if view["daemon"].get("stopping") or view["run"]["state"] in ENDING:
        raise NotRunning(f"daemon {view['daemon']['pid']} is ending")
    resumes = request.resume and request.plan == view["run"]["plan"]
    same = request.plan is None or resumes or request.fingerprint == view["run"]["fingerprint"]
    if not same or request.new:
        raise AlreadyRunning(f"daemon {view['daemon']['pid']} works on {view['run']['id']}")
    if request.retry:
        # What failed in the run at work is tried again by its own daemon.
        from supervisor.cli.steer import print_retries

        print_retries(ask(home, "retry", {})["retries"])
    for name, more in request.extend.items():
        what = {"epochs": more, "anew": request.anew} if "/" in name else {"trials": more}
        ask(home, "extend", {"targets": [name], **what})
    facts = view["daemon"]
    if request.http is not None:
        facts = {**facts, **ask(home, "page", {"http": request.http})}
    print("already running:")
    _print_facts(facts)
    return True


def _print_facts(facts: dict[str, Any]) -> None:
    if facts.get("rebuilt"):
        print(f"ATTENTION: {facts['rebuilt']}")
    print(f"run        {facts['run']}")
    print(f"daemon     pid {facts['pid']}, socket {facts['socket']}")
    print(f"log        {facts['log']}")
    taken = facts.get("dashboard_port_taken")
    moved = f" (port {taken} is taken)" if taken else ""
    print(f"dashboard  {facts['dashboard']}{moved}; `supervisorctl dashboard`: how to log in")
    if facts.get("page"):
        print(f"live page  {facts['page']}")
    print("follow it with `supervisorctl wait`, `supervisorctl status` or `supervisorctl tail -f`")


def daemon_command(ready_fd: int | None) -> list[str]:
    answer_to = [] if ready_fd is None else ["--ready-fd", str(ready_fd)]
    return [sys.executable, "-P", "-m", "supervisor.daemon", *answer_to]


def _as_file(request: StartRequest) -> IO[bytes]:
    """Return an unnamed file with the request, for the daemon's standard input."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    file.write(json.dumps(asdict(request)).encode())
    file.seek(0)
    return file


def daemon_environment(home: Home) -> dict[str, str]:
    """Return this process's variables with paths made absolute: the daemon works in another folder."""
    return {**os.environ, **absolute_paths(os.environ, Path.cwd()), **MALLOC, "SWEEP_HOME": str(home.root)}


def become_daemon(home: Home, request: StartRequest) -> None:
    """Turn this process into the daemon, in the foreground. Does not return.

    As process 1 (of a container) it becomes the daemon's parent instead (processes.init).
    """
    with _as_file(request) as stdin:
        os.dup2(stdin.fileno(), 0)
    command = daemon_command(None)
    os.environ.update(daemon_environment(home))
    if os.getpid() == 1:
        os._exit(init.run(command))
    os.execv(command[0], command)  # noqa: S606 - our own interpreter, no shell


def start_daemon(home: Home, request: StartRequest, timeout_s: float) -> dict[str, Any]:
    """Start a daemon in a session of its own; return its facts once it is ready.

    Raises the error that the daemon reports, DaemonDied with the last lines of its log when it ends without one,
    SweepError after `timeout_s`. Ctrl-C ends the half-started daemon, too.
    """
    log_path = home.logs / "daemon.log"
    read_fd, write_fd = os.pipe()
    # For appending: the log may hold the last daemon's end, and the new daemon may shorten it later.
    with _as_file(request) as stdin, log_path.open("ab") as log:
        begun_at = log.tell()
        process = subprocess.Popen(
            daemon_command(write_fd), stdin=stdin, stdout=log, stderr=log,
            start_new_session=True, pass_fds=(write_fd,), cwd=home.root, env=daemon_environment(home),
        )  # fmt: skip
    os.close(write_fd)
    try:
        line = _read_line(read_fd, timeout_s)
    except KeyboardInterrupt:
        _end(process)
        raise
    finally:
        os.close(read_fd)
    if not line:
        _end(process)
        if line is None:
            raise SweepError(
                f"the daemon was not ready within {timeout_s:.0f} s; its log is {log_path}",
                remedy="`supervisorctl doctor` looks for the cause; then `supervisord start` tries again",
            )
        raise DaemonDied(f"the daemon died before it was ready; the end of {log_path}:\n{_tail(log_path, begun_at)}")
    return _facts(line)


def _facts(line: bytes) -> dict[str, Any]:
    """Return the daemon's facts. Raises the error that stands in their place."""
    facts: dict[str, Any] = json.loads(line)
    if "error" in facts:
        kind = AlreadyRunning if facts.get("kind") == AlreadyRunning.__name__ else SweepError
        error = kind(facts["error"], remedy=facts["remedy"])
        error.exit_code = int(facts["exit_code"])
        raise error
    return facts


def _read_line(fd: int, timeout_s: float) -> bytes | None:
    """Return the daemon's one line; b"" when the daemon ended without one, None after `timeout_s`."""
    end, found = time.monotonic() + timeout_s, b""
    while not found.endswith(b"\n"):
        if not select.select([fd], [], [], max(0.0, end - time.monotonic()))[0]:
            return None
        piece = os.read(fd, 65536)
        if not piece:
            return b""
        found += piece
    return found


def _end(process: subprocess.Popen[bytes]) -> None:
    """Send TERM, and KILL after END_WITHIN_S. The daemon's children end by the end of their pipes."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(END_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(path: Path, begun_at: int) -> str:
    """Return the last lines after the first `begun_at` bytes."""
    with path.open(errors="replace") as file:
        file.seek(begun_at)
        return "".join(deque(file, maxlen=LAST_LOG_LINES)).rstrip()
