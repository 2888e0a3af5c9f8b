"""Sends a worker's prints to a process that writes them into the attempt's file (print_pump).

Descriptors 1 and 2 become a pipe to that process, so that C libraries and children of the worker are heard, too. A
worker is used for several trials: each attempt begins a pump of its own (pumps), and the last one ends with the last
process that could still print into it. A pump may die, of a kill or for want of memory; then the next print begins
another, and no print blocks, raises or kills the trial.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import io
import logging
import os
import select
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from actors.trial.pumps import PUMP, PumpParent, begin_beside, environment_of_pumps

MAX_PUMPS = 5
"""The most pumps of one attempt: where they die again and again, it prints into nothing."""

STANDARD = (1, 2)
SETTLE_S, POLL_S = 10.0, 0.002
"""The first is for the pump's own start, too, on a busy machine."""
MEND_WITHIN_S = 5.0
WRITABLE_WITHIN_S = 1.0
LINE_BUFFERED = 1
"""_IOLBF of stdio.h: 1 in glibc, musl and macOS."""

LOG = logging.getLogger("trainable")


class WorkerPrints:
    """The prints of this process: `begin` at each attempt; any thread may call the other methods."""

    def __init__(self, pump: Sequence[str] = PUMP, parent: PumpParent | None = None) -> None:
        """`pump` is the command of a pump; `parent` begins those of all attempts but the first, if it can."""
        self._command, self._parent, self._attempts = pump, parent, 0
        self._path: Path | None = None
        self._worker = self._pumps = 0
        self._pipe: tuple[int, int] | None = None
        self._mending = threading.Lock()
        self._flush_c: Callable[[], object] | None = None

    def begin(self, path: Path) -> None:
        """Print into the file at `path` from now on. A worker that cannot start a pump prints into nothing."""
        if self._flush_c is None:
            self._flush_c = _line_buffered_c()
        self._flush()
        with self._mending:
            self._path, self._worker, self._pumps = path, os.getpid(), 0
            self._attempts += 1
            self._start(STANDARD, self._pipe_of_an_attempt)
        # Anew for each attempt: the code of the last one may have set others.
        sys.stdout, sys.stderr = (_stream(number, self.mend) for number in STANDARD)

    def mend(self) -> None:
        """Begin another pump if the last one has died."""
        if self._path is None or not self._is_broken() or not self._mending.acquire(timeout=MEND_WITHIN_S):
            return
        try:
            numbers = [number for number in STANDARD if self._is_ours(number)]
            if not self._is_broken():
                return  # another thread was first
            if os.getpid() != self._worker or self._pumps >= MAX_PUMPS:
                self._print_into_nothing(numbers)
            else:
                self._start(numbers, self._pipe_to_a_pump)
        finally:
            self._mending.release()

    def settle(self) -> None:
        """Wait a moment until the pump has taken all prints. The last ones belong to the error that comes next."""
        if self._path is None:
            return
        self._flush()
        self.mend()
        until_s = time.monotonic() + SETTLE_S
        # What waits in a pipe without a reader is lost.
        while self._has_unread() and not self._is_broken() and time.monotonic() < until_s:
            time.sleep(POLL_S)

    def _flush(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            # A user's code may have put anything there.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        if self._flush_c is not None:
            self._flush_c()

    def _start(self, numbers: Sequence[int], begin: Callable[[], int]) -> None:
        self._pumps += 1
        try:
            writes = begin()
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            if not self._is_broken():
                # The file of the last attempt, or Ray's, has this sentence.
                LOG.warning("the trial's prints are lost: %s", error)
            self._print_into_nothing(numbers)
            return
        found = os.fstat(writes)
        self._pipe = found.st_dev, found.st_ino
        _lead(numbers, writes)

    def _pipe_of_an_attempt(self) -> int:
        """Return the end of a pipe to write to, of an attempt's first pump. Raises as `_pipe_to_a_pump` does."""
        # Only a worker that is used again keeps a parent: for one pump it would be one process more.
        if self._parent is not None and self._attempts > 1:
            with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
                return _pipe_of(partial(self._parent.begin, Path(str(self._path))))
        return self._pipe_to_a_pump()

    def _pipe_to_a_pump(self) -> int:
        """Return the end of a pipe to write to, of a new pump. Raises OSError and the errors of subprocess.Popen."""
        command, environment = (*self._command, str(self._path)), environment_of_pumps()
        return _pipe_of(lambda reads: begin_beside(command, reads, environment))

    def _print_into_nothing(self, numbers: Sequence[int]) -> None:
        self._path = None
        with contextlib.suppress(OSError):
            _lead(numbers, os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))

    def _is_ours(self, number: int) -> bool:
        """Return whether a descriptor leads to the pump: a user's code may have sent it elsewhere."""
        try:
            found = os.fstat(number)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._pipe

    def _is_broken(self) -> bool:
        """Return whether a descriptor of ours has no reader any more."""
        look = select.poll()
        for number in STANDARD:
            if self._is_ours(number):
                look.register(number, 0)
        return bool(look.poll(0))

    def _has_unread(self) -> bool:
        for number in STANDARD:
            if self._is_ours(number):
                with contextlib.suppress(OSError):
                    return any(fcntl.ioctl(number, termios.FIONREAD, bytes(4)))
        return False


class _Descriptor(io.FileIO):
    """Writes to descriptor 1 or 2; where its pump has died, to the next one."""

    def __init__(self, number: int, mend: Callable[[], None]) -> None:
        super().__init__(number, "wb", closefd=False)
        self._mend = mend

    def write(self, data: Any, /) -> int:
        left = memoryview(data).cast("B")
        whole = len(left)
        while left:
            try:
                left = left[self._some(left) :]
            except BrokenPipeError:
                self._mend()
                with contextlib.suppress(BrokenPipeError):
                    left = left[self._some(left) :]
                    continue
                break  # the next pump died at once: these bytes are lost, and nothing else
        return whole

    def _some(self, data: memoryview) -> int:
        """Write a part of `data`; return its size. Raises BrokenPipeError."""
        # A child may have made the pipe, which it shares, one that does not wait (Node.js does).
        while (written := super().write(data)) is None:
            select.select([], [self], [], WRITABLE_WITHIN_S)
        return written


def _pipe_of(begin: Callable[[int], object]) -> int:
    """Return the end to write to of a pipe that `begin` gives a reader. Raises what it raises."""
    reads, writes = os.pipe()
    try:
        begin(reads)
    except BaseException:
        os.close(writes)
        raise
    finally:
        os.close(reads)
    return writes


def _stream(number: int, mend: Callable[[], None]) -> TextIO:
    """Return an unbuffered text stream: of a worker that is killed no print may be left in its memory."""
    raw = _Descriptor(number, mend)
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)


def _lead(numbers: Sequence[int], descriptor: int) -> None:
    """Make `numbers` lead where `descriptor` does, and close it."""
    for number in numbers:
        os.dup2(descriptor, number)
    os.close(descriptor)


def _line_buffered_c() -> Callable[[], object]:
    """Make C's own `stdout` line-buffered; return a function that flushes it. Into a pipe it would keep 4 KiB back."""
    library = ctypes.CDLL(None)
    for name in ("stdout", "__stdoutp"):  # of Linux, of macOS
        try:
            stream = ctypes.c_void_p.in_dll(library, name)
        except ValueError:
            continue
        library.setvbuf(stream, None, LINE_BUFFERED, ctypes.c_size_t(0))
        # Not all streams at once: a thread that reads from one of them holds its lock.
        return partial(library.fflush, stream)
    return int


PRINTS = WorkerPrints(parent=PumpParent())
"""The descriptors are the process's, so there is one of it."""
