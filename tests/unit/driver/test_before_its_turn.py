"""A driver without its Begin imports its libraries, and ends with its daemon however far it has come."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from actors.driver.__main__ import ORPHANED
from supervisor.domain.codec import decode
from supervisor.domain.messages import Hello
from tests.waits import NET_S


@pytest.mark.parametrize("at_once", [True, False])
def test_it_ends_when_its_daemon_does_before_its_turn(*, at_once: bool) -> None:
    reads, to_driver = os.pipe()
    from_driver, writes = os.pipe()
    command = [sys.executable, "-P", "-m", "actors.driver", f"--read-fd={reads}", f"--write-fd={writes}"]
    with subprocess.Popen(command, pass_fds=(reads, writes), stderr=subprocess.DEVNULL) as driver:
        os.close(reads)
        os.close(writes)
        with os.fdopen(from_driver, "rb") as stream:
            if not at_once:
                assert decode(stream.readline())[0] == Hello()
            os.close(to_driver)
            assert driver.wait(NET_S) == ORPHANED
