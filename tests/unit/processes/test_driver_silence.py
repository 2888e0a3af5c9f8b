"""Time in which the daemon itself is suspended does not count as a driver's silence."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest

from supervisor.processes.driver_process import within

IS_SUSPENDED = """
import asyncio, sys
from supervisor.processes.driver_process import within

async def work():
    # Due while this process is suspended; done only a moment after it continues.
    await asyncio.sleep(0.5)
    await asyncio.sleep(0.1)
    return 7

print("up", flush=True)
print(asyncio.run(within(1.0, work())))
"""


def test_the_result_of_work_in_time_is_returned() -> None:
    async def work() -> int:
        await asyncio.sleep(0.01)
        return 7

    assert asyncio.run(within(600.0, work())) == 7


def test_an_error_of_the_work_is_raised() -> None:
    async def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(within(600.0, work()))


def test_work_that_takes_longer_is_cancelled() -> None:
    cancelled = []

    async def work() -> None:
        try:
            await asyncio.sleep(600.0)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    with pytest.raises(TimeoutError, match=r"0.2 s"):
        asyncio.run(within(0.2, work()))
    assert cancelled == [True]


def test_time_in_which_the_process_was_suspended_is_given_again() -> None:
    """The process is stopped for longer than the limit; the work ends a moment after it continues, in time."""
    with subprocess.Popen([sys.executable, "-c", IS_SUSPENDED], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(1.5)
        os.kill(process.pid, signal.SIGCONT)
        said, _ = process.communicate(timeout=200)
    assert (said, process.returncode) == ("7\n", 0)
