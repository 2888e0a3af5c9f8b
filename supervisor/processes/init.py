"""Does the duties of process 1 of a container: reaps orphans and forwards signals. Standard library only.

The kernel gives process 1 every orphan of its namespace, and gives signals to it no default action
(pid_namespaces(7)). The daemon reaps its own children only; in a container this process is 1 and the daemon its child.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR2)
_SIGNALLED = 128


def run(command: Sequence[str]) -> int:
    """Run `command` to its end; return its exit status as a shell does: 128 + number if a signal ended it.

    Raises OSError when it cannot be started.
    """
    early: list[int] = []
    child: int | None = None

    def forward(number: int, _frame: object) -> None:
        if child is None:
            early.append(number)
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for number in FORWARDED:
        signal.signal(number, forward)
    child = os.posix_spawn(command[0], list(command), os.environ)
    for missed in early:
        os.kill(child, missed)
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else _SIGNALLED - code
