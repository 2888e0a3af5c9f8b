"""What process 1 of a container owes the rest: it reaps whoever is orphaned, and hands on the signals that it gets.

The kernel gives process 1 every orphan of its namespace, and no default action for a signal (pid_namespaces(7)). The
daemon reaps its own children only, so as process 1 it stays this, and the daemon is its child. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence

HANDED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR2)
_SIGNALLED = 128


def run(command: Sequence[str]) -> int:
    """Runs `command` to its end; its exit status as a shell has it: 128 and the signal's number for one killed.

    Raises OSError when it cannot be started.
    """
    early: list[int] = []
    child: int | None = None

    def hand_on(number: int, _frame: object) -> None:
        if child is None:
            early.append(number)
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for number in HANDED_ON:
        signal.signal(number, hand_on)
    child = os.posix_spawn(command[0], list(command), os.environ)
    for missed in early:
        os.kill(child, missed)
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else _SIGNALLED - code
