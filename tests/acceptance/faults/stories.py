"""Make drivers with stories of their own and changed lives, for tests of faults."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from supervisor.control.client import ask
from supervisor.daemon import assembly
from supervisor.errors import NotRunning
from supervisor.home import Home
from supervisor.processes import orphans
from supervisor.processes.driver_process import DriverProcess
from tests.acceptance import lives
from tests.acceptance.lives import (
    DRIVER,
    Life,
    Setting,
    living,
)
from tests.waits import NET_S

_BETWEEN = '        time.sleep(float(os.environ.get("SWEEP_TEST_PAUSE_S", 0)))\n'
_FIRST = "known = {"
END_ORPHANS = orphans.end
"""The real function; lives replace it, because their processes have no mark."""


def story(at: str) -> str:
    """Return the usual driver with a call of `at(number, attempt, step)` before each report.

    `at` is the function's source.
    """
    assert _BETWEEN in DRIVER
    program = DRIVER.replace(_BETWEEN, "        at(number, attempt, step)\n")
    return program.replace(_FIRST, f"{at}\n{_FIRST}", 1)


ONCE = """
def once(name):
    "Whether this is the first time, over all drivers of the run."
    try:
        (folder / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
"""


def patience(seconds: float, program: str) -> Callable[[], None]:
    """Return a change by which a driver counts as hung after so many seconds of silence."""

    def change() -> None:
        assembly.DriverProcess = lambda environment, log: DriverProcess(  # type: ignore[misc, assignment]
            dict(os.environ), log, seconds, (lives.sys.executable, "-c", program)
        )

    return change


def finishes(home: Home, it: Life) -> None:
    """Wait until the life ends its run, with exit code 0."""
    assert it.ended()[0] == 0, (home.root / "life.log").read_text()


def live_to_the_end(home: Home, setting: Setting | None = None) -> None:
    with living(home, setting or Setting()) as it:
        finishes(home, it)


def status(home: Home) -> dict[str, Any] | None:
    """Return the daemon's status; None while no daemon answers."""
    try:
        return ask(home, "status", query="?trials=1")
    except NotRunning:
        return None


def is_gone(pid: int) -> bool:
    """Return True if a process has ended, also if its parent has not reaped it yet."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def control(home: Home, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `sweepctl` as a user types it."""
    return subprocess.run(
        [Path(sys.executable).with_name("sweepctl"), *arguments], env={**os.environ, "SWEEP_HOME": str(home.root)},
        capture_output=True, text=True, timeout=NET_S, check=False,
    )  # fmt: skip
