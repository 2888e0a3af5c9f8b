"""Test failing starts of a Ray head, without Ray."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from supervisor.errors import RayStartFailed
from supervisor.home import Home
from supervisor.processes import ray_head
from supervisor.processes.ray_head import RayHead, free_port, last_lines
from tests.waits import until_ended


def test_a_preferred_port_that_is_taken_is_replaced() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) not in (port, 0)


def head_of(folder: Path, monkeypatch: pytest.MonkeyPatch, *command: str) -> RayHead:
    home = Home(folder)
    home.state.mkdir()
    monkeypatch.setattr(Home, "runtime", lambda self: folder)
    monkeypatch.setattr(ray_head, "ray_command", lambda *_: list(command))
    return RayHead(home, dict(os.environ), 1, folder / "ray.log")


def fails_to_start(head: RayHead) -> str:
    with pytest.raises(RayStartFailed) as caught:
        asyncio.run(head.start())
    return caught.value.message


def test_the_end_of_long_output_has_whole_lines_and_no_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = r"seq -f 'line %g' 2000; printf '\033[1mthe\033[22m cause\n'; exit 1"
    lines = fails_to_start(head_of(tmp_path, monkeypatch, "sh", "-c", script)).splitlines()[1:]
    assert lines[-1] == "the cause"
    assert all(line.startswith("line ") for line in lines[:-1])


def test_of_a_line_that_is_too_long_the_end_is_shown() -> None:
    assert last_lines("x" * 5000 + "the cause\n").endswith("xthe cause")


def test_a_head_that_ends_at_once_is_a_start_failure_with_the_end_of_its_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = head_of(tmp_path, monkeypatch, "sh", "-c", "echo no such cluster >&2; exit 1")
    assert "no such cluster" in fails_to_start(head)


@pytest.mark.parametrize(
    ("words", "starts"),
    [
        ("[Errno 98] Address already in use", 3),
        ("Exception: The current node timed out during startup.", 6),
        ("no such cluster", 1),
    ],
)
def test_a_slow_failure_is_tried_again_only_if_a_port_was_taken_or_the_machine_is_busy(
    words: str, starts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray without a port for its dashboard takes a minute to give up, and without its raylet half a minute."""
    monkeypatch.setattr(ray_head, "QUICK_FAILURE_S", 0.0)
    tried = tmp_path / "tried"
    head = head_of(tmp_path, monkeypatch, "sh", "-c", f"echo x >> {tried}; echo '{words}' >&2; exit 1")
    fails_to_start(head)
    assert len(tried.read_text().split()) == starts


def test_a_dashboard_without_a_port_is_a_failure_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself would wait a minute."""
    tried, logs = tmp_path / "tried", tmp_path / "ray" / "session_latest" / "logs"
    words = "Failed to find a valid port for dashboard: [Errno 98] Address already in use"
    script = f"echo x >> {tried}; mkdir -p {logs}; echo '{words}' > {logs}/dashboard.err; sleep 60"
    head = head_of(tmp_path, monkeypatch, "sh", "-c", script)
    assert "Address already in use" in fails_to_start(head)
    assert len(tried.read_text().split()) == 3, "two more choices, each at once"
    until_ended(head.pid)


def test_a_head_whose_command_does_not_exist_is_a_start_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no pid, and group 0 would be our own."""
    head = head_of(tmp_path, monkeypatch, str(tmp_path / "no-such-program"))
    assert "no-such-program" in fails_to_start(head)


def test_a_head_that_never_comes_up_is_ended_after_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_head, "START_DEADLINE_S", 0.7)
    head = head_of(tmp_path, monkeypatch, "sleep", "60")
    fails_to_start(head)
    until_ended(head.pid)


def test_files_of_earlier_sessions_are_removed_before_a_head_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nodes of each cluster have new ids, so the flags of the old ones would accumulate."""
    head = head_of(tmp_path, monkeypatch, "true")
    session = head.home.ray_temp / "session_2026" / "logs"
    session.mkdir(parents=True)
    (session / "raylet.out").write_text("old")
    (tmp_path / "0a.gate.n1").write_text("flag")
    (tmp_path / "0a.gate.n1.trials").mkdir()
    (tmp_path / "0a.gate.n1.trials" / "7").write_text("note")
    (tmp_path / "ctl.sock").write_text("another file")
    fails_to_start(head)
    assert {path.name for path in tmp_path.iterdir()} == {"ray", "ray.log", "state", "ctl.sock"}
    assert list(head.home.ray_temp.iterdir()) == []


def test_the_token_is_private_to_its_owner_and_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = head_of(tmp_path, monkeypatch, "true")
    fails_to_start(head)
    token = head.home.ray_token
    assert token.stat().st_mode & 0o777 == 0o600
    first = token.read_text()
    assert len(first) == 64
    fails_to_start(head)
    assert token.read_text() == first
