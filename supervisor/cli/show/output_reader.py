"""Sees that the reader of an output has gone while nothing is written to it. Standard library only."""

from __future__ import annotations

import errno
import os
import select
import stat
from typing import Any


def check_reader(stream: Any) -> None:
    """Raise BrokenPipeError if `stream` is a pipe without a reader: in `tail -f | head -1` the shell waits for both."""
    try:
        number = stream.fileno()
    except (OSError, ValueError):
        return  # a test's stream
    if not stat.S_ISFIFO(os.fstat(number).st_mode):
        return
    look = select.poll()
    look.register(number, 0)
    if any(found & (select.POLLERR | select.POLLHUP) for _, found in look.poll(0)):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
