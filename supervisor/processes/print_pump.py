"""Writes a trial's prints, its standard input, to a file: `python -P -m supervisor.processes.print_pump PATH`.

A process of its own, not a thread of the worker: C code that fills a pipe while it holds Python's lock would wait for
ever for a thread that needs the lock. It outlives a worker that is killed, so the last lines are in the file, too.
Secrets are hidden line by line. Standard library only.
"""

from __future__ import annotations

import os
import re
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from supervisor.processes.print_file import PrintFile
from supervisor.redaction import redact

CHUNK_BYTES = 64 * 1024
"""The size of a pipe on Linux."""

MAX_HELD_BYTES = 64 * 1024
HELD_S = 0.5
"""Half a line is held back, because half a secret is not recognised; but not for longer, since it may be a question."""

_MARKS_OF_RAY = re.compile(r"^:(?:job_id|actor_name|task_name):.*\n?", re.MULTILINE)
"""Ray prints these lines for its own reader of logs, which leaves them out, too."""


def pump(source: int, file: PrintFile, hide: Callable[[str], str] = redact) -> None:
    """Copy a descriptor to its end into the file."""
    held = b""
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
    if held:
        file.add(_hidden(held, hide))
    file.close()


def whole_lines(data: bytes) -> tuple[bytes, bytes]:
    """Return the whole lines and the rest. One that is too long is cut at a blank; a progress bar's lines end in CR."""
    at = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
    if len(data) - at > MAX_HELD_BYTES:
        at = (data.rfind(b" ", at) + 1) or len(data)
    return data[:at], data[at:]


def _hidden(data: bytes, hide: Callable[[str], str]) -> bytes:
    text = _MARKS_OF_RAY.sub("", data.decode("utf-8", "surrogateescape"))
    return hide(text).encode("utf-8", "surrogateescape")


def main(argv: list[str]) -> int:
    if len(argv) != 1:
        print("usage: python -m supervisor.processes.print_pump PATH < PIPE", file=sys.stderr)
        return 2
    if os.fork():
        # No child of the worker: Ray, and the end of a hung trial, kill those at once.
        os._exit(0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # It ends with its pipe.
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o077)
    os.chdir("/")
    pump(0, PrintFile(Path(argv[0])))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
