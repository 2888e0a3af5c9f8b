"""What docs/security.md promises, seen from outside: a home's modes, a run's listening sockets and environments."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from supervisor.home import Home
from supervisor.processes import orphans
from tests.acceptance.conftest import Sweep
from tests.acceptance.faults.evidence import told
from tests.acceptance.lives import Setting, life, living, until_told

LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")


def open_to_others(folder: Path) -> Iterator[str]:
    """Everything below that group or others may touch."""
    for path in (folder, *folder.rglob("*")):
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode) and stat.S_IMODE(mode) & 0o077:
            yield f"{path} {stat.S_IMODE(mode):o}"


@pytest.mark.parametrize("umask", [0o022, 0o000])
def test_nothing_in_a_home_is_open_to_others_during_a_life_and_after_it(home: Home, umask: int) -> None:
    """Whatever the umask that the daemon was started with."""
    home.root.chmod(0o700)
    before = os.umask(umask)
    try:
        with living(home, Setting(pause_s=0.2)) as it:
            until_told(home, "trial.reported")
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
    assert [event["uid"] for event in told(home) if event["event"] == "daemon.privileged"] == [0]
    assert "running as root" in (home.root / "life.log").read_text()


SECRET = "s3cr3t-of-the-operator"


def test_a_real_run_listens_on_loopback_only_wants_its_token_and_hands_no_secret_on(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the head, its servers, the driver and the workers: every one that bears the run's mark."""
    monkeypatch.setenv("OPERATORS_API_KEY", SECRET)
    started = sweep.d("start", sweep.plan("guarded", max_trials=4, pause_s=1.0))
    assert started.returncode == 0, started.stderr
    if os.geteuid() == 0:
        assert "running as root" in started.stderr
    view = sweep.until("a trial reports", lambda view: any(t["results"] for t in view["experiments"][0]["trials"]))
    family = [psutil.Process(view["daemon"]["pid"]), *orphans.find(sweep.home.key)]
    names = {process.name() for process in family}
    assert {"gcs_server", "raylet"} <= names, names
    listening = {
        (process.name(), connection.laddr.ip)
        for process in family
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening, "there is something to look at"
    assert {found for found in listening if found[1] not in LOOPBACK} == set()
    assert not [c for c in family[0].net_connections(kind="inet") if c.status == psutil.CONN_LISTEN], "the daemon: none"
    for process in family[1:]:
        environment = process.environ()
        assert SECRET not in environment.values()
        assert environment["RAY_AUTH_MODE"] == "token"
    assert sweep.home.ray_token.stat().st_mode & 0o077 == 0
    assert list(open_to_others(sweep.home.root)) == []
    written = [path for folder in (sweep.home.logs, sweep.home.runs) for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]
    assert sweep.ctl("shutdown").returncode == 0
