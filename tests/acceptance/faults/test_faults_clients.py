"""Test faults at the control socket: a verb's bug, and clients that hang, flood or lie."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from supervisor.audit.log import open_audit_log
from supervisor.control.client import ask
from supervisor.daemon import assembly
from supervisor.errors import Refused
from supervisor.home import Home
from supervisor.store import queries
from tests.acceptance.faults.evidence import names, recorded, stored
from tests.acceptance.lives import Setting, check_everything, living, until, until_recorded
from tests.waits import NET_S

SLOW = Setting(pause_s=0.3)
MIB = 1 << 20


class FullPool(concurrent.futures.ThreadPoolExecutor):
    """Starts all its threads at once: one that a busy machine starts later would look like a leak."""

    def __init__(self, max_workers: int | None = None, **named: Any) -> None:
        threads = max_workers or min(32, (os.cpu_count() or 1) + 4)  # as the standard library's own
        super().__init__(threads, **named)
        together = threading.Barrier(threads)
        for _ in range(threads):
            self.submit(together.wait)


def as_in_a_week() -> None:
    """Keep the whole log, where the usual one of a life forgets parts, and fill asyncio's pool of threads at once."""
    assembly.open_audit_log = open_audit_log
    concurrent.futures.ThreadPoolExecutor = FullPool


def connected(home: Home, said: bytes = b"") -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    # Blocking as yet: it waits for its turn, where one with a time-out would be turned away (unix(7)).
    made.connect(str(home.socket))
    made.settimeout(60.0)
    made.sendall(said)
    return made


def answer_of(connection: socket.socket) -> bytes:
    with contextlib.suppress(ConnectionError):
        return connection.recv(65536)
    return b""


def with_a_bug_in_status() -> None:
    right: Callable[..., dict[str, Any]] = queries.run_snapshot

    def run_snapshot(connection: Any, run_id: str, *, trials: bool = True) -> dict[str, Any]:
        if trials:
            raise ZeroDivisionError("a bug in the list of trials")
        return right(connection, run_id, trials=trials)

    queries.run_snapshot = run_snapshot


@pytest.mark.fault(
    "15",
    "a bug in one verb of the API",
    "an error for its client, with its trace in the debug log; others are served, the run ends whole",
)
def test_a_bug_in_a_verb_fails_its_own_request_only(home: Home) -> None:
    with living(home, Setting(pause_s=0.3, change=with_a_bug_in_status)) as it:
        until_recorded(home, "trial.reported")
        with pytest.raises(Refused, match="a bug in the list of trials") as refusal:
            ask(home, "status", query="?trials=1")
        assert refusal.value.exit_code == 1
        assert ask(home, "status")["run"]["state"] == "RUNNING"
        assert it.ended() == (0, False)
    assert "in run_snapshot" in (home.root / "life.log").read_text()
    assert names(check_everything(home)).count("daemon.started") == 1


@pytest.mark.fault(
    "16",
    "clients that hang, send half a request, endless headers or a gigabyte, or leave in the middle of the answer",
    "each is bounded; another client is served meanwhile; the daemon's memory does not follow, the run ends whole",
)
def test_bad_clients_do_not_disturb_others(home: Home) -> None:
    with living(home, SLOW) as it, contextlib.ExitStack() as hanging:
        until_recorded(home, "trial.reported")
        before_bytes = psutil.Process(it.pid).memory_info().rss
        for said in [b""] * 15 + [b"GET /v1/sta"] * 15:
            hanging.enter_context(connected(home, said))
        for _ in range(100):
            connected(home, b"GET /v1/status?trials=1 HTTP/1.1\r\nHost: x\r\n\r\n").close()

        with connected(home) as endless, contextlib.suppress(ConnectionError, TimeoutError):
            for _ in range(16 * MIB // 1024):
                endless.sendall(b"X-More: " + b"y" * 1014 + b"\r\n")
        with connected(home, b"POST /v1/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n") as large:
            with contextlib.suppress(ConnectionError, TimeoutError):
                for _ in range(1024):
                    large.sendall(b"x" * MIB)
            assert answer_of(large).partition(b"\r\n")[0].split()[1:2] in ([b"413"], []), "refused, or closed at once"

        assert ask(home, "status", deadline_s=NET_S)["run"]["state"] == "RUNNING"
        assert psutil.Process(it.pid).memory_info().rss - before_bytes < 128 * MIB
        assert it.ended() == (0, False)
    assert names(check_everything(home)).count("daemon.started") == 1
    assert stored(home, "SELECT desired FROM run") == [{"desired": "run"}], "no bad request was half obeyed"


def as_nobody(home: Home, request: bytes) -> bytes:
    """Send `request` as another user who can reach the socket; return the answer."""
    home.socket.chmod(0o666)
    home.runtime().chmod(0o711)
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            # From inside: the folders above stay closed to others, as they are.
            os.chdir(home.runtime())
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX) as made:
                made.connect(home.socket.name)
                made.sendall(request)
                os.write(writes, made.recv(65536))
        finally:
            os._exit(0)
    os.close(writes)
    with os.fdopen(reads, "rb") as answer:
        found = answer.read()
    os.waitpid(child, 0)
    return found


@pytest.mark.fault(
    "17",
    "another user asks on the control socket",
    "refused with 403 and recorded (`peer.refused`); the run is unchanged",
)
def test_another_user_is_refused_and_this_is_recorded(home: Home) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    with living(home, SLOW) as it:
        until_recorded(home, "trial.reported")
        refusal = as_nobody(home, b"POST /v1/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        assert b" 403 " in refusal.partition(b"\r\n")[0]
        assert b"user id 65534 may not command this daemon" in refusal
        until_recorded(home, "peer.refused")
        assert it.ended() == (0, False)
    check_everything(home)
    assert [event["uid"] for event in recorded(home) if event["event"] == "peer.refused"] == [65534]
    assert "run.stopped" not in names(recorded(home))


@pytest.mark.fault(
    "18",
    "a thousand questions and two hundred pauses, as in a week",
    "descriptors and threads are as before, memory within 16 MiB (a simulated day: `benchmarks/soak.py`)",
)
def test_questions_and_commands_take_no_memory_descriptors_or_threads_for_good(home: Home) -> None:
    def ask_away(times: int) -> None:
        for turn in range(times):
            ask(home, "status", query="?trials=1")
            if turn % 5 == 0:
                ask(home, "pause", {"now": True, "reason": f"turn {turn}"})

    with living(home, Setting(pause_s=0.3, change=as_in_a_week)) as it:
        until_recorded(home, "trial.reported")
        process = psutil.Process(it.pid)
        ask_away(200)
        until(home, "connections are closed", lambda: len(process.net_connections("unix")) <= 6)
        before = process.num_fds(), process.num_threads(), process.memory_info().rss
        ask_away(1000)
        until(home, "no descriptor more", lambda: process.num_fds() <= before[0])
        assert process.num_threads() <= before[1]
        assert process.memory_info().rss - before[2] < 16 * MIB
        ask(home, "resume", {})
        assert it.ended() == (0, False)
    check_everything(home)
    assert names(recorded(home)).count("run.paused") == 240
