"""The control API: an explicit table of verbs over HTTP and JSON on the unix socket. curl can speak it too.

curl --unix-socket SOCKET http://sweep/v1/status
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pwd
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from supervisor import API_VERSION, __product__, __version__
from supervisor.control.client import API_HEADER
from supervisor.control.unix_socket import peer_uid
from supervisor.errors import DiskFailed, NotFound, NotPermitted, SweepError, UsageError

log = logging.getLogger("supervisor")

MAX_REQUEST_BYTES = 64 * 1024
MAX_DRILL_S = 3600.0
MAX_TEXT_SIGNS = 4096
"""PATH_MAX on Linux; nobody says more in a reason."""
_NO_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and halves of surrogate pairs: no UTF-8 can hold those."""
BODY_WITHIN_S = 10.0
STATUS_OF: dict[type[SweepError], int] = {UsageError: 400, NotPermitted: 403, NotFound: 404}
"""HTTP status codes (RFC 9110, section 15.5); what has none here is a conflict with the present state, 409."""

DISK_FAILED: web.AppKey[Callable[[DiskFailed], None]] = web.AppKey("disk_failed")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Body = dict[str, Any]


class Verbs(Protocol):
    """What the daemon can be asked. Each raises SweepError for what it refuses."""

    def status(self, trials: bool) -> dict[str, Any]: ...
    async def pause(
        self, target: str | None, now: bool, reason: str, who: str, node: str | None = None
    ) -> dict[str, Any]: ...
    async def resume(
        self, target: str | None, who: str, node: str | None = None, force: bool = False
    ) -> dict[str, Any]: ...
    async def stop(self, who: str) -> dict[str, Any]: ...
    async def shutdown(self, who: str) -> dict[str, Any]: ...
    async def drill(self, name: str, duration_s: float, node: str | None) -> dict[str, Any]: ...
    async def backup(self, path: Path, who: str) -> dict[str, Any]: ...
    def disk_failed(self, error: DiskFailed) -> None: ...


async def _hello(_: Verbs, __: Body, ___: str) -> dict[str, Any]:
    return {"product": __product__, "version": __version__, "api": API_VERSION, "pid": os.getpid()}


async def _status(verbs: Verbs, body: Body, _: str) -> dict[str, Any]:
    return verbs.status(body.get("trials") == "1")


async def _pause(verbs: Verbs, body: Body, who: str) -> dict[str, Any]:
    reason = body.get("reason") or "asked by the operator"
    return await verbs.pause(body.get("target"), bool(body.get("now")), reason, who, body.get("node"))


async def _resume(verbs: Verbs, body: Body, who: str) -> dict[str, Any]:
    return await verbs.resume(body.get("target"), who, body.get("node"), bool(body.get("force")))


async def _stop(verbs: Verbs, _: Body, who: str) -> dict[str, Any]:
    return await verbs.stop(who)


async def _shutdown(verbs: Verbs, _: Body, who: str) -> dict[str, Any]:
    return await verbs.shutdown(who)


async def _drill(verbs: Verbs, body: Body, _: str) -> dict[str, Any]:
    if "name" not in body:
        raise UsageError("a drill needs a name")
    duration_s = float(body.get("duration_s", 60.0))
    if not 1.0 <= duration_s <= MAX_DRILL_S:
        raise UsageError(f"duration_s must be from 1 to {MAX_DRILL_S:.0f}, not {duration_s}")
    return await verbs.drill(body["name"], duration_s, body.get("node"))


async def _backup(verbs: Verbs, body: Body, who: str) -> dict[str, Any]:
    path = Path(body.get("path", ""))
    if not path.is_absolute() or not path.name:
        raise UsageError("a backup needs the absolute path of a new file")
    return await verbs.backup(path, who)


@dataclass(frozen=True)
class Route:
    """One verb: a GET's keys come in its query, a POST's as a JSON object. What is not a key here is refused."""

    method: str
    verb: str
    keys: dict[str, type]
    answer: Callable[[Verbs, Body, str], Awaitable[dict[str, Any]]]


ROUTES = (
    Route("GET", "hello", {}, _hello),
    Route("GET", "status", {"trials": str}, _status),
    Route("POST", "pause", {"target": str, "now": bool, "reason": str, "node": str}, _pause),
    Route("POST", "resume", {"target": str, "node": str, "force": bool}, _resume),
    Route("POST", "stop", {}, _stop),
    Route("POST", "shutdown", {}, _shutdown),
    Route("POST", "drill", {"name": str, "duration_s": float, "node": str}, _drill),
    Route("POST", "backup", {"path": str}, _backup),
)
"""Every verb that there is: nothing else can be asked of a daemon."""


def make_app(verbs: Verbs) -> web.Application:
    """The whole API; errors of ours become JSON with an exit code, a bug of ours harms its one request only."""
    app = web.Application(client_max_size=MAX_REQUEST_BYTES, middlewares=[_errors_as_json])
    app[DISK_FAILED] = verbs.disk_failed
    for route in ROUTES:
        app.router.add_route(route.method, f"/v{API_VERSION}/{route.verb}", _handler(verbs, route))
    return app


def _handler(verbs: Verbs, route: Route) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        given = dict(request.query) if route.method == "GET" else await _json_object(request)
        return web.json_response(await route.answer(verbs, checked(given, route.keys), _who(request)))

    return handle


async def _json_object(request: web.Request) -> Body:
    """The request's body; none counts as an empty object. Raises UsageError, HTTPRequestTimeout."""
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            raw = await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    except web.RequestPayloadError as error:
        raise UsageError(f"the request's body cannot be read: {error}") from error
    try:
        body = json.loads(raw) if raw else {}
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the request is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise UsageError("the request is not a JSON object")
    return body


def checked(body: Body, known: Mapping[str, type]) -> Body:
    """`body` without its nulls, each key known and of its type. Raises UsageError."""
    for key, value in body.items():
        if key not in known:
            raise UsageError(f"unknown key {key!r:.100}; known: {', '.join(known) or 'none'}")
        wanted = (int, float) if known[key] is float else known[key]
        # JSON's true is an int in Python, and no number to anybody else.
        fits = isinstance(value, wanted) and not (isinstance(value, bool) and known[key] is not bool)
        if value is not None and not fits:
            raise UsageError(f"{key} must be {known[key].__name__}, not {value!r:.100}")
        # It is shown in a terminal, handed to the file system, kept in events.
        if isinstance(value, str) and (_NO_TEXT.search(value) or len(value) > MAX_TEXT_SIGNS):
            raise UsageError(f"{key} must be one line of at most {MAX_TEXT_SIGNS} characters, not {value!r:.100}")
    return {key: value for key, value in body.items() if value is not None}


def _who(request: web.Request) -> str:
    """The user at the other end, by name where the system has one."""
    connection = request.transport.get_extra_info("socket") if request.transport else None
    uid = peer_uid(connection) if connection is not None else None
    if uid is None:
        return "unknown"
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    response = await _answered(request, handler)
    response.headers[API_HEADER] = str(API_VERSION)
    return response


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except SweepError as error:
        if isinstance(error, DiskFailed):
            request.app[DISK_FAILED](error)
        status = STATUS_OF.get(type(error), 409)
        body = {"error": error.message, "remedy": error.remedy, "exit_code": error.exit_code}
        return web.json_response(body, status=status)
    except web.HTTPException as error:
        return web.json_response({"error": f"{error.status} {error.reason}", "exit_code": 1}, status=error.status)
    # A bug in one verb must not look like a daemon that died.
    except Exception as error:
        log.exception("%s %s failed", request.method, request.path)
        body = {"error": f"the daemon failed at this: {error!r}", "remedy": "its debug.jsonl has more", "exit_code": 1}
        return web.json_response(body, status=500)
