"""Asks the daemon of a home over its unix socket. Standard library only; every wait has a deadline."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

from supervisor import API_VERSION, __product__
from supervisor.errors import NotOurs, NotPermitted, NotRunning, Refused, SlowAnswer, SweepError, VersionSkew
from supervisor.home import Home

DEADLINE_S = 10.0


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, deadline_s: float) -> None:
        super().__init__("sweep", timeout=deadline_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(
    home: Home, verb: str, body: dict[str, Any] | None = None, *, query: str = "", deadline_s: float = DEADLINE_S
) -> dict[str, Any]:
    """GET /v1/VERB, or POST with a body.

    Raises NotRunning, NotPermitted, Refused (the daemon's own words), or SweepError when it does not answer in time.
    """
    connection = _UnixConnection(str(home.socket), deadline_s)
    path = f"/v1/{verb}{query}"
    try:
        if body is None:
            connection.request("GET", path)
        else:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
        if not isinstance(answer, dict):
            raise ValueError(f"its answer is {answer!r:.100}")  # noqa: TRY301, TRY004 - one of many wrong answers
    except FileNotFoundError as error:
        raise NotRunning(f"no daemon answers at {home.socket}") from error
    except ConnectionError as error:
        # Refused: a socket that a dead daemon left. Reset: one that ended while it was asked.
        raise NotRunning(f"no daemon answers at {home.socket}: {error}") from error
    except PermissionError as error:
        raise NotPermitted(f"{home.socket} belongs to another user") from error
    except TimeoutError as error:
        raise SlowAnswer(
            f"the daemon did not answer within {deadline_s:.0f} s", remedy=f"look into {home.logs / 'debug.jsonl'}"
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise SweepError(f"the daemon at {home.socket} broke off: {error}") from error
    finally:
        connection.close()
    if response.status != 200:
        refused = Refused(answer.get("error"), remedy=answer.get("remedy"))
        refused.exit_code = int(answer.get("exit_code", 1))
        raise refused
    return answer


def greet(home: Home) -> dict[str, Any]:
    """The daemon's product, version and pid. Raises NotRunning, NotOurs, VersionSkew."""
    try:
        found = ask(home, "hello", deadline_s=5.0)
    except Refused as error:
        raise NotOurs(f"what answers at {home.socket} is not a {__product__} daemon") from error
    if found.get("product") != __product__:
        raise NotOurs(f"what answers at {home.socket} is not a {__product__} daemon")
    if found.get("api") != API_VERSION:
        raise VersionSkew(f"the daemon speaks API version {found.get('api')}, this command {API_VERSION}")
    return found
