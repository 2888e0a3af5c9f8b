"""Starts the pumps of a worker (print_pump): beside it by a shell, or as forks of a parent that it keeps for them."""

from __future__ import annotations

import errno
import os
import select
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import supervisor
from supervisor.processes.environment import SERVES
from supervisor.processes.print_pump import FRAME_BYTES

_CODE = f"""import sys
sys.path.append({str(Path(supervisor.__file__).resolve().parents[1])!r})
from supervisor.processes.print_pump import begin_each, keep
"""
_PYTHON = (sys.executable, "-I", "-S", "-c")
"""Without site: on a busy machine its import takes longer than the pump's own."""
PUMP = (*_PYTHON, f"{_CODE}sys.exit(keep(sys.argv[1]))")
PARENT = (*_PYTHON, f"{_CODE}sys.exit(begin_each())")
STARTER = ("/bin/sh", "-c", 'trap "" TERM INT HUP; exec 9<&0; "$@" <&9 9<&- &', "sh")
"""Begins a process beside it and ends at once: that is then no child of the worker, which Ray would end with it.

A shell starts much sooner than a Python, and the worker waits for it. It gets the process's command as its
arguments, never as text of a script.
"""
START_WITHIN_S = 30.0


def begin_beside(command: Sequence[str], stdin: Any, environment: Mapping[str, str]) -> None:
    """Start a process that is no child of this one. Raises OSError, and the errors of subprocess.Popen.

    One that cannot begin is found as one that died is: by its pipe without a reader.
    """
    process = subprocess.Popen(
        [*STARTER, *command], stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
        start_new_session=True,
    )  # fmt: skip
    _wait_for_starter(process)


def _wait_for_starter(process: subprocess.Popen[bytes]) -> None:
    """Wait until a starter, a child of ours, has ended: Ray ends those with their worker. Raises OSError."""
    _sleep_until_ended(process.pid)
    try:
        status = process.wait(START_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        status = process.wait()
    if status:
        raise OSError(f"the pump could not begin: its starter ended with {status}")


def _sleep_until_ended(pid: int) -> None:
    """Wait for the end of a child, START_WITHIN_S at most; on Linux only. Popen.wait looks in steps of milliseconds."""
    if not hasattr(os, "pidfd_open"):
        return
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return
    try:
        ends = select.poll()
        ends.register(descriptor, select.POLLIN)
        ends.poll(START_WITHIN_S * 1e3)
    finally:
        os.close(descriptor)


def environment_of_pumps() -> dict[str, str]:
    """Return the environment of what a worker begins: an orphan of the home when the worker is one.

    While workers are at work it is none, though no child of theirs. Its secrets are those that are hidden.
    """
    return {**os.environ, SERVES: str(os.getpid())}


class PumpParent:
    """Keeps a process that begins each pump by a fork: no Python starts for it.

    It ends with its worker, by the end of its socket; its pumps live on.
    """

    def __init__(self) -> None:
        self._requests: socket.socket | None = None
        self._environment: dict[str, str] = {}

    def begin(self, path: Path, reads: int) -> None:
        """Let it begin a pump that reads this pipe. Raises OSError, and the errors of subprocess.Popen."""
        frame, environment = os.fsencode(path).ljust(FRAME_BYTES, b"\0"), environment_of_pumps()
        if len(frame) > FRAME_BYTES:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(path))
        if self._requests is None or environment != self._environment:
            self._requests = self._started(environment)
        try:
            sent = socket.send_fds(self._requests, [frame], [reads])
        except OSError:
            self.end()
            raise
        if sent < len(frame):
            self.end()
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def _started(self, environment: dict[str, str]) -> socket.socket:
        self.end()
        ours, theirs = socket.socketpair()
        # One that hangs must not hold its worker.
        ours.setblocking(False)
        try:
            with theirs:
                begin_beside(PARENT, theirs, environment)
        except BaseException:
            ours.close()
            raise
        self._environment = environment
        return ours

    def end(self) -> None:
        """Let it end, if there is one."""
        if self._requests is not None:
            self._requests.close()
            self._requests = None
