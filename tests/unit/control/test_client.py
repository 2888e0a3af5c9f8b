"""Test the client of the control socket: refusals, broken answers, deadlines, other programs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web

from supervisor import API_VERSION
from supervisor.control import api, client, unix_socket
from supervisor.errors import (
    NotOurs,
    NotPermitted,
    NotRunning,
    Refused,
    SlowAnswer,
    SweepError,
    VersionSkew,
)
from supervisor.home import Home
from supervisor.home_lock import take_lock
from tests.unit.control.fake_verbs import FakeVerbs


@pytest.fixture
def serve(home: Home) -> Iterator[Callable[[bytes | None], None]]:
    """A server that gives one connection a canned answer and closes it; None: never answers."""
    listening = unix_socket.bind(home.socket)
    listening.setblocking(True)
    threads: list[threading.Thread] = []
    over = threading.Event()

    def one(answer: bytes | None) -> None:
        connection, _ = listening.accept()
        with connection:
            if answer is None:
                over.wait(20.0)
                return
            connection.recv(65536)
            with contextlib.suppress(BrokenPipeError):
                # A client may close before the end of a long answer.
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
            # A close with something unread would reset the connection, and the answer with it.
            while connection.recv(65536):
                pass

    def start(answer: bytes | None) -> None:
        threads.append(threading.Thread(target=one, args=(answer,), daemon=True))
        threads[-1].start()

    yield start
    over.set()
    for thread in threads:
        thread.join(20.0)
    listening.close()


OURS = f"HTTP/1.1 200 OK\r\n{client.API_HEADER}: {API_VERSION}\r\n".encode()


def http(status: str, body: Any, version: int | None = API_VERSION) -> bytes:
    """A daemon's answer of that API version; another program's without one."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    header = "" if version is None else f"{client.API_HEADER}: {version}\r\n"
    return f"HTTP/1.1 {status}\r\n{header}Content-Length: {len(raw)}\r\n\r\n".encode() + raw


def test_the_client_and_the_api_understand_each_other(home: Home) -> None:
    async def both() -> dict[str, Any]:
        runner = web.AppRunner(api.make_app(FakeVerbs()), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.SockSite(runner, unix_socket.bind(home.socket)).start()
        try:
            return await asyncio.to_thread(client.ask, home, "pause", {"now": True})
        finally:
            await runner.cleanup()

    assert asyncio.run(both()) == {"verb": "pause"}


def test_no_socket_and_a_stale_socket_both_mean_not_running(home: Home) -> None:
    with pytest.raises(NotRunning, match=f"no daemon is running for the home {home.root} "):
        client.ask(home, "status")
    unix_socket.bind(home.socket).close()
    with pytest.raises(NotRunning, match=f"no daemon is running for the home {home.root} ") as absent:
        client.ask(home, "status")
    assert absent.value.exit_code == 7


def test_a_refusal_keeps_the_daemons_message_cure_and_exit_code(
    home: Home, serve: Callable[[bytes | None], None]
) -> None:
    serve(http("409 Conflict", {"error": "not now", "remedy": "wait", "exit_code": 2}))
    with pytest.raises(Refused, match="not now") as refusal:
        client.ask(home, "pause", {})
    assert (refusal.value.remedy, refusal.value.exit_code) == ("wait", 2)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (http("200 OK", b"<html>"), "Expecting value"),
        (http("200 OK", [1]), r"no JSON object: \[1\]"),
        (http("200 OK", b"[" * 100_000), "recursion"),
        (OURS + b"Content-Length: -1\r\n\r\n", "-1 bytes, expected at most"),
        (OURS + b"Content-Length: 99999999999\r\n\r\n", "99999999999 bytes, expected at most"),
        (OURS + b"Content-Length: many\r\n\r\n", "invalid literal"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 500_000, "headers have more than"),
    ],
)
def test_an_answer_that_is_no_json_object_is_a_clear_error(
    home: Home, serve: Callable[[bytes | None], None], answer: bytes, problem: str
) -> None:
    serve(answer)
    with pytest.raises(SweepError, match=problem) as error:
        client.ask(home, "status")
    assert "the answer at" in error.value.message
    assert (error.value.exit_code, "debug.jsonl" in str(error.value.remedy)) == (1, True)


@pytest.mark.parametrize("sent", [0, 1, 60, -1])
def test_an_answer_that_ends_early_means_that_the_daemon_has_ended(
    home: Home, serve: Callable[[bytes | None], None], sent: int
) -> None:
    serve(http("200 OK", {"error": "x" * 100})[:sent])
    with pytest.raises(NotRunning, match="before its answer was complete"):
        client.ask(home, "status")


def test_a_large_answer_arrives_whole(home: Home, serve: Callable[[bytes | None], None]) -> None:
    answer = {"trials": ["x" * 1000] * 2000}
    serve(http("200 OK", answer))
    assert client.ask(home, "status") == answer


def test_a_daemon_that_does_not_answer_is_given_up_after_the_deadline(
    home: Home, serve: Callable[[bytes | None], None]
) -> None:
    serve(None)
    with pytest.raises(SweepError, match="did not answer within") as error:
        client.ask(home, "status", deadline_s=0.2)
    assert error.value.remedy is not None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux refuses connections over a full queue")
def test_a_daemon_whose_queue_is_full_is_asked_again_until_the_deadline(home: Home) -> None:
    with socket.socket(socket.AF_UNIX) as listening, contextlib.ExitStack() as waiting:
        listening.bind(str(home.socket))
        listening.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                one = waiting.enter_context(socket.socket(socket.AF_UNIX))
                one.setblocking(False)
                one.connect(str(home.socket))
        with pytest.raises(SlowAnswer, match="did not answer within"):
            client.ask(home, "hello", deadline_s=0.3)


def test_the_deadline_is_for_the_whole_answer_not_for_each_byte(home: Home) -> None:
    """Without it a slow daemon could hold a command for ever: each byte begins a socket's own timeout anew."""
    listening = unix_socket.bind(home.socket)
    listening.setblocking(True)
    over = threading.Event()

    def trickle() -> None:
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(OURS + b"Content-Length: 100000\r\n\r\n")
            while not over.wait(0.02):
                connection.sendall(b" ")

    thread = threading.Thread(target=trickle, daemon=True)
    thread.start()
    try:
        with pytest.raises(SlowAnswer, match="did not answer within"):
            client.ask(home, "status", deadline_s=0.5)
    finally:
        over.set()
        thread.join(20.0)
        listening.close()


def test_a_link_or_another_users_file_in_place_of_the_socket_gets_no_request(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any user can create a name in /tmp: a request must not reach another user's program."""
    elsewhere = home.root / "elsewhere.sock"
    listening = unix_socket.bind(elsewhere)
    home.socket.symlink_to(elsewhere)
    with pytest.raises(NotPermitted, match="expected a socket of this user"):
        client.ask(home, "status")
    home.socket.unlink()
    elsewhere.rename(home.socket)
    monkeypatch.setattr(os, "geteuid", lambda: home.socket.lstat().st_uid + 1)
    with pytest.raises(NotPermitted, match="expected a socket of this user") as refusal:
        client.ask(home, "status")
    assert (refusal.value.exit_code, str(home.socket) in str(refusal.value.remedy)) == (4, True)
    listening.close()


def test_a_held_home_without_a_socket_differs_from_one_without_a_daemon(home: Home) -> None:
    """Its socket was removed: the daemon is alive and binds it again, so no second one is needed."""
    home.state.mkdir()
    lock = take_lock(home, "plan smoke")
    try:
        with pytest.raises(NotRunning, match=rf"pid {os.getpid()}, plan smoke\) holds the home {home.root}") as absent:
            client.ask(home, "status")
    finally:
        os.close(lock)
    assert absent.value.remedy == "try again in 10 s"
    assert absent.value.exit_code == 7


def test_any_verb_of_a_command_of_another_version_ends_with_exit_code_5(
    home: Home, serve: Callable[[bytes | None], None]
) -> None:
    serve(http("200 OK", {}, version=API_VERSION + 1))
    with pytest.raises(VersionSkew, match=f"API version {API_VERSION + 1}, this command {API_VERSION}") as skew:
        client.ask(home, "status")
    assert (skew.value.exit_code, "with the version that started it" in str(skew.value.remedy)) == (5, True)


@pytest.mark.parametrize(
    "answer",
    [
        http("200 OK", {"product": "supervisor"}, version=None),
        http("404 Not Found", b"<html>", version=None),
        http("OK 200", {}),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"hello\n",
        b"H\n",
    ],
)
def test_an_answer_of_another_program_ends_with_exit_code_5(
    home: Home, serve: Callable[[bytes | None], None], answer: bytes
) -> None:
    """Refuse an answer of any protocol, also one that never ends."""
    serve(answer)
    with pytest.raises(NotOurs, match="found another program") as refusal:
        client.ask(home, "stop", {})
    assert refusal.value.exit_code == 5
