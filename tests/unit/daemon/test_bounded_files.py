"""A log that a child writes itself stays within its bound, and the child notices nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from supervisor.daemon.upkeep.bounded_files import keep_bounded


def test_a_log_past_its_bound_keeps_its_last_half_and_its_writer_goes_on_at_the_beginning(tmp_path: Path) -> None:
    path = tmp_path / "driver.log"
    program = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"
    with path.open("ab") as log:
        child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=log, bufsize=0)
    assert child.stdin is not None
    child.stdin.write(b"".join(b"%04d\n" % number for number in range(100)))
    while path.stat().st_size < 500:
        pass
    assert not keep_bounded(path, 500)
    assert keep_bounded(path, 499)
    child.stdin.write(b"after\n")
    child.stdin.close()
    child.wait(10)
    assert path.read_bytes() == b"after\n"
    assert (tmp_path / "driver.log.1").read_bytes().endswith(b"0098\n0099\n")
    assert (tmp_path / "driver.log.1").stat().st_size == 249


def test_a_log_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert not keep_bounded(tmp_path / "driver.log")
