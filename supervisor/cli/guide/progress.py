"""Shows that a command works, on what and for how long. Standard library only, and little of it."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

TICK_S = 0.5
QUIET_S = 1.0
"""The time after which the line appears on a terminal: shorter work needs none."""
SILENT_S = 2.0
"""The longest that quick work is silent where there is no terminal."""


class Working:
    """Holds the words of a line; the work that it shows may change them."""

    def __init__(self, what: str | Callable[[], str], elsewhere: TextIO | None) -> None:
        """`elsewhere` is where no line is kept up to date; it gets the first words only."""
        self._what, self._elsewhere = what, elsewhere
        self._lock = threading.Lock()

    def __call__(self, what: str) -> None:
        """Show other words from now on, such as "step 3 of 12"."""
        self._what = what
        self.print_once()

    def print_once(self) -> None:
        """Print the words once, where no line is kept up to date."""
        with self._lock:
            out, self._elsewhere = self._elsewhere, None
        if out is not None:
            with contextlib.suppress(OSError, ValueError):
                # A reader that has gone ends the line, not the work.
                print(f"{self.words()} ...", file=out, flush=True)

    def words(self) -> str:
        """Return the words of this moment."""
        return self._what if isinstance(self._what, str) else self._what()


@contextlib.contextmanager
def working(
    what: str | Callable[[], str],
    stream: TextIO | None = None,
    monotonic: Callable[[], float] = time.monotonic,
    *,
    quick: bool = False,
) -> Iterator[Working]:
    """Show `what` and the seconds on a terminal while the block runs; elsewhere print one line.

    The line is on standard error, or on `stream`, and is wiped at the end: the output of the command stays as it was.
    `what` may be a function that is asked again for each line. `quick` work is short as a rule: elsewhere the line is
    printed only after SILENT_S, or once the work itself says more.
    """
    out = stream or sys.stderr
    if not out.isatty():
        said = Working(what, out)
        if not quick:
            said.print_once()
        late = threading.Timer(SILENT_S, said.print_once)
        late.daemon = True
        late.start()
        try:
            yield said
        finally:
            late.cancel()
        return
    said = Working(what, None)
    ended = threading.Event()
    ticker = threading.Thread(target=_tick, args=(out, said, ended, monotonic), daemon=True)
    ticker.start()
    try:
        yield said
    finally:
        ended.set()
        ticker.join()


def _tick(out: TextIO, said: Working, ended: threading.Event, monotonic: Callable[[], float]) -> None:
    begun_s, used = monotonic(), 0
    if ended.wait(QUIET_S):
        return
    with contextlib.suppress(OSError, ValueError):
        # A terminal that was closed ends the line, not the work.
        while True:
            line = f"{said.words()} ... {monotonic() - begun_s:.0f} s"[: _columns(out)]
            out.write(f"\r{line}{' ' * max(0, used - len(line))}")
            out.flush()
            used = len(line)
            if ended.wait(TICK_S):
                break
        out.write(f"\r{' ' * used}\r")
        out.flush()


def _columns(out: TextIO) -> int:
    """Return the columns that a line may take: a full one would move the cursor to the next line."""
    import os

    try:
        return max(20, os.get_terminal_size(out.fileno()).columns - 1)
    except (OSError, ValueError):
        return 79
