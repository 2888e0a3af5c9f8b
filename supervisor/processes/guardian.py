"""Runs a command that would outlive its parent, and ends it when the parent dies. Standard library only.

`ray start --block` does not notice that the daemon was killed: its dozen processes would hold memory and ports for
ever. So the daemon starts this little process instead and keeps the other end of its standard input: end of file
there means that the daemon is gone, and the command's whole process group is ended, by TERM, then by KILL.

    python -P -m supervisor.processes.guardian GRACE_S COMMAND [ARG ...]

The first line on standard output is the command's pid (which is its process group). Exits as the command does.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time


def end_group(group: int, grace_s: float) -> None:
    """TERM, then KILL what is left after `grace_s` seconds. A group that is gone already is fine.

    Raises ValueError for 0 and 1: killpg(2) would take them for the caller's own group and for everybody.
    """
    if group <= 1:
        raise ValueError(f"{group} is not the process group of a child")
    deadline = time.monotonic() + grace_s
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGTERM)
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.05)
        os.killpg(group, signal.SIGKILL)


def main(argv: list[str]) -> int:
    if len(argv) < 2:
        print("usage: python -m supervisor.processes.guardian GRACE_S COMMAND [ARG ...]", file=sys.stderr)
        return 2
    grace_s, command = float(argv[0]), argv[1:]
    asked = False

    def ask(*_: object) -> None:
        nonlocal asked
        asked = True

    # Before the command starts, or a TERM in between would leave it behind.
    signal.signal(signal.SIGTERM, ask)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True) as child:
        print(child.pid, flush=True)
        while child.poll() is None and not asked:
            # A timeout, because a pipe cannot wake us when the command ends.
            if select.select([0], [], [], 0.2)[0] and not os.read(0, 1024):
                break
        _end(child, grace_s)
        return child.wait()


def _end(child: subprocess.Popen[bytes], grace_s: float) -> None:
    """As `end_group`, but the command itself is waited for: dead and unreaped, it would pass for a live member."""
    deadline = time.monotonic() + grace_s
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(grace_s)
    end_group(child.pid, deadline - time.monotonic())


def status_text(returncode: int) -> str:
    """Return an exit status in words: "exit code 1", "signal SIGKILL"."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"signal {signal.Signals(-returncode).name}"
    except ValueError:
        return f"signal {-returncode}"


def exit_as(status: int) -> None:
    """Ends this process as another ended: by `status`, or by the signal that a negative one names."""
    if status < 0:
        with contextlib.suppress(OSError):
            # KILL and STOP have no handler to reset.
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    exit_as(main(sys.argv[1:]))
