"""A driver without its Begin imports its libraries, and ends with its daemon however far it has come."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

from actors.driver.__main__ import ORPHANED, Driver
from actors.driver.daemon_link import DaemonLink
from supervisor.domain.codec import decode
from supervisor.domain.messages import Begin, Hello, TrialsBefore
from supervisor.domain.trials.begin_parts import in_parts
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


def test_the_parts_of_its_begin_are_one_begin(tmp_path: Path) -> None:
    """However many parts: the daemon splits a begin that does not fit into a line."""
    trials = [{"number": number, "params": {"x": 0.1}, "results": []} for number in range(7)]
    begin = Begin("r", {"name": "e"}, trials, [], "127.0.0.1:1", str(tmp_path), {"policy": {}})
    driver = Driver(cast(DaemonLink, None))
    parts = list(in_parts(begin, part_bytes=1_200))
    assert [type(part) for part in parts] == [TrialsBefore, TrialsBefore, TrialsBefore, Begin]
    for part in parts:
        driver.on_message(part)
    assert driver._begin == begin
