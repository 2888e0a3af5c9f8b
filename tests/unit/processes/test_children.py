"""Processes that must not outlive the daemon: the guardian ends a whole group, orphans are known by their mark."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from supervisor.errors import RayStartFailed
from supervisor.home import Home
from supervisor.processes import guardian, orphans, ray_head
from supervisor.processes.environment import ray_environment
from supervisor.processes.guardian import status_text
from supervisor.processes.ray_head import RayHead, free_port

STUBBORN_FAMILY = """
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
pathlib.Path(sys.argv[1] + ".part").write_text(str(child.pid))
pathlib.Path(sys.argv[1] + ".part").rename(sys.argv[1])
time.sleep(60)
"""
"""A command that ignores TERM, and a child of its; the child's pid is in the file that it is given."""


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20.0
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


Keep = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def keep() -> Iterator[Keep]:
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str, grace_s: float = 0.2) -> subprocess.Popen[bytes]:
        started.append(
            subprocess.Popen(
                [sys.executable, "-P", "-m", "supervisor.processes.guardian", str(grace_s), *command],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
            )
        )  # fmt: skip
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def family(keep: Keep, folder: Path) -> tuple[subprocess.Popen[bytes], int, int]:
    """A guardian, its stubborn command, and that one's child."""
    process = keep(sys.executable, "-c", STUBBORN_FAMILY, str(folder / "child"))
    assert process.stdout is not None
    command = int(process.stdout.readline())
    wait_until((folder / "child").exists, "the family is complete")
    return process, command, int((folder / "child").read_text())


@pytest.mark.parametrize("how", ["the daemon's end of its pipe closes", "it is told to end by TERM"])
def test_the_keeper_ends_the_whole_group_of_its_command_when(how: str, keep: Keep, tmp_path: Path) -> None:
    process, command, child = family(keep, tmp_path)
    if "pipe" in how:
        assert process.stdin is not None
        process.stdin.close()
    else:
        process.terminate()
    assert process.wait(20.0) == -signal.SIGKILL, "the command ignored TERM, so it ended by KILL"
    assert is_gone(command)
    wait_until(lambda: is_gone(child), "the child has ended")


@pytest.mark.parametrize("status", [0, 3])
def test_the_keeper_ends_with_its_commands_exit_code(keep: Keep, status: int) -> None:
    assert keep(sys.executable, "-c", f"raise SystemExit({status})").wait(20.0) == status


def test_the_keeper_ends_by_the_signal_that_ended_its_command(keep: Keep) -> None:
    process = keep(sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
    assert process.wait(20.0) == -signal.SIGTERM


def test_what_a_command_leaves_of_its_group_ends_with_it(keep: Keep, tmp_path: Path) -> None:
    script = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid, file=open(sys.argv[1], 'w'))"
    process = keep(sys.executable, "-c", script, str(tmp_path / "child"))
    assert process.wait(20.0) == 0
    wait_until(lambda: is_gone(int((tmp_path / "child").read_text())), "the child has ended")


def test_a_keeper_without_a_command_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert guardian.main(["1.0"]) == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("group", [0, 1, -5])
def test_no_group_number_means_ones_own_group_or_everybody(group: int) -> None:
    with pytest.raises(ValueError, match="not the process group of a child"):
        guardian.end_group(group, 0.0)


def test_ending_a_group_that_is_gone_is_fine() -> None:
    process = subprocess.Popen(["true"], start_new_session=True)
    process.wait()
    guardian.end_group(process.pid, 0.1)


@pytest.fixture
def sleeper() -> Iterator[Callable[[str | None], subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(mark: str | None, script: str = "") -> subprocess.Popen[bytes]:
        environment = {key: value for key, value in os.environ.items() if key != OWNER}
        if mark is not None:
            environment[OWNER] = mark
        command = [sys.executable, "-c", f"{script}\nprint('up', flush=True)\nimport time; time.sleep(60)"]
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, start_new_session=True))
        assert started[-1].stdout is not None
        started[-1].stdout.readline()
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_leftovers_are_found_by_their_mark_and_ended_and_others_are_not_touched(
    sleeper: Callable[..., subprocess.Popen[bytes]],
) -> None:
    key = f"test-{os.getpid()}"
    mine, other, unmarked = sleeper(key), sleeper(f"{key}-other"), sleeper(None)
    stubborn = sleeper(key, "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    assert {process.pid for process in orphans.find(key)} == {mine.pid, stubborn.pid}
    told = orphans.end(key, grace_s=0.3)
    assert {int(text.split()[0]) for text in told} == {mine.pid, stubborn.pid}
    assert None not in (mine.poll(), stubborn.poll())
    assert (other.poll(), unmarked.poll()) == (None, None)
    assert orphans.end(key) == []


def test_one_who_bears_the_mark_does_not_find_itself_or_its_parents() -> None:
    """A daemon that was started from a marked process's shell must not end itself."""
    script = f"import os; from supervisor.processes import orphans; print(len(orphans.find(os.environ[{OWNER!r}])))"
    environment = os.environ | {OWNER: f"self-{os.getpid()}"}
    inner = [sys.executable, "-c", script]
    outer = [sys.executable, "-c", f"import subprocess; subprocess.run({inner!r}, check=True)"]
    assert subprocess.run(outer, env=environment, capture_output=True, check=True).stdout.strip() == b"0"


# The Ray head's edges; Ray itself is not started here


def test_a_child_knows_only_what_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("LANG", "C.UTF-8")
    found = ray_environment(Home(tmp_path), "run-1", None)
    assert "AWS_SECRET_ACCESS_KEY" not in found
    assert "PYTHONPATH" not in found
    assert (found["LANG"], found[OWNER], found["SWEEP_RUN_ID"]) == ("C.UTF-8", Home(tmp_path).key, "run-1")
    assert (found["RAY_AUTH_MODE"], found["RAY_USAGE_STATS_ENABLED"]) == ("token", "0")
    assert ray_environment(Home(tmp_path), "run-1", tmp_path)["PYTHONPATH"] == str(tmp_path)
    monkeypatch.setenv("HF_HOME", "/models")
    named = ray_environment(Home(tmp_path), "run-1", None, ("HF_HOME", "NOT_SET_AT_ALL"))
    assert named.keys() - found.keys() == {"HF_HOME"}, "what the plan names is passed on where it is set"


def test_rays_own_memory_monitor_is_off(tmp_path: Path) -> None:
    """One kill of its ends a whole sweep. Who gives memory back the governor says, and at the worst the kernel."""
    assert ray_environment(Home(tmp_path), "run-1", None)["RAY_memory_monitor_refresh_ms"] == "0"


def test_a_preferred_port_that_is_taken_is_not_insisted_on() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) not in (port, 0)


@pytest.mark.parametrize(
    ("returncode", "text"), [(0, "exit code 0"), (3, "exit code 3"), (-9, "signal SIGKILL"), (-250, "signal 250")]
)
def test_an_exit_status_is_told_in_words(returncode: int, text: str) -> None:
    assert status_text(returncode) == text


def head_of(folder: Path, monkeypatch: pytest.MonkeyPatch, *command: str) -> RayHead:
    home = Home(folder)
    home.state.mkdir()
    monkeypatch.setattr(Home, "runtime", lambda self: folder)
    monkeypatch.setattr(RayHead, "_command", lambda self, port, dashboard: list(command))
    return RayHead(home, dict(os.environ), 1, folder / "ray.log")


def test_a_head_that_dies_at_once_is_a_start_failure_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = head_of(tmp_path, monkeypatch, "sh", "-c", "echo no such cluster >&2; exit 1")
    with pytest.raises(RayStartFailed, match="no such cluster"):
        asyncio.run(head.start())


@pytest.mark.parametrize(("words", "starts"), [("[Errno 98] Address already in use", 3), ("no such cluster", 1)])
def test_a_slow_failure_is_tried_again_only_where_a_port_was_taken(
    words: str, starts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray without a port for its dashboard takes a minute to give up."""
    monkeypatch.setattr(ray_head, "QUICK_FAILURE_S", 0.0)
    tried = tmp_path / "tried"
    head = head_of(tmp_path, monkeypatch, "sh", "-c", f"echo x >> {tried}; echo '{words}' >&2; exit 1")
    with pytest.raises(RayStartFailed):
        asyncio.run(head.start())
    assert len(tried.read_text().split()) == starts


def test_a_dashboard_that_lost_its_port_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray would look at the clock for a minute before it says so."""
    tried, logs = tmp_path / "tried", tmp_path / "ray" / "session_latest" / "logs"
    words = "Failed to find a valid port for dashboard: [Errno 98] Address already in use"
    script = f"echo x >> {tried}; mkdir -p {logs}; echo '{words}' > {logs}/dashboard.err; sleep 60"
    head = head_of(tmp_path, monkeypatch, "sh", "-c", script)
    with pytest.raises(RayStartFailed, match="Address already in use"):
        asyncio.run(head.start())
    assert len(tried.read_text().split()) == 3, "a second and a third choice, each at once"
    wait_until(lambda: is_gone(head.pid), "the head has ended")


def test_a_head_whose_command_does_not_exist_is_a_start_failure_and_harms_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No pid was told, and group 0 would be our own."""
    head = head_of(tmp_path, monkeypatch, str(tmp_path / "no-such-program"))
    with pytest.raises(RayStartFailed, match="no-such-program"):
        asyncio.run(head.start())


def test_a_head_that_never_comes_up_is_ended_after_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_head, "START_DEADLINE_S", 0.7)
    head = head_of(tmp_path, monkeypatch, "sleep", "60")
    with pytest.raises(RayStartFailed):
        asyncio.run(head.start())
    wait_until(lambda: is_gone(head.pid), "the head has ended")


def test_what_earlier_sessions_left_is_gone_before_the_next_head_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each cluster's nodes have new ids, so their flags would pile up, as Ray's sessions would."""
    head = head_of(tmp_path, monkeypatch, "true")
    session = head.home.ray_temp / "session_2026" / "logs"
    session.mkdir(parents=True)
    (session / "raylet.out").write_text("old")
    (tmp_path / "0a.gate.n1").write_text("flag")
    (tmp_path / "0a.gate.n1.trials").mkdir()
    (tmp_path / "0a.gate.n1.trials" / "7").write_text("note")
    (tmp_path / "ctl.sock").write_text("not ours to sweep")
    head._prepare()
    assert {path.name for path in tmp_path.iterdir()} == {"ray", "state", "ctl.sock"}
    assert list(head.home.ray_temp.iterdir()) == []


def test_the_token_is_for_its_owner_only_and_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = head_of(tmp_path, monkeypatch, "true")
    head._prepare()
    token = head.home.ray_token
    assert token.stat().st_mode & 0o777 == 0o600
    first = token.read_text()
    assert len(first) == 64
    head._prepare()
    assert token.read_text() == first
