"""Writes a trial's prints, its standard input, to a file: `python -P -m supervisor.processes.print_pump PATH`.

`begin_each` is the parent of many such processes: each is a fork of it, so that no Python starts for it.

A process of its own, not a thread of the worker: C code that fills a pipe while it holds Python's lock would wait for
ever for a thread that needs the lock. It outlives a worker that is killed, so the last lines are in the file, too.
Secrets are hidden line by line. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from supervisor.processes.print_file import PrintFile
from supervisor.redaction import longest_secret_bytes, redact

CHUNK_BYTES = 64 * 1024
"""The size of a pipe on Linux."""

MAX_HELD_BYTES, CARRIED_BYTES = 64 * 1024, 8 * 1024
"""The bounds of a line that is held back whole, and of a secret in a longer one beside those of the environment."""
HELD_S = 0.5
"""Half a line is held back, because half a secret is not recognised; but not for longer, since it may be a question."""

FRAME_BYTES = 4096
"""The size of a request to `begin_each`: a path, filled up with zeros. No path of Linux or macOS is longer."""

_MARKS_OF_RAY = re.compile(r"^:(?:job_id|actor_name|task_name):.*\n?", re.MULTILINE)
"""Ray prints these lines for its own reader of logs, which leaves them out, too."""


def pump(source: int, file: PrintFile, hide: Callable[[str], str] = redact) -> None:
    """Copy a descriptor to its end into the file."""
    held, carried = b"", max(CARRIED_BYTES, longest_secret_bytes())
    while True:
        if held and not select.select([source], [], [], HELD_S)[0]:
            file.add(_hidden(held, hide))
            held = b""
        chunk = os.read(source, CHUNK_BYTES)
        if not chunk:
            break
        whole, held = whole_lines(held + chunk)
        if whole:
            file.add(_hidden(whole, hide))
        if len(held) > MAX_HELD_BYTES + carried:
            at = safe_cut(held, carried, hide)
            file.add(_hidden(held[:at], hide))
            held = held[at:]
    if held:
        file.add(_hidden(held, hide))
    file.close()


def whole_lines(data: bytes) -> tuple[bytes, bytes]:
    """Return the whole lines and the rest; a progress bar's lines end in CR."""
    at = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
    return data[:at], data[at:]


def safe_cut(data: bytes, carried: int, hide: Callable[[str], str] = redact) -> int:
    """Return a place in a long line that no secret crosses, so far from its end that no longer one has begun there.

    A secret of at most `carried` bytes crosses none, or the next place before. Where longer ones cross all of them, it
    is the end.
    """
    whole = _hidden(data, hide)
    for at in range(len(data) - carried, 0, -carried):
        if _hidden(data[:at], hide) + _hidden(data[at:], hide) == whole:
            return at
    return len(data)


def _hidden(data: bytes, hide: Callable[[str], str]) -> bytes:
    text = _MARKS_OF_RAY.sub("", data.decode("utf-8", "surrogateescape"))
    return hide(text).encode("utf-8", "surrogateescape")


def main(argv: list[str]) -> int:
    if len(argv) != 1:
        print("usage: python -m supervisor.processes.print_pump PATH < PIPE", file=sys.stderr)
        return 2
    if os.fork():
        # No child of its caller.
        os._exit(0)
    return keep(argv[0])


def keep(path: str) -> int:
    """Write standard input to the file at `path` until its end; return the exit code."""
    _stand_apart()
    pump(0, PrintFile(Path(path)))
    return 0


def _stand_apart() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # It ends with its pipe.
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o077)
    os.chdir("/")


def begin_each() -> int:
    """Begin a pump of its own for each request over standard input, a socket, until its end; return the exit code.

    A request is FRAME_BYTES with the path of a file, and the descriptor of the pipe to read.
    """
    _stand_apart()
    # The kernel forgets pumps that have ended.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while (request := _request()) is not None:
        path, pipe = request
        # Where there is no fork, the pipe has no reader: its worker then begins a pump itself.
        with contextlib.suppress(OSError):
            if os.fork() == 0:
                _become_pump(path, pipe)
        os.close(pipe)
    return 0


def _become_pump(path: str, pipe: int) -> None:
    status = 1
    try:
        # In the place of the socket, whose end would then not be seen.
        os.dup2(pipe, 0)
        os.close(pipe)
        status = keep(path)
    finally:
        os._exit(status)


def _request() -> tuple[str, int] | None:
    """Return the path and the pipe of the next request; None at the end, or for one that is none."""
    import socket  # only the parent needs it, and each pump's start takes as long as its imports

    frame, pipes = b"", list[int]()
    with socket.socket(fileno=os.dup(0)) as requests:
        while len(frame) < FRAME_BYTES:
            part, found, _, _ = socket.recv_fds(requests, FRAME_BYTES - len(frame), 1)
            frame, pipes = frame + part, pipes + list(found)
            if not part:
                break
    if len(frame) == FRAME_BYTES and len(pipes) == 1:
        return os.fsdecode(frame.rstrip(b"\0")), pipes[0]
    for pipe in pipes:
        os.close(pipe)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
