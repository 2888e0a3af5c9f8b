"""Defines the page's requests: its files, its stream, the data of its charts, pause and resume, metrics."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any

import orjson
from aiohttp import web
from aiohttp.typedefs import Middleware

from supervisor.control.api import (
    DISK_FAILED,
    METRICS_PATH,
    checked,
    errors_as_json,
    json_object,
    metrics_response,
    user_name,
)
from supervisor.errors import SweepError, UsageError
from supervisor.page.access import COOKIE_FOR_S, HEADERS, Access, Request
from supervisor.page.audience import BACK_AFTER_MS, Audience, Stream, message
from supervisor.page.figures import MAX_HOURS, Figures

log = logging.getLogger("supervisor")

FILES = {
    "/": ("live.html", "text/html"),
    "/live.css": ("live.css", "text/css"),
    "/live.js": ("live.js", "text/javascript"),
    "/charts.js": ("charts.js", "text/javascript"),
    "/words.js": ("words.js", "text/javascript"),
}
MAX_REQUEST_BYTES = 4096
WRITE_WITHIN_S = 15.0
"""The time in which a browser must take a message, before its stream ends."""
BEAT_S = 15.0
"""The longest silence of a stream: a connection that is gone is seen by writing to it."""
BUSY = "too many pages are open"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def read_files() -> dict[str, tuple[bytes, str]]:
    """Return the content and type of each file of the page by its path."""
    folder = files("supervisor.page")
    return {path: (folder.joinpath(name).read_bytes(), kind) for path, (name, kind) in FILES.items()}


def make_application(
    access: Access, figures: Figures, audience: Audience, content: dict[str, tuple[bytes, str]],
    admitted: Callable[[Any], None],
) -> web.Application:  # fmt: skip
    """Return the page's application; `content` is that of `read_files`.

    `admitted` gets the connection of each request that is answered.
    """
    handlers = PageHandlers(access, figures, audience, content)
    app = web.Application(client_max_size=MAX_REQUEST_BYTES, middlewares=[_guard(access, admitted), errors_as_json])
    app[DISK_FAILED] = figures.live.disk_failed
    app.router.add_routes([
        *(web.get(path, handlers.file, allow_head=False) for path in FILES),
        web.get("/events", handlers.events, allow_head=False),
        web.get("/trials", handlers.trials, allow_head=False),
        web.get("/temperatures", handlers.temperatures, allow_head=False),
        web.get(METRICS_PATH, handlers.metrics, allow_head=False),
        web.post("/pause", handlers.pause),
        web.post("/resume", handlers.resume),
    ])  # fmt: skip
    return app


def _guard(access: Access, admitted: Callable[[Any], None]) -> Middleware:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        asked = _facts(request)
        refusal = access.refusal(asked)
        if refusal is None:
            admitted(request.protocol)
        response = await handler(request) if refusal is None else web.Response(status=403, text=f"{refusal}\n")
        if not response.prepared:
            response.headers.update(HEADERS)
            if refusal is None and access.knows_token(asked):
                # No redirect to an address without the token: a browser that came by a link from elsewhere would
                # not send a strict cookie with it. The page's script shortens the address instead.
                response.set_cookie(
                    access.cookie_name, access.cookie, max_age=COOKIE_FOR_S, httponly=True, samesite="Strict", path="/"
                )
        return response

    return guard


def _facts(request: web.Request) -> Request:
    return Request(request.method, request.path, request.headers, request.query.get("token"))


def _json(content: Any) -> web.Response:
    # Some hundred KiB of points: the daemon's loop would wait tens of milliseconds for the standard library's.
    return web.Response(body=orjson.dumps(content), content_type="application/json")


class PageHandlers:
    """Answers the page's requests."""

    def __init__(
        self, access: Access, figures: Figures, audience: Audience, content: dict[str, tuple[bytes, str]]
    ) -> None:
        self._access, self._figures, self._audience, self._content = access, figures, audience, content

    async def file(self, request: web.Request) -> web.StreamResponse:
        body, kind = self._content[request.path]
        return web.Response(body=body, content_type=kind, charset="utf-8")

    async def trials(self, request: web.Request) -> web.StreamResponse:
        name = checked(dict(request.query), {"experiment": str}).get("experiment", "")
        return _json(await self._figures.trials(name))

    async def temperatures(self, request: web.Request) -> web.StreamResponse:
        text = checked(dict(request.query), {"hours": str}).get("hours", "24")
        hours = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0
        if not 1 <= hours <= MAX_HOURS:
            raise UsageError(f"expected hours from 1 to {MAX_HOURS}, found {text!r:.100}")
        return _json(await self._figures.temperatures(float(hours)))

    async def metrics(self, _: web.Request) -> web.StreamResponse:
        return metrics_response(await self._figures.metrics())

    async def pause(self, request: web.Request) -> web.StreamResponse:
        body = checked(await json_object(request), {"now": bool})
        reason = "asked on the live page"
        return web.json_response(
            await self._figures.live.pause(None, bool(body.get("now")), reason, f"{user_name()} (page)")
        )

    async def resume(self, request: web.Request) -> web.StreamResponse:
        checked(await json_object(request), {})
        return web.json_response(await self._figures.live.resume(None, f"{user_name()} (page)"))

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Stream status and events until the browser leaves, is too slow, or the daemon ends."""
        # An answer without a stream would end the browser's tries for good, so the refusal is a stream, too.
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **HEADERS})
        await response.prepare(request)
        stream = self._audience.add()
        try:
            async with asyncio.timeout(WRITE_WITHIN_S):
                await response.write(f"retry: {BACK_AFTER_MS}\n\n".encode())
            if stream is None:
                await response.write(message("bye", BUSY))
            else:
                await self._feed(response, stream)
        except SweepError as error:
            log.warning("a page's stream ends: %s", error.message)
        except ConnectionError:
            log.debug("a page has left")
        except TimeoutError:
            log.info("a page did not take its messages: its stream ends")
            if request.transport is not None:
                request.transport.abort()  # what it has not taken must not wait for it
        finally:
            if stream is not None:
                self._audience.remove(stream)
        return response

    async def _feed(self, response: web.StreamResponse, stream: Stream) -> None:
        first = message("events", await self._figures.events(0))
        pieces = [first]
        while pieces:
            for piece in pieces:
                async with asyncio.timeout(WRITE_WITHIN_S):
                    await response.write(piece)
            found = await stream.get(BEAT_S)
            pieces = [] if found is None else [found or b": beat\n\n"]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await response.write(message("bye", stream.farewell))
