"""Starts a daemon and waits until it says that it is ready, or why it is not. Standard library only."""

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
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from supervisor.control.handshake import StartRequest
from supervisor.errors import AlreadyRunning, DaemonDied, SweepError
from supervisor.home import Home
from supervisor.processes import init

LAST_LOG_LINES = 20

MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""Of the daemon alone, for weeks: with an arena for each thread glibc kept 3.6 MiB more every simulated day, with one
0.9 (mallopt(3); `make bench BENCH=soak`). Its children get what passed_environment lets through, and so not this."""


def daemon_command(ready_fd: int | None) -> list[str]:
    told = [] if ready_fd is None else ["--ready-fd", str(ready_fd)]
    return [sys.executable, "-P", "-m", "supervisor.daemon", *told]


def _as_file(request: StartRequest) -> IO[bytes]:
    """A file without a name: the daemon's standard input, whichever way it is started."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    file.write(json.dumps(asdict(request)).encode())
    file.seek(0)
    return file


def become_daemon(request: StartRequest) -> None:
    """For service managers: this very process becomes the daemon, in the foreground. Does not return.

    As process 1, of a container say, it becomes the daemon's parent instead (init_process).
    """
    with _as_file(request) as stdin:
        os.dup2(stdin.fileno(), 0)
    command = daemon_command(None)
    os.environ.update(MALLOC)
    if os.getpid() == 1:
        os._exit(init.run(command))
    os.execv(command[0], command)  # noqa: S606 - our own interpreter, no shell


def start_daemon(home: Home, request: StartRequest, timeout_s: float) -> dict[str, Any]:
    """A daemon in a session of its own; its facts once it is ready.

    Raises what the daemon reports, DaemonDied with the last lines of its log when it just ends, SweepError after
    `timeout_s`. On Ctrl-C the half-started daemon is ended, too.
    """
    log_path = home.logs / "daemon.log"
    read_fd, write_fd = os.pipe()
    # For appending: the last daemon's end may stand there, and this one may cut it short later (keep_bounded).
    with _as_file(request) as stdin, log_path.open("ab") as log:
        begun_at = log.tell()
        process = subprocess.Popen(
            daemon_command(write_fd), stdin=stdin, stdout=log, stderr=log,
            start_new_session=True, pass_fds=(write_fd,), cwd=home.root, env={**os.environ, **MALLOC},
        )  # fmt: skip
    os.close(write_fd)
    try:
        line = _read_line(read_fd, timeout_s)
    except KeyboardInterrupt:
        _end(process)
        raise
    finally:
        os.close(read_fd)
    if line is None:
        _end(process)
        raise SweepError(f"the daemon was not ready within {timeout_s:.0f} s", remedy=f"look into {log_path}")
    if not line:
        _end(process)
        raise DaemonDied(f"the daemon died before it was ready; the end of {log_path}:\n{_tail(log_path, begun_at)}")
    return _facts(line)


def _facts(line: bytes) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(line)
    if "error" in facts:
        # Of two that start at the same moment one finds the home held.
        kind = AlreadyRunning if facts.get("kind") == AlreadyRunning.__name__ else SweepError
        error = kind(facts["error"], remedy=facts["remedy"])
        error.exit_code = int(facts["exit_code"])
        raise error
    return facts


def _read_line(fd: int, timeout_s: float) -> bytes | None:
    """The daemon's one line; b"" when it ended without one, None after `timeout_s`."""
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
    """TERM, then KILL after 20 s. Its children notice by their pipes."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(path: Path, begun_at: int) -> str:
    """The last lines that came after the first `begun_at` bytes."""
    with path.open(errors="replace") as file:
        file.seek(begun_at)
        return "".join(deque(file, maxlen=LAST_LOG_LINES)).rstrip()
