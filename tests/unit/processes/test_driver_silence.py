"""How long a driver may be silent: the time in which the daemon itself stood still counts for a slice at most."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest

from supervisor.processes.driver_process import within

STANDS_STILL = """
import asyncio, sys
from supervisor.processes.driver_process import within

async def work():
    # Due while this process stands still, and done only some moments after it goes on.
    await asyncio.sleep(1.0)
    await asyncio.sleep(0.3)
    return 7

print("up", flush=True)
print(asyncio.run(within(3.0, work())))
"""


def test_what_is_done_in_time_is_handed_on() -> None:
    async def work() -> int:
        await asyncio.sleep(0.01)
        return 7

    assert asyncio.run(within(20.0, work())) == 7


def test_an_error_of_the_work_is_its_own() -> None:
    async def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(within(20.0, work()))


def test_what_takes_longer_is_given_up_and_cancelled() -> None:
    cancelled = []

    async def work() -> None:
        try:
            await asyncio.sleep(60.0)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    with pytest.raises(TimeoutError, match=r"0.2 s"):
        asyncio.run(within(0.2, work()))
    assert cancelled == [True]


def test_a_process_that_stood_still_gives_the_time_again() -> None:
    """Stopped for longer than the limit; the work is done a moment after it goes on, and that is in time."""
    with subprocess.Popen([sys.executable, "-c", STANDS_STILL], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(4.0)
        os.kill(process.pid, signal.SIGCONT)
        said, _ = process.communicate(timeout=60)
    assert (said, process.returncode) == ("7\n", 0)
