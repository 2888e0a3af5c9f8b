"""Sends a worker's prints to a process that writes them into the attempt's file (print_pump).

Descriptors 1 and 2 become a pipe to that process, so that C libraries and children of the worker are heard, too. A
worker is used for several trials: each attempt begins a pump of its own, and the last one ends with the last process
that could still print into it. A pump may die, of a kill or for want of memory; then the next print begins another, and
no print blocks, raises or kills the trial.
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

import supervisor
from supervisor.processes.environment import SERVES

_CODE = f"""import sys
sys.path.append({str(Path(supervisor.__file__).resolve().parents[1])!r})
from supervisor.processes.print_pump import keep
sys.exit(keep(sys.argv[1]))"""
PUMP = (sys.executable, "-I", "-S", "-c", _CODE)
"""Without site: on a busy machine its import takes longer than the pump's own."""
STARTER = ("/bin/sh", "-c", 'trap "" TERM INT HUP; exec 9<&0; "$@" <&9 9<&- &', "sh")
"""Begins the pump beside it and ends at once: the pump is then no child of the worker, which Ray would end with it.

A shell starts much sooner than a Python, and the worker waits for it. It gets the pump's command as its
arguments, never as text of a script.
"""
MAX_PUMPS = 5
"""The most pumps of one attempt: where they die again and again, it prints into nothing."""

STANDARD = (1, 2)
START_WITHIN_S = 30.0
SETTLE_S, POLL_S = 10.0, 0.002
"""The first is for the pump's own start, too, on a busy machine."""
MEND_WITHIN_S = 5.0
WRITABLE_WITHIN_S = 1.0
LINE_BUFFERED = 1
"""_IOLBF of stdio.h: 1 in glibc, musl and macOS."""

LOG = logging.getLogger("trainable")


class WorkerPrints:
    """The prints of this process: `begin` at each attempt; any thread may call the other methods."""

    def __init__(self, pump: Sequence[str] = PUMP) -> None:
        self._command = pump
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
            self._start(STANDARD)
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
                self._start(numbers)
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

    def _start(self, numbers: Sequence[int]) -> None:
        self._pumps += 1
        try:
            writes = self._pipe_to_a_pump()
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            if not self._is_broken():
                # The file of the last attempt, or Ray's, has this sentence.
                LOG.warning("the trial's prints are lost: %s", error)
            self._print_into_nothing(numbers)
            return
        found = os.fstat(writes)
        self._pipe = found.st_dev, found.st_ino
        _lead(numbers, writes)

    def _pipe_to_a_pump(self) -> int:
        """Start a pump; return the end of its pipe to write to. Raises OSError and the errors of subprocess.Popen.

        One that cannot begin is found as one that died is: by its pipe without a reader.
        """
        # An orphan of the home when its worker is one; while workers are at work it is none, though no child of theirs.
        environment = {**os.environ, SERVES: str(os.getpid())}
        reads, writes = os.pipe()
        try:
            process = subprocess.Popen(
                [*STARTER, *self._command, str(self._path)],
                stdin=reads, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
                start_new_session=True,
            )  # fmt: skip
            _wait_for_starter(process)
        except BaseException:
            os.close(writes)
            raise
        finally:
            os.close(reads)
        return writes

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


def _wait_for_starter(process: subprocess.Popen[bytes]) -> None:
    """Wait until the pump's starter, a child of ours, has ended: Ray ends those with their worker. Raises OSError."""
    try:
        status = process.wait(START_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        status = process.wait()
    if status:
        raise OSError(f"the pump could not begin: its starter ended with {status}")


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


PRINTS = WorkerPrints()
"""The descriptors are the process's, so there is one of it."""
