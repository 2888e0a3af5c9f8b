"""Runs `status --watch`: the status in place on a terminal, with keys that pause and resume. Standard library only."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from supervisor.cli import status_text
from supervisor.cli.attention import painted
from supervisor.cli.watch import DUMB_COLUMNS, coloured, columns_of, view_of
from supervisor.control.client import ask
from supervisor.errors import SweepError, UsageError
from supervisor.formatting import fitted, one_line
from supervisor.home import Home

PERIOD_S = 1.0
"""The time between two questions to the daemon."""
STORE_PERIOD_S = 5.0
"""The time between two looks into the store while no daemon lives: each reads all trials."""
DUMB_ROWS = 24
"""For a terminal that does not know its size."""
KEYS = "p pauses, r resumes, q quits"
REASON = "key p of status --watch"
# As in ECMA-48 and xterm's "ctlseqs": another screen with a hidden cursor, and back.
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_TOP, _END_OF_LINE, _BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_DIM = "2"


def watch(home: Home) -> int:
    """Show the status until q or Ctrl-C; then leave the last one on the terminal.

    Raises UsageError without a terminal, and what `status` raises where there is no run.
    """
    if not sys.stdout.isatty():
        raise UsageError(
            "--watch expected a terminal, found a pipe or a file",
            remedy="leave it out for one status, or follow the events with `supervisorctl tail -f`",
        )
    screen = Screen(home)
    with _own_screen(), _single_keys() as key_within, contextlib.suppress(KeyboardInterrupt):
        while True:
            size = os.get_terminal_size(sys.stdout.fileno())
            _show(screen.lines(size.columns or DUMB_COLUMNS, size.lines or DUMB_ROWS))
            key = key_within(screen.period_s)
            if key in ("q", "\x04"):
                break
            screen.press(key)
            screen.read()
    print(screen.text(columns_of(sys.stdout)))
    return 0


class Screen:
    """Holds the last view of a run, what came of the last key, and why the last question failed."""

    def __init__(self, home: Home) -> None:
        """Read the first view. Raises SweepError without one."""
        self._home, self._came_to, self._trouble = home, "", ""
        self._view = view_of(home)

    @property
    def period_s(self) -> float:
        return PERIOD_S if self._view.get("daemon") else STORE_PERIOD_S

    def read(self) -> None:
        """Read the view anew; where that fails keep the last one, and say why."""
        try:
            self._view, self._trouble = view_of(self._home), ""
        except SweepError as error:
            self._trouble = error.message

    def press(self, key: str | None) -> None:
        """Do what a key stands for; the last line says what came of it."""
        if key is None:
            return
        try:
            self._came_to = self._done(key)
        except SweepError as error:
            self._came_to = error.message

    def _done(self, key: str) -> str:
        if key == "p":
            ask(self._home, "pause", {"target": None, "now": False, "reason": REASON, "node": None})
            return "paused: no new trials; running ones finish"
        if key == "r":
            lifted = ask(self._home, "resume", {"target": None, "node": None, "force": False})["lifted"]
            return "resumed" if lifted else "nothing to resume: no pause of an operator holds the run"
        return ""

    def text(self, columns: int | None) -> str:
        """Return the status, and why no daemon lives where none does."""
        why = self._view.get("why_no_daemon")
        shown = status_text.status(self._view, columns, colour=coloured(sys.stdout), sparklines=True)
        return shown if why is None else f"{shown}\n{why}"

    def lines(self, columns: int, rows: int) -> list[str]:
        """Return at most `rows` lines: as much of the status as fits, and last the keys and what came of them."""
        lines, room = self.text(columns).split("\n"), max(1, rows - 1)
        if len(lines) > room:
            lines = [*lines[: room - 1], f"... and {len(lines) - room + 1} more lines; make the window higher"]
        words = [time.strftime("%H:%M:%S"), KEYS, one_line(self._trouble or self._came_to)]
        footer = "  ".join(words).rstrip()
        return [*lines, painted(fitted(footer, columns), _DIM, coloured(sys.stdout))]


def _show(lines: Sequence[str]) -> None:
    sys.stdout.write(_TOP + f"{_END_OF_LINE}\n".join(lines) + _END_OF_LINE + _BELOW)
    sys.stdout.flush()


@contextlib.contextmanager
def _own_screen() -> Iterator[None]:
    # SIGTERM, too, leaves the terminal as it was.
    kept = signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.stdout.write(_ENTER)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, kept)
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()


@contextlib.contextmanager
def _single_keys() -> Iterator[Callable[[float], str | None]]:
    """Read keys without Enter; yield a function that waits so many seconds for one. Without a terminal none comes."""
    if not sys.stdin.isatty():
        yield _no_key
        return
    import termios
    import tty

    kept = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield _key_within
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, kept)


def _no_key(seconds: float) -> None:
    time.sleep(seconds)


def _key_within(seconds: float) -> str | None:
    ready: Any = select.select([sys.stdin], [], [], seconds)[0]
    # An end of the input is no key, and would come at once each time: it ends the watch as q does.
    return (os.read(sys.stdin.fileno(), 1).decode("ascii", "replace") or "q") if ready else None
