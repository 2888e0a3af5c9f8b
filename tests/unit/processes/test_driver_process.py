"""A message to a driver that has ended is dropped, not written into another file."""

from __future__ import annotations

import asyncio
import io
import os
from pathlib import Path

from supervisor.domain import messages
from supervisor.processes.driver_process import DriverProcess


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
