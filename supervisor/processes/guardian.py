"""Runs a command and ends its process group when the parent process dies. Standard library only.

`ray start --block` does not notice that the daemon was killed: its dozen processes would hold memory and ports for
ever. So the daemon starts this small process instead and holds the other end of its standard input. End of file there
means that the daemon has died; then the command's process group is ended, by TERM, then by KILL.

    python -P -m supervisor.processes.guardian GRACE_S COMMAND [ARG ...]

The first line on standard output is the command's pid, which is also its process group. The guardian ends with the
command's exit status.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time

_LOOK_S = 30.0
"""Bounds a wait that its three ends wake by themselves."""


def end_group(group: int, grace_s: float) -> None:
    """End a process group by TERM, and by KILL after `grace_s` seconds. It may have ended already.

    Raises ValueError for 0 and 1: killpg(2) takes them for the caller's own group and for all processes.
    """
    if group <= 1:
        raise ValueError(f"expected the process group of a child, found {group}")
    deadline = time.monotonic() + grace_s
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGTERM)
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.05)
        os.killpg(group, signal.SIGKILL)


def status_text(returncode: int) -> str:
    """Return an exit status in words: "exit code 1", "signal SIGKILL"."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"signal {signal.Signals(-returncode).name}"
    except ValueError:
        return f"signal {-returncode}"


def main(argv: list[str]) -> int:
    if len(argv) < 2:
        print("usage: python -m supervisor.processes.guardian GRACE_S COMMAND [ARG ...]", file=sys.stderr)
        return 2
    grace_s, command = float(argv[0]), argv[1:]
    signals: list[int] = []
    # Before the command starts: a TERM in between would end the guardian only.
    signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
    woken = _wake_by_signals()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True) as child:
        print(child.pid, flush=True)
        while child.poll() is None and not signals:
            ready = select.select([0, woken], [], [], _LOOK_S)[0]
            if woken in ready:
                os.read(woken, 1024)
            if 0 in ready and not os.read(0, 1024):
                break
        _end(child, grace_s)
        return child.wait()


def _wake_by_signals() -> int:
    """Return a descriptor that can be read after a signal, the end of a child among them: select() alone goes on."""
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    return woken


def _end(child: subprocess.Popen[bytes], grace_s: float) -> None:
    """End the child's group; reap the child first, since a zombie would pass for a live member of the group."""
    deadline = time.monotonic() + grace_s
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(grace_s)
    end_group(child.pid, deadline - time.monotonic())


def exit_as(status: int) -> None:
    """End this process as another ended: by exit code, or by signal (negative)."""
    if status < 0:
        with contextlib.suppress(OSError):
            # KILL and STOP have no handler to reset.
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    exit_as(main(sys.argv[1:]))
