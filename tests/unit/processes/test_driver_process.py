"""A message to a driver that has ended is dropped, not written into another file."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from pathlib import Path

from supervisor.domain import messages
from supervisor.processes.driver_process import DriverProcess
from tests.waits import until


def test_a_message_that_waited_while_the_pipe_was_closed_is_not_written(tmp_path: Path) -> None:
    driver = DriverProcess({}, tmp_path / "driver.log")
    reads, writes = os.pipe()
    pipe = io.FileIO(writes, "wb")
    pipe.close()
    with (tmp_path / "store").open("wb", buffering=0) as store:
        assert store.fileno() == writes, "another file has the number now"
        driver._pipe = pipe
        asyncio.run(driver.send(messages.Finish("the end")))
        assert (tmp_path / "store").read_bytes() == b""
    os.close(reads)


def test_a_message_to_a_driver_that_has_ended_is_no_error(tmp_path: Path) -> None:
    driver = DriverProcess({}, tmp_path / "driver.log")
    reads, writes = os.pipe()
    driver._pipe = io.FileIO(writes, "wb")
    os.close(reads)
    asyncio.run(driver.send(messages.Finish("the end")))
    driver._close()
    asyncio.run(driver.send(messages.Finish("the end")))


NEVER_READS = "import os, time; os.write(1, b'up'); time.sleep(600)"


def test_a_driver_that_is_killed_during_a_write_to_it_makes_no_error_of_the_write(tmp_path: Path) -> None:
    """The message is larger than the pipe, so the write waits until the kill ends it."""

    async def story() -> None:
        driver = DriverProcess(dict(os.environ), tmp_path / "driver.log", command=(sys.executable, "-c", NEVER_READS))
        await driver.spawn()
        sending = asyncio.create_task(driver.send(messages.Finish("x" * 500_000)))
        await asyncio.to_thread(until, "the driver's output", (tmp_path / "driver.log").read_text)
        assert not sending.done()
        await driver.kill()
        await sending

    asyncio.run(story())
