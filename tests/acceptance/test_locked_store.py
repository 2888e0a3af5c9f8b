"""Hold the store from another program: the daemon reports it, waits, and continues."""

from __future__ import annotations

import contextlib
import sqlite3
import time

import pytest

from supervisor.control.client import ask
from supervisor.domain.lifecycle import ProcessState
from supervisor.errors import NotRunning, SlowAnswer
from supervisor.home import Home
from tests.acceptance.lives import Setting, check_everything, living, until_recorded


@pytest.mark.fault(
    "38",
    "another program locks the store for writing",
    "`status` is answered and says so, the driver's messages wait; then the same daemon and driver continue",
)
def test_a_store_that_another_program_locks_delays_the_run_and_ends_nothing(home: Home) -> None:
    with living(home, Setting(pause_s=0.3)) as it:
        until_recorded(home, "trial.reported")
        with contextlib.closing(sqlite3.connect(home.store, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert any(is_degraded(home) for _ in range(60))
            other.execute("ROLLBACK")
        assert it.ended() == (0, False)
    names = [event["event"] for event in check_everything(home)]
    assert (names.count("daemon.started"), names.count("driver.started")) == (1, 1)
    assert "disk.filled" not in names


def is_degraded(home: Home) -> bool:
    """Return True if `status`, which is answered all the while, says that the store is held."""
    time.sleep(0.2)
    with contextlib.suppress(NotRunning, SlowAnswer):
        view = ask(home, "status", deadline_s=30.0)
        assert view["run"]["state"] == ProcessState.RUNNING
        return bool(view["store_locked"])
    return False
