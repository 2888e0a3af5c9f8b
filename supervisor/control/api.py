"""Defines the control API, a table of verbs over HTTP and JSON. curl can use it, too:

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
from supervisor.control.client import API_HEADER, MAX_OVERRULE_S, MIN_OVERRULE_S
from supervisor.control.handshake import ANY_PORT, page_wish
from supervisor.control.unix_socket import peer_uid
from supervisor.errors import DiskFailed, NotFound, NotPermitted, SweepError, UsageError

log = logging.getLogger("supervisor")

MAX_REQUEST_BYTES = 64 * 1024
MAX_DRILL_S = 3600.0
MAX_MORE = 100_000
"""Trials or hours by which a search is extended at once, or epochs of a trial."""
MAX_ITEMS = 1000
"""Names that one request may have."""
MAX_TEXT_CHARACTERS = 4096
"""PATH_MAX on Linux, and enough for a reason."""
_NO_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and halves of surrogate pairs, which UTF-8 cannot encode."""
BODY_WITHIN_S = 10.0
STATUS_OF: dict[type[SweepError], int] = {UsageError: 400, NotPermitted: 403, NotFound: 404}
"""HTTP status codes (RFC 9110, section 15.5); other errors are a conflict with the present state, 409."""

METRICS_PATH = "/metrics"
"""Without a version: the path that Prometheus and its kin ask for."""
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The text format 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/)."""

DISK_FAILED: web.AppKey[Callable[[DiskFailed], None]] = web.AppKey("disk_failed")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Body = dict[str, Any]


class Steering(Protocol):
    """Carries out the verbs that change the work of a run; the daemon implements it. Each raises SweepError."""

    async def end(self, targets: list[str], who: str) -> dict[str, Any]: ...
    async def skip(self, targets: list[str], who: str) -> dict[str, Any]: ...
    async def discard(self, targets: list[str], restore: bool, who: str) -> dict[str, Any]: ...
    async def put_next(self, targets: list[str], who: str) -> dict[str, Any]: ...
    async def change(self, targets: list[str], sets: list[str], who: str) -> dict[str, Any]: ...
    async def reread(self, apply: bool, who: str) -> dict[str, Any]: ...
    async def enqueue(self, targets: list[str], text: str, who: str) -> dict[str, Any]: ...
    async def extend(self, targets: list[str], trials: int, hours: float, who: str) -> dict[str, Any]: ...
    async def extend_trials(self, targets: list[str], epochs: int, anew: bool, who: str) -> dict[str, Any]: ...


class Verbs(Protocol):
    """Carries out the verbs; the daemon implements it. Each raises SweepError to refuse."""

    @property
    def steering(self) -> Steering: ...
    def status(self, trials: bool) -> dict[str, Any]: ...
    async def pause(
        self, target: str | None, now: bool, reason: str, who: str, node: str | None = None
    ) -> dict[str, Any]: ...
    async def resume(
        self, target: str | None, who: str, node: str | None = None, force: bool = False, for_s: float | None = None
    ) -> dict[str, Any]: ...
    async def retry(self, target: str | None, who: str) -> dict[str, Any]: ...
    async def finish(self, target: str | None, who: str) -> dict[str, Any]: ...
    async def stop(self, who: str) -> dict[str, Any]: ...
    async def shutdown(self, who: str) -> dict[str, Any]: ...
    async def drill(self, name: str, duration_s: float, node: str | None) -> dict[str, Any]: ...
    async def backup(self, path: Path, who: str) -> dict[str, Any]: ...
    async def page(self, http: str) -> dict[str, Any]: ...
    async def metrics(self) -> str: ...
    def runs(self) -> dict[str, Any]: ...
    def history(self, last: int) -> dict[str, Any]: ...
    def run(self, run: str | None, trials: bool) -> dict[str, Any]: ...
    async def remove(self, run: str, who: str) -> dict[str, Any]: ...
    def disk_failed(self, error: DiskFailed) -> None: ...


async def _hello(_: Verbs, __: Body, ___: str) -> dict[str, Any]:
    return {"product": __product__, "version": __version__, "api": API_VERSION, "pid": os.getpid()}


async def _status(verbs: Verbs, body: Body, _: str) -> dict[str, Any]:
    return verbs.status(body.get("trials") == "1")


async def _pause(verbs: Verbs, body: Body, who: str) -> dict[str, Any]:
    reason = body.get("reason") or "asked by the operator"
    return await verbs.pause(body.get("target"), bool(body.get("now")), reason, who, body.get("node"))


async def _resume(verbs: Verbs, body: Body, who: str) -> dict[str, Any]:
    for_s = body.get("for_s")
    if for_s is not None and not MIN_OVERRULE_S <= for_s <= MAX_OVERRULE_S:
        raise UsageError(f"expected a for_s from {MIN_OVERRULE_S:.0f} to {MAX_OVERRULE_S:.0f}, found {for_s}")
    return await verbs.resume(body.get("target"), who, body.get("node"), bool(body.get("force")), for_s)


async def _drill(verbs: Verbs, body: Body, _: str) -> dict[str, Any]:
    if "name" not in body:
        raise UsageError("expected the name of a drill, found none", remedy="name one, such as heat")
    duration_s = float(body.get("duration_s", 60.0))
    if not 1.0 <= duration_s <= MAX_DRILL_S:
        raise UsageError(f"expected a duration_s from 1 to {MAX_DRILL_S:.0f}, found {duration_s}")
    return await verbs.drill(body["name"], duration_s, body.get("node"))


async def _backup(verbs: Verbs, body: Body, who: str) -> dict[str, Any]:
    path = Path(body.get("path", ""))
    if not path.is_absolute() or not path.name:
        raise UsageError(f"expected the absolute path of a new file, found {str(path)!r:.100}")
    return await verbs.backup(path, who)


async def _page(verbs: Verbs, body: Body, _: str) -> dict[str, Any]:
    return await verbs.page(page_wish(body.get("http", ANY_PORT)))


async def _runs(verbs: Verbs, _: Body, __: str) -> dict[str, Any]:
    return verbs.runs()


async def _history(verbs: Verbs, body: Body, _: str) -> dict[str, Any]:
    last = body.get("last", "20")
    if not (last.isascii() and last.isdigit() and 0 < len(last) < 7):
        raise UsageError(f"expected a number of runs for last, found {last!r:.100}")
    return verbs.history(int(last))


async def _run(verbs: Verbs, body: Body, _: str) -> dict[str, Any]:
    return verbs.run(body.get("run"), body.get("trials") == "1")


async def _remove(verbs: Verbs, body: Body, who: str) -> dict[str, Any]:
    if not body.get("run"):
        raise UsageError("expected the id of a run, found none", remedy="`supervisorctl gc` lists them")
    return await verbs.remove(body["run"], who)


def _targets(body: Body) -> list[str]:
    """Return the names of a request; without any the daemon says what it expects."""
    return list(body.get("targets", ()))


async def _set(verbs: Verbs, body: Body, who: str) -> dict[str, Any]:
    return await verbs.steering.change(_targets(body), list(body.get("sets", ())), who)


async def _discard(verbs: Verbs, body: Body, who: str) -> dict[str, Any]:
    return await verbs.steering.discard(_targets(body), bool(body.get("restore")), who)


async def _reread(verbs: Verbs, body: Body, who: str) -> dict[str, Any]:
    return await verbs.steering.reread(bool(body.get("apply")), who)


async def _enqueue(verbs: Verbs, body: Body, who: str) -> dict[str, Any]:
    return await verbs.steering.enqueue(_targets(body), body.get("point", ""), who)


async def _extend(verbs: Verbs, body: Body, who: str) -> dict[str, Any]:
    trials, hours, epochs = body.get("trials", 0), body.get("hours", 0.0), body.get("epochs", 0)
    if "epochs" in body or body.get("anew"):
        if trials or hours:
            raise UsageError("expected trials and hours of experiments, or epochs of trials; found both")
        if not 0 < epochs <= MAX_MORE:
            raise UsageError(f"expected epochs above 0 and up to {MAX_MORE}, found {epochs}")
        return await verbs.steering.extend_trials(_targets(body), epochs, bool(body.get("anew")), who)
    if not (0 <= trials <= MAX_MORE and 0.0 <= hours <= MAX_MORE and trials + hours > 0):
        raise UsageError(f"expected trials or hours above 0 and up to {MAX_MORE}, found {trials} and {hours}")
    return await verbs.steering.extend(_targets(body), trials, float(hours), who)


_EXTEND_KEYS = {"targets": list, "trials": int, "hours": float, "epochs": int, "anew": bool}


@dataclass(frozen=True)
class Route:
    """Describes a verb: a GET's keys are in its query, a POST's in a JSON object. Other keys are refused."""

    method: str
    verb: str
    keys: dict[str, type]
    answer: Callable[[Verbs, Body, str], Awaitable[dict[str, Any]]]


ROUTES = (
    Route("GET", "hello", {}, _hello),
    Route("GET", "status", {"trials": str}, _status),
    Route("POST", "pause", {"target": str, "now": bool, "reason": str, "node": str}, _pause),
    Route("POST", "resume", {"target": str, "node": str, "force": bool, "for_s": float}, _resume),
    Route("POST", "retry", {"target": str}, lambda verbs, body, who: verbs.retry(body.get("target"), who)),
    Route("POST", "finish", {"target": str}, lambda verbs, body, who: verbs.finish(body.get("target"), who)),
    Route("POST", "end", {"targets": list}, lambda verbs, body, who: verbs.steering.end(_targets(body), who)),
    Route("POST", "skip", {"targets": list}, lambda verbs, body, who: verbs.steering.skip(_targets(body), who)),
    Route("POST", "discard", {"targets": list, "restore": bool}, _discard),
    Route("POST", "next", {"targets": list}, lambda verbs, body, who: verbs.steering.put_next(_targets(body), who)),
    Route("POST", "set", {"targets": list, "sets": list}, _set),
    Route("POST", "reread", {"apply": bool}, _reread),
    Route("POST", "enqueue", {"targets": list, "point": str}, _enqueue),
    Route("POST", "extend", _EXTEND_KEYS, _extend),
    Route("POST", "stop", {}, lambda verbs, _, who: verbs.stop(who)),
    Route("POST", "shutdown", {}, lambda verbs, _, who: verbs.shutdown(who)),
    Route("POST", "drill", {"name": str, "duration_s": float, "node": str}, _drill),
    Route("POST", "backup", {"path": str}, _backup),
    Route("POST", "page", {"http": str}, _page),
    Route("GET", "runs", {}, _runs),
    Route("GET", "history", {"last": str}, _history),
    Route("GET", "run", {"run": str, "trials": str}, _run),
    Route("POST", "remove", {"run": str}, _remove),
)
"""All verbs: a daemon refuses every other request."""


def make_app(verbs: Verbs) -> web.Application:
    """Return the API's application: an error becomes JSON with an exit code, a bug fails its one request only."""
    app = web.Application(client_max_size=MAX_REQUEST_BYTES, middlewares=[errors_as_json])
    app[DISK_FAILED] = verbs.disk_failed
    for route in ROUTES:
        app.router.add_route(route.method, f"/v{API_VERSION}/{route.verb}", _handler(verbs, route))
    app.router.add_get(METRICS_PATH, _metrics_handler(verbs), allow_head=False)
    return app


def metrics_response(text: str) -> web.Response:
    """Return figures as Prometheus expects them."""
    return web.Response(body=text.encode(), headers={"Content-Type": METRICS_TYPE})


def _metrics_handler(verbs: Verbs) -> Handler:
    async def handle(_: web.Request) -> web.StreamResponse:
        return metrics_response(await verbs.metrics())

    return handle


def _handler(verbs: Verbs, route: Route) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        given = dict(request.query) if route.method == "GET" else await json_object(request)
        return web.json_response(await route.answer(verbs, checked(given, route.keys), _who(request)))

    return handle


async def json_object(request: web.Request) -> Body:
    """Return the request's body; an empty one counts as an empty object. Raises UsageError, HTTPRequestTimeout."""
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            raw = await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    except web.RequestPayloadError as error:
        raise UsageError(f"the body of the request cannot be read: {error}") from error
    try:
        body = json.loads(raw) if raw else {}
    except (ValueError, RecursionError) as error:
        raise UsageError(f"expected a JSON object, found a body that is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise UsageError(f"expected a JSON object, found {body!r:.100}")
    return body


def checked(body: Body, known: Mapping[str, type]) -> Body:
    """Return `body` without its nulls. Raises UsageError for an unknown key or a value of another type."""
    for key, value in body.items():
        if key not in known:
            raise UsageError(f"expected the keys {', '.join(known) or '(none)'}, found {key!r:.100}")
        wanted = (int, float) if known[key] is float else known[key]
        # JSON's true is an int in Python, but not a number in JSON.
        fits = isinstance(value, wanted) and not (isinstance(value, bool) and known[key] is not bool)
        if value is not None and not fits:
            raise UsageError(f"expected a {known[key].__name__} for {key}, found {value!r:.100}")
        texts = value if isinstance(value, list) else [value] if isinstance(value, str) else []
        if len(texts) > MAX_ITEMS or not all(isinstance(text, str) for text in texts):
            raise UsageError(f"expected a list of at most {MAX_ITEMS} texts for {key}, found {value!r:.100}")
        # Such a text is shown in a terminal, used as a path, kept in events.
        if any(_NO_TEXT.search(text) or len(text) > MAX_TEXT_CHARACTERS for text in texts):
            raise UsageError(
                f"expected one line of at most {MAX_TEXT_CHARACTERS} characters for {key}, found {value!r:.100}"
            )
    return {key: value for key, value in body.items() if value is not None}


def _who(request: web.Request) -> str:
    """Return the name of the user at the other end, or its id."""
    connection = request.transport.get_extra_info("socket") if request.transport else None
    uid = peer_uid(connection) if connection is not None else None
    return "unknown" if uid is None else user_name(uid)


def user_name(uid: int | None = None) -> str:
    """Return the name of a user, or its id where it has none; of this process's user when left out."""
    found = os.geteuid() if uid is None else uid
    try:
        return pwd.getpwuid(found).pw_name
    except KeyError:
        return f"uid {found}"


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer an error of ours with its message and exit code, and a bug with 500 for its one request."""
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
    # A bug in one verb must not look like a dead daemon.
    except Exception as error:
        log.exception("%s %s failed", request.method, request.path)
        body = {"error": f"a bug in the daemon: {error!r}", "remedy": "read logs/debug.jsonl", "exit_code": 1}
        return web.json_response(body, status=500)
