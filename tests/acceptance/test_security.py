"""Check the promises of docs/security.md about a home; test_way_through checks a real run's processes."""

from __future__ import annotations

import os
import stat

import pytest

from supervisor.home import Home
from tests.acceptance.faults.evidence import open_to_others, recorded
from tests.acceptance.lives import Setting, life, living, until_recorded


@pytest.mark.parametrize("umask", [0o022, 0o000])
def test_nothing_in_a_home_is_open_to_others_during_a_life_and_after_it(home: Home, umask: int) -> None:
    """Whatever the umask that the daemon was started with."""
    home.root.chmod(0o700)
    before = os.umask(umask)
    try:
        with living(home, Setting(pause_s=0.2)) as it:
            until_recorded(home, "trial.reported")
            assert list(open_to_others(home.runtime())) == []
            assert stat.S_ISSOCK(home.socket.lstat().st_mode)
            assert it.ended() == (0, False)
    finally:
        os.umask(before)
    (home.root / "life.log").unlink()  # the harness's own
    assert list(open_to_others(home.root)) == []
    assert {"sweep.db", "lock", "reserve"} <= {path.name for path in home.state.iterdir()}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be warned of being root")
def test_a_daemon_of_roots_says_so(home: Home) -> None:
    assert life(home) == (0, False)
    assert [event["uid"] for event in recorded(home) if event["event"] == "daemon.privileged"] == [0]
    assert "running as root" in (home.root / "life.log").read_text()
