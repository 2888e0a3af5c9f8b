"""The page over real connections: its token and cookie, its headers, its stream, its bounds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

import supervisor.page
from supervisor.clock import Clock
from supervisor.page import application, server
from supervisor.page.access import HEADERS
from supervisor.page.audience import MAX_STREAMS
from supervisor.page.figures import Figures
from supervisor.page.places import SILENT_FOR_S
from supervisor.page.server import PageServer, listen
from tests.unit.page.conftest import ACCESS, TOKEN, Serve
from tests.unit.page.stored_run import FakeLive, StoredRun

Scene = Callable[[PageServer, aiohttp.ClientSession], Awaitable[None]]
PATHS = (
    *application.FILES, "/events", "/trials?experiment=2M-h1", "/temperatures", "/metrics",
)  # fmt: skip


def play(serve: Serve, scene: Scene, *, admitted: bool = True, with_the_cookie: bool = False) -> None:
    """Play a scene: by a browser that opened the page before (`admitted`), or has only its cookie."""

    async def whole() -> None:
        jar = aiohttp.CookieJar(unsafe=True)  # of an address without a name
        if with_the_cookie:
            jar.update_cookies({ACCESS.cookie_name: ACCESS.cookie}, URL("http://127.0.0.1/"))
        async with serve() as page, aiohttp.ClientSession(page.address, cookie_jar=jar) as session:
            if admitted and not with_the_cookie:
                async with session.get(f"/?token={TOKEN}") as answer:
                    assert answer.status == 200
            await scene(page, session)

    asyncio.run(whole())


def origin(page: PageServer) -> dict[str, str]:
    return {"Origin": page.address.rstrip("/")}


def test_nothing_is_answered_without_the_token_and_every_answer_has_the_headers(serve: Serve) -> None:
    async def scene(_: PageServer, session: aiohttp.ClientSession) -> None:
        for path in (*PATHS, "/nothing"):
            async with session.get(path) as answer:
                assert answer.status == 403, path
                assert HEADERS.items() <= dict(answer.headers).items()
                assert TOKEN not in await answer.text()
        async with session.post("/pause", json={}) as answer:
            assert answer.status == 403

    play(serve, scene, admitted=False)


def test_the_token_is_exchanged_for_a_strict_cookie_that_scripts_cannot_read(serve: Serve) -> None:
    async def scene(_: PageServer, session: aiohttp.ClientSession) -> None:
        async with session.get(f"/?token={TOKEN}") as answer:
            cookie = answer.headers["Set-Cookie"]
            assert {"HttpOnly", "Path=/", "SameSite=Strict"} <= set(cookie.split("; "))
            assert TOKEN not in cookie
        for path in PATHS:
            async with session.get(path) as answer:
                assert answer.status == 200, path
                assert HEADERS.items() <= dict(answer.headers).items()
                assert "Set-Cookie" not in answer.headers

    play(serve, scene, admitted=False)


def test_another_sites_request_is_refused_even_with_the_cookie(serve: Serve, live: FakeLive) -> None:
    async def scene(page: PageServer, session: aiohttp.ClientSession) -> None:
        for headers in ({}, {"Origin": "http://127.0.0.1:1"}, origin(page) | {"Host": f"evil.example:{page.port}"}):
            async with session.post("/pause", json={}, headers=headers) as answer:
                assert answer.status == 403
        assert live.calls == []

    play(serve, scene)


def test_pause_and_resume_reach_the_daemon_as_the_operators(serve: Serve, live: FakeLive) -> None:
    async def scene(page: PageServer, session: aiohttp.ClientSession) -> None:
        for path, body in (("/pause", {"now": True}), ("/resume", {})):
            async with session.post(path, json=body, headers=origin(page)) as answer:
                assert answer.status == 200
        assert [call[:3] for call in live.calls] == [("pause", None, True), ("resume", None, live.calls[1][2])]
        assert live.calls[0][4].endswith("(page)")

    play(serve, scene)


@pytest.mark.parametrize("body", ['{"now": 1}', '{"target": "x"}', "[]", "{", "x" * 5000])
def test_a_malformed_request_is_refused_in_words(serve: Serve, live: FakeLive, body: str) -> None:
    async def scene(page: PageServer, session: aiohttp.ClientSession) -> None:
        async with session.post("/pause", data=body, headers=origin(page)) as answer:
            assert answer.status in (400, 413)
            assert (await answer.json())["error"]
        assert live.calls == []

    play(serve, scene)


@pytest.mark.parametrize(
    "path", ["/trials?experiment=no", "/trials?x=1", "/temperatures?hours=0", "/temperatures?hours=1e9"]
)
def test_an_unknown_question_is_refused_in_words(serve: Serve, path: str) -> None:
    async def scene(_: PageServer, session: aiohttp.ClientSession) -> None:
        async with session.get(path) as answer:
            assert answer.status in (400, 404)
            assert (await answer.json())["error"]

    play(serve, scene)


async def said(content: aiohttp.StreamReader) -> tuple[str, Any]:
    """Return the name and the data of the next event."""
    while True:
        raw = (await content.readuntil(b"\n\n")).decode()
        if raw.startswith("event: "):
            name, _, data = raw.partition("\n")
            return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def test_a_stream_has_the_status_the_events_so_far_and_each_new_one(serve: Serve, stored: StoredRun) -> None:
    async def scene(_: PageServer, session: aiohttp.ClientSession) -> None:
        async with session.get("/events") as answer:
            assert answer.content_type == "text/event-stream"
            found = dict([await said(answer.content) for _ in range(2)])
            assert found["status"]["run"]["plan"] == "phase6a"
            seen = {event["seq"] for event in found["events"]}
            stored.writer.record("drill.started", name="heat", duration_s=1.0, node=None, drill=True)
            while "drill.started" not in {event["event"] for event in found["events"]}:
                name, data = await said(answer.content)
                found[name] = data
            assert {event["seq"] for event in found["events"]} - seen

    play(serve, scene)


def test_streams_end_with_the_page_and_say_so(serve: Serve) -> None:
    async def scene(page: PageServer, session: aiohttp.ClientSession) -> None:
        async with session.get("/events") as answer:
            await said(answer.content)
            await page.close()
            rest = (await answer.content.read()).decode()
        assert rest.endswith('event: bye\ndata: "the daemon has ended"\n\n')
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", page.port), 5.0)

    play(serve, scene)


def test_one_stream_too_many_is_told_to_come_back(serve: Serve) -> None:
    async def scene(_: PageServer, session: aiohttp.ClientSession) -> None:
        held = [await session.get("/events") for _ in range(MAX_STREAMS)]
        for answer in held:
            await said(answer.content)
        async with session.get("/events") as answer:
            text = await answer.text()
        assert text.startswith("retry: ")
        assert application.BUSY in text
        for answer in held:
            answer.close()

    play(serve, scene)


def test_browsers_that_leave_at_once_keep_no_place(serve: Serve) -> None:
    """Public reports of other servers: a stream that ends before its first message keeps its place for ever."""

    async def scene(page: PageServer, session: aiohttp.ClientSession) -> None:
        cookie = f"{ACCESS.cookie_name}={ACCESS.cookie}"
        for _ in range(3 * MAX_STREAMS):
            with socket.create_connection(("127.0.0.1", page.port)) as gone:
                gone.sendall(f"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n\r\n".encode())
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
        name = "bye"
        while name == "bye":
            async with session.get("/events") as answer:
                name, _ = await said(answer.content)

    play(serve, scene)


def test_a_browser_that_takes_nothing_is_dropped_and_the_others_go_on(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection is ended, so that neither memory nor a task is held by it."""
    monkeypatch.setattr(application, "WRITE_WITHIN_S", 0.5)
    monkeypatch.setattr(server, "REFRESH_S", 0.0)

    async def scene(page: PageServer, session: aiohttp.ClientSession) -> None:
        slow = socket.create_connection(("127.0.0.1", page.port))
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        cookie = f"{ACCESS.cookie_name}={ACCESS.cookie}"
        slow.sendall(f"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n\r\n".encode())
        async with session.get("/events") as answer:
            while page.streams > 1 or page.streams == 0:
                await said(answer.content)
            await said(answer.content)
        slow.close()

    play(serve, scene)


def test_the_page_listens_on_loopback_only_and_a_taken_port_is_an_error() -> None:
    with listen(0) as first:
        host, port = first.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(OSError, match="in use"):
            listen(port)


def test_only_so_many_connections_are_held(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)

    async def scene(page: PageServer, session: aiohttp.ClientSession) -> None:
        held = [await session.get("/events") for _ in range(2)]
        reader, writer = await asyncio.open_connection("127.0.0.1", page.port)
        assert await reader.read() == b""
        assert page.connections == 2
        writer.close()
        for each in held:
            await said(each.content)
            each.close()

    play(serve, scene, with_the_cookie=True)


@pytest.mark.parametrize("words", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"])
def test_connections_without_the_token_give_way_to_a_browser(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, words: bytes
) -> None:
    """However many another user of the machine opens, and whatever is sent on them."""
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 4)

    async def scene(page: PageServer, session: aiohttp.ClientSession) -> None:
        held = []
        for _ in range(9):
            held.append(await asyncio.open_connection("127.0.0.1", page.port))
            held[-1][1].write(words)
        async with session.get(page.whole_address) as answer:
            assert answer.status == 200
        async with session.get("/events") as stream:
            await said(stream.content)
            for _ in range(9):
                held.append(await asyncio.open_connection("127.0.0.1", page.port))
                held[-1][1].write(words)
            await held[0][0].read()
            await said(stream.content)
            assert page.connections <= 4
        for _, each in held:
            each.close()

    play(serve, scene, admitted=False)


class HeldClock(Clock):
    """Sleeps until a test lets the time pass."""

    def __init__(self) -> None:
        self.now_s, self.passed = 1000.0, asyncio.Event()

    def mono_s(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        await self.passed.wait()
        self.passed.clear()

    def pass_(self, seconds: float) -> None:
        self.now_s += seconds
        self.passed.set()


@pytest.mark.parametrize("words", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"])
def test_a_connection_that_sends_no_request_with_the_token_is_ended_in_time(figures: Figures, words: bytes) -> None:
    async def whole() -> None:
        clock = HeldClock()
        page = PageServer(ACCESS, figures, clock, listen(0))
        await page.open()
        reader, writer = await asyncio.open_connection("127.0.0.1", page.port)
        writer.write(words)
        async with aiohttp.ClientSession() as session, session.get(f"{page.address}events?token={TOKEN}") as stream:
            await said(stream.content)
            clock.pass_(SILENT_FOR_S - 0.1)
            while clock.passed.is_set():
                await asyncio.sleep(0)
            assert page.connections == 2
            clock.pass_(0.2)
            with contextlib.suppress(ConnectionResetError):
                await reader.read()
            while page.connections != 1:
                await asyncio.sleep(0.001)
            assert page.streams == 1
        writer.close()
        await page.close()

    asyncio.run(whole())


def test_a_browser_that_goes_while_it_is_let_in_does_not_end_the_page(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(page: PageServer, _: aiohttp.ClientSession) -> None:
        loop, calls = asyncio.get_running_loop(), list[socket.socket]()
        let_in = loop.connect_accepted_socket

        async def refuse_once(protocol: Any, sock: socket.socket) -> Any:
            calls.append(sock)
            if len(calls) == 1:
                raise OSError(22, "Invalid argument")
            return await let_in(protocol, sock)

        monkeypatch.setattr(loop, "connect_accepted_socket", refuse_once)
        reader, writer = await asyncio.open_connection("127.0.0.1", page.port)
        assert await reader.read() == b""
        writer.close()
        async with aiohttp.ClientSession() as session, session.get(page.whole_address) as answer:
            assert answer.status == 200

    play(serve, scene, admitted=False)


FOLDER = Path(supervisor.page.__file__).parent
FILES = sorted(path for path in FOLDER.iterdir() if path.suffix in {".html", ".css", ".js"})


def test_the_page_is_small_and_loads_nothing_from_elsewhere() -> None:
    assert sum(len(path.read_text().splitlines()) for path in FILES) <= 800
    for path in FILES:
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, path.name


def test_no_text_can_become_html() -> None:
    for path in FILES:
        text = path.read_text()
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser", "srcdoc"):
            assert word not in text, f"{path.name}: {word}"
    page = (FOLDER / "live.html").read_text()
    assert "<style" not in page
    assert " style=" not in page
    assert "onclick" not in page
    assert page.count("<script") == page.count('<script type="module" src="/live.js"></script>') == 1
