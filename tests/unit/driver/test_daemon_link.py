"""The driver's end of the pipes."""

from __future__ import annotations

import os
import threading

import pytest

from actors.driver.daemon_link import DaemonLink
from supervisor.domain.codec import MAX_LINE_BYTES, LinkError, decode, encode
from supervisor.domain.messages import Ack, Commanded, ExperimentEnded, Finish, Heartbeat, ResultReported


@pytest.fixture
def pipes():
    """(link, the daemon's reading end, the daemon's writing end)"""
    to_driver, write = os.pipe()
    read, from_driver = os.pipe()
    stream = os.fdopen(read, "rb")
    yield DaemonLink(to_driver, from_driver), stream, write
    stream.close()
    os.close(from_driver)


def test_a_message_is_kept_until_it_is_acknowledged(pipes):
    link, daemon_reads, daemon_writes = pipes
    link.send(ExperimentEnded(None))
    message, number = decode(daemon_reads.readline())
    assert message == ExperimentEnded(None)
    assert link.wait_until_acknowledged(0.0) == 1
    eof = threading.Event()
    thread = link.receive(lambda message: None, eof.set)
    os.write(daemon_writes, encode(Ack(number)))
    assert link.wait_until_acknowledged(10.0) == 0
    os.close(daemon_writes)
    thread.join(10)
    assert eof.is_set()


def test_a_heartbeat_asks_for_no_acknowledgement(pipes):
    link, daemon_reads, daemon_writes = pipes
    link.send(Heartbeat())
    assert decode(daemon_reads.readline()) == (Heartbeat(), None)
    assert link.wait_until_acknowledged(0.0) == 0
    os.close(daemon_writes)


def test_a_message_that_cannot_be_sent_waits_for_no_acknowledgement(pipes):
    link, daemon_reads, daemon_writes = pipes
    with pytest.raises(TypeError, match="not JSON serializable"):
        link.send(ResultReported(0, 1, 1, 0.5, {"x": object()}, None))
    with pytest.raises(LinkError, match="over the bound"):
        link.send(ResultReported(0, 1, 1, 0.5, {"x": "x" * MAX_LINE_BYTES}, None))
    assert link.wait_until_acknowledged(0.0) == 0
    link.send(ExperimentEnded(None))
    assert decode(daemon_reads.readline())[0] == ExperimentEnded(None)
    os.close(daemon_writes)


def test_messages_arrive_in_order_and_end_of_file_last(pipes):
    link, _, daemon_writes = pipes
    heard = []
    sent = [Commanded([]), Finish("enough")]
    os.write(daemon_writes, b"".join(encode(message) for message in sent))
    os.close(daemon_writes)
    link.receive(heard.append, lambda: heard.append("eof")).join(10)
    assert heard == [*sent, "eof"]


def test_a_line_that_is_no_message_is_the_end(pipes):
    """The two sides do not fit: going on would be guessing."""
    link, _, daemon_writes = pipes
    heard = []
    os.write(daemon_writes, b"hello\n" + encode(Finish("x")))
    link.receive(heard.append, lambda: heard.append("eof")).join(10)
    assert heard == ["eof"]
    os.close(daemon_writes)


def test_sending_to_a_daemon_that_died_does_not_raise():
    """End of file ends the driver; a thread that sends in that moment must not crash first."""
    to_driver, write = os.pipe()
    read, from_driver = os.pipe()
    os.close(read)
    link = DaemonLink(to_driver, from_driver)
    link.send(ExperimentEnded(None))
    assert link.wait_until_acknowledged(0.0) == 1
    for descriptor in (to_driver, write, from_driver):
        os.close(descriptor)
