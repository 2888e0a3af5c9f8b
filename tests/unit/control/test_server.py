"""Test the server's limits: which users, how many, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.clock import Clock
from supervisor.control import api, client, unix_socket
from supervisor.control import server as control_server
from supervisor.control.server import ControlServer
from supervisor.errors import Refused
from supervisor.home import Home
from tests.unit.control.fake_verbs import FakeVerbs

OTHER_UID = 65534


@pytest.fixture
def home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(Home, "runtime", lambda self: folder / "r")
    home = Home(folder)
    home.prepare()
    return home


@contextlib.asynccontextmanager
async def serving(home: Home, refused: list[int]) -> AsyncIterator[ControlServer]:
    server = ControlServer(home, Clock(), FakeVerbs(), refused.append, lambda: None)
    await server.open()
    try:
        yield server
    finally:
        await server.close()


def served(home: Home, scene: Callable[[ControlServer], Awaitable[Any]]) -> tuple[Any, list[int]]:
    """Return the result of `scene` beside a server, and the users that were refused."""
    refused: list[int] = []

    async def both() -> Any:
        async with asyncio.timeout(60.0), serving(home, refused) as server:
            return await scene(server)

    return asyncio.run(both()), refused


async def ask(home: Home) -> dict[str, Any]:
    return await asyncio.to_thread(client.ask, home, "hello")


def connect(home: Home) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(home.socket))
    return connection


async def closed(connection: socket.socket) -> bytes:
    """Return the bytes that come before the other end closes."""
    connection.setblocking(True)
    connection.settimeout(30.0)
    said = b""
    with connection, contextlib.suppress(ConnectionResetError):
        while piece := await asyncio.to_thread(connection.recv, 65536):
            said += piece
    return said


def test_another_users_process_is_refused_with_a_message_and_recorded_once_a_minute(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unix_socket, "peer_uid", lambda connection: os.geteuid() + 4242)

    async def twice(_: ControlServer) -> list[Refused]:
        found = []
        for _ in range(2):
            with pytest.raises(Refused, match="may not command") as refusal:
                await ask(home)
            found.append(refusal.value)
        return found

    refusals, told = served(home, twice)
    assert [refusal.exit_code for refusal in refusals] == [4, 4]
    assert told == [os.geteuid() + 4242]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_real_process_of_another_user_is_refused_even_in_an_open_folder(home: Home) -> None:
    """The mode of folder and socket stops it first; here both are open, and its user id is checked."""

    async def try_it(_: ControlServer) -> bytes:
        for path in (home.root, home.runtime(), home.socket):
            path.chmod(0o777)
        reads, writes = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.setuid(OTHER_UID)
                with connect(home) as connection:
                    connection.sendall(b"POST /v1/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
                    os.write(writes, connection.recv(65536))
            except BaseException as error:  # noqa: BLE001 - a fork must not go on as pytest
                os.write(writes, repr(error).encode())
            finally:
                os._exit(0)
        os.close(writes)
        with os.fdopen(reads, "rb") as pipe:
            said = await asyncio.to_thread(pipe.read)
        os.waitpid(child, 0)
        assert (await ask(home))["pid"] == os.getpid(), "its own user is served"
        return said

    said, told = served(home, try_it)
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403"), said
    assert json.loads(body) == {"error": f"user id {OTHER_UID} may not command this daemon", "exit_code": 4}
    assert told == [OTHER_UID]


def test_the_peer_is_read_from_macos_own_structure() -> None:
    raw = struct.pack("2Ihxx16I", 0, 501, 1, 20, *[0] * 15)
    assert unix_socket.uid_of_xucred(raw) == 501
    assert unix_socket.uid_of_xucred(struct.pack("2Ihxx16I", 1, 501, 1, *[0] * 16)) is None
    assert unix_socket.uid_of_xucred(raw[:-1]) is None


def test_a_connection_that_does_not_finish_its_headers_is_closed_and_others_are_served_meanwhile(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_server, "SILENT_FOR_S", 0.5)

    async def dawdle(_: ControlServer) -> bytes:
        silent, half = connect(home), connect(home)
        half.sendall(b"POST /v1/pause HTTP/1.1\r\nHost: x\r\n")
        assert (await ask(home))["pid"] == os.getpid()
        return await closed(silent) + await closed(half)

    said, _ = served(home, dawdle)
    assert said == b""


def test_connections_over_the_bound_are_closed_and_later_ones_served(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_server, "MAX_CONNECTIONS", 3)

    async def crowd(server: ControlServer) -> bytes:
        first = [connect(home) for _ in range(3)]
        await asyncio.sleep(0.1)
        said = await closed(connect(home))
        for connection in first:
            connection.close()
        for _ in range(100):
            with contextlib.suppress(Exception):
                return said + str((await ask(home))["pid"]).encode()
            await asyncio.sleep(0.1)
        raise AssertionError("no client is served any more")

    said, _ = served(home, crowd)
    assert said == str(os.getpid()).encode()


def test_a_body_that_does_not_come_is_a_408_and_delays_no_other_request(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "BODY_WITHIN_S", 0.3)

    async def promise(_: ControlServer) -> bytes:
        connection = connect(home)
        connection.sendall(b"POST /v1/pause HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert (await ask(home))["pid"] == os.getpid()
        return await closed(connection)

    said, _ = served(home, promise)
    assert said.startswith(b"HTTP/1.1 408"), said


@pytest.mark.parametrize(
    "head",
    [b"GET /v1/hello HTTP/1.1\r\nHost: " + b"x" * 9000, b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x"],
    ids=["a header", "a path"],
)
def test_headers_over_the_bound_are_refused_and_the_next_is_served(home: Home, head: bytes) -> None:
    async def shout(_: ControlServer) -> bytes:
        connection = connect(home)
        connection.sendall(head + b"\r\n\r\n")
        said = await closed(connection)
        assert (await ask(home))["pid"] == os.getpid()
        return said

    said, _ = served(home, shout)
    assert said.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))


def test_a_socket_that_is_removed_is_bound_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_server, "SOCKET_CHECK_PERIOD_S", 0.05)

    async def sweep(server: ControlServer) -> dict[str, Any]:
        guard = asyncio.create_task(server.guard())
        home.socket.unlink()
        for _ in range(200):
            if home.socket.exists():
                break
            await asyncio.sleep(0.05)
        guard.cancel()
        return await ask(home)

    answer, _ = served(home, sweep)
    assert answer["pid"] == os.getpid()
    assert not home.socket.exists(), "and gone with its server"
