"""The control API: an explicit table of verbs over HTTP and JSON on the unix socket. curl can speak it too.

curl --unix-socket SOCKET http://sweep/v1/status
"""

from __future__ import annotations

import json
import logging
import os
import pwd
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from supervisor import API_VERSION, __product__, __version__
from supervisor.control_socket import peer_uid
from supervisor.errors import DiskFailed, NotPermitted, SweepError, UsageError

log = logging.getLogger("supervisor")

MAX_REQUEST_BYTES = 64 * 1024
MAX_DRILL_S = 3600.0


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


def make_app(verbs: Verbs) -> web.Application:
    """The whole API; errors of ours become JSON with an exit code, a bug of ours harms its one request only."""
    app = web.Application(client_max_size=MAX_REQUEST_BYTES, middlewares=[_errors_as_json, _only_us])
    app[DISK_FAILED] = verbs.disk_failed

    async def hello(_: web.Request) -> web.Response:
        return web.json_response(
            {"product": __product__, "version": __version__, "api": API_VERSION, "pid": os.getpid()}
        )

    async def status(request: web.Request) -> web.Response:
        return web.json_response(verbs.status(request.query.get("trials") == "1"))

    async def pause(request: web.Request) -> web.Response:
        body = await _body(request, {"target": str, "now": bool, "reason": str, "node": str})
        reason = body.get("reason") or "asked by the operator"
        now, who = bool(body.get("now")), _who(request)
        return web.json_response(await verbs.pause(body.get("target"), now, reason, who, body.get("node")))

    async def resume(request: web.Request) -> web.Response:
        body = await _body(request, {"target": str, "node": str, "force": bool})
        force, who = bool(body.get("force")), _who(request)
        return web.json_response(await verbs.resume(body.get("target"), who, body.get("node"), force))

    async def stop(request: web.Request) -> web.Response:
        await _body(request, {})
        return web.json_response(await verbs.stop(_who(request)))

    async def shutdown(request: web.Request) -> web.Response:
        await _body(request, {})
        return web.json_response(await verbs.shutdown(_who(request)))

    async def drill(request: web.Request) -> web.Response:
        body = await _body(request, {"name": str, "duration_s": float, "node": str})
        if "name" not in body:
            raise UsageError("a drill needs a name")
        duration_s = float(body.get("duration_s", 60.0))
        if not 1.0 <= duration_s <= MAX_DRILL_S:
            raise UsageError(f"duration_s must be from 1 to {MAX_DRILL_S:.0f}, not {duration_s}")
        return web.json_response(await verbs.drill(body["name"], duration_s, body.get("node")))

    async def backup(request: web.Request) -> web.Response:
        body = await _body(request, {"path": str})
        path = Path(body.get("path", ""))
        if not path.is_absolute():
            raise UsageError("a backup needs the absolute path of a new file")
        return web.json_response(await verbs.backup(path, _who(request)))

    app.add_routes(
        [
            web.get("/v1/hello", hello),
            web.get("/v1/status", status),
            web.post("/v1/pause", pause),
            web.post("/v1/resume", resume),
            web.post("/v1/stop", stop),
            web.post("/v1/shutdown", shutdown),
            web.post("/v1/drill", drill),
            web.post("/v1/backup", backup),
        ]
    )
    return app


async def _body(request: web.Request, known: dict[str, type]) -> dict[str, Any]:
    """The request's JSON object, each key known and of its type; null counts as absent. Raises UsageError."""
    raw = await request.read()
    try:
        body = json.loads(raw) if raw else {}
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the request is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise UsageError("the request is not a JSON object")
    for key, value in body.items():
        if key not in known:
            raise UsageError(f"unknown key {key!r}; known: {', '.join(known) or 'none'}")
        wanted = (int, float) if known[key] is float else known[key]
        # JSON's true is an int in Python, and no number to anybody else.
        fits = isinstance(value, wanted) and not (isinstance(value, bool) and known[key] is not bool)
        if value is not None and not fits:
            raise UsageError(f"{key} must be {known[key].__name__}, not {value!r}")
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


DISK_FAILED: web.AppKey[Callable[[DiskFailed], None]] = web.AppKey("disk_failed")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def _only_us(request: web.Request, handler: Handler) -> web.StreamResponse:
    connection = request.transport.get_extra_info("socket") if request.transport else None
    uid = peer_uid(connection) if connection is not None else None
    if uid is not None and uid not in (os.geteuid(), 0):
        raise NotPermitted(f"user id {uid} may not command this daemon")
    return await handler(request)


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except SweepError as error:
        if isinstance(error, DiskFailed):
            request.app[DISK_FAILED](error)
        status = 403 if isinstance(error, NotPermitted) else 409
        body = {"error": error.message, "remedy": error.remedy, "exit_code": error.exit_code}
        return web.json_response(body, status=status)
    except web.HTTPException as error:
        return web.json_response({"error": f"{error.status} {error.reason}", "exit_code": 1}, status=error.status)
    # A bug in one verb must not look like a daemon that died.
    except Exception as error:
        log.exception("%s %s failed", request.method, request.path)
        body = {"error": f"the daemon failed at this: {error!r}", "remedy": "its debug.jsonl has more", "exit_code": 1}
        return web.json_response(body, status=500)
