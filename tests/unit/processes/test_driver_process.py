"""A message to a driver that has ended is dropped, not written into another file."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from pathlib import Path

import pytest

from supervisor.domain import codec, messages
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


def on_a_pipe(driver: DriverProcess) -> int:
    """Give the driver a pipe instead of a process; return the end to read from."""
    reads, writes = os.pipe()
    driver._pipe = io.FileIO(writes, "wb")
    return reads


def finishes(reads: int, count: int) -> list[str]:
    """The reasons of the messages that come, in their order."""
    with os.fdopen(reads, "rb") as stream:
        found = [codec.decode(stream.readline())[0] for _ in range(count)]
    return [message.reason for message in found if isinstance(message, messages.Finish)]


def test_a_short_message_to_a_driver_that_reads_is_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a thread: an acknowledgement of each result would start one."""
    monkeypatch.setattr(asyncio, "to_thread", None)
    driver = DriverProcess({}, tmp_path / "driver.log")
    reads = on_a_pipe(driver)
    asyncio.run(driver.send(messages.Finish("the end")))
    assert finishes(reads, 1) == ["the end"]
    driver._close()


def test_a_short_message_does_not_overtake_a_long_one_that_waits(tmp_path: Path) -> None:
    async def story() -> list[str]:
        driver = DriverProcess({}, tmp_path / "driver.log")
        reads = on_a_pipe(driver)
        sending = [asyncio.create_task(driver.send(messages.Finish(text))) for text in ("x" * 500_000, "a", "b")]
        await asyncio.sleep(0)
        found = await asyncio.to_thread(finishes, reads, 3)
        await asyncio.gather(*sending)
        driver._close()
        return found

    assert [text[:1] for text in asyncio.run(story())] == ["x", "a", "b"]


def test_messages_of_one_call_arrive_in_order_with_none_of_another_between_them(tmp_path: Path) -> None:
    """The parts of a begin: a command between them would be overwritten by the older ones in the begin."""
    driver = DriverProcess({}, tmp_path / "driver.log")
    reads, writes = os.pipe()
    driver._pipe = io.FileIO(writes, "wb")
    parts = [messages.TrialsBefore([{"number": number, "params": "x" * 100_000}]) for number in range(5)]

    async def story() -> list[str]:
        sending = [driver.send(*parts), driver.send(messages.Finish("a command"))]
        reading = asyncio.to_thread(lambda: [stream.readline() for _ in range(6)])
        *_, lines = await asyncio.gather(*sending, reading)
        return [type(codec.decode(line)[0]).__name__ for line in lines]

    with os.fdopen(reads, "rb") as stream:
        assert asyncio.run(story()) == ["TrialsBefore"] * 5 + ["Finish"]
    driver._pipe.close()
