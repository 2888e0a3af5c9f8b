"""Asks the daemon of a home over its unix socket. Standard library only; every wait has a deadline."""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
import time
from typing import Any

from supervisor import API_VERSION, __product__
from supervisor.errors import NotOurs, NotPermitted, NotRunning, Refused, SlowAnswer, SweepError, VersionSkew
from supervisor.home import Home

DEADLINE_S = 10.0
API_HEADER = "Sweep-Api"
"""On every answer of a daemon: the version of its API, so that another version's command knows before it reads on."""
SOCKET_BACK_S = 10.0
"""A daemon looks after its socket this often."""


TURNED_AWAY_POLL_S = 0.05
MAX_ANSWER_BYTES = 256 * 1024 * 1024
"""A run's whole status is a few megabytes; what has no end is not one."""


class _UnixConnection(http.client.HTTPConnection):
    """`deadline_s` is for the whole exchange: a socket's own timeout begins anew with each byte that trickles in."""

    def __init__(self, path: str, deadline_s: float) -> None:
        super().__init__("sweep", timeout=deadline_s)
        self._path = path
        self._end_s = time.monotonic() + deadline_s

    def connect(self) -> None:
        self.sock = _DeadlineSocket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.end_s = self._end_s
        self.sock.shorten()
        _check_socket(self._path)
        while True:
            try:
                return self.sock.connect(self._path)
            except BlockingIOError:
                # More wait for the daemon than it lets wait (unix(7)): one with a deadline is turned away at once.
                self.sock.shorten()
                time.sleep(TURNED_AWAY_POLL_S)


class _DeadlineSocket(socket.socket):
    """One whose reads and writes all end by `end_s`, on the monotonic clock. Raises TimeoutError."""

    end_s: float

    def shorten(self) -> None:
        left_s = self.end_s - time.monotonic()
        if left_s <= 0.0:
            raise TimeoutError("timed out")
        self.settimeout(left_s)

    def recv_into(self, *arguments: Any, **named: Any) -> int:
        self.shorten()
        return super().recv_into(*arguments, **named)

    def sendall(self, *arguments: Any, **named: Any) -> None:
        self.shorten()
        super().sendall(*arguments, **named)


def _check_socket(path: str) -> None:
    """Raises NotPermitted for what is no socket of this user's: a name in /tmp may be anybody's. FileNotFoundError."""
    found = os.lstat(path)
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
        raise NotPermitted(f"{path} is no socket of this user's", remedy=f"look at it, and remove {path}")


def ask(
    home: Home, verb: str, body: dict[str, Any] | None = None, *, query: str = "", deadline_s: float = DEADLINE_S
) -> dict[str, Any]:
    """GET /v1/VERB, or POST with a body.

    Raises NotRunning, NotPermitted, Refused (the daemon's own words), VersionSkew, SlowAnswer when its whole answer is
    not there in time, SweepError when it breaks off.
    """
    connection = _UnixConnection(str(home.socket), deadline_s)
    path = f"/v1/{verb}{query}"
    try:
        if body is None:
            connection.request("GET", path)
        else:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        raw = response.read(MAX_ANSWER_BYTES + 1)
        _check_api(response.getheader(API_HEADER))
        answer = json.loads(raw) if len(raw) <= MAX_ANSWER_BYTES else None
        if not isinstance(answer, dict):
            raise ValueError(f"its answer is {answer!r:.100}")  # noqa: TRY301, TRY004 - one of many wrong answers
    except FileNotFoundError as error:
        raise _absent(home, "") from error
    except ConnectionError as error:
        # Refused: a socket that a dead daemon left. Reset: one that ended while it was asked.
        raise _absent(home, f": {error}") from error
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


def _check_api(theirs: str | None) -> None:
    """Raises VersionSkew. None is what another program, or nobody of ours, answers; `greet` tells."""
    if theirs is not None and theirs != str(API_VERSION):
        raise VersionSkew(f"the daemon speaks API version {theirs}, this command {API_VERSION}")


def _absent(home: Home, detail: str) -> NotRunning:
    """Why nobody answers: no daemon, or one that is there but whose socket is not."""
    from supervisor.home_lock import holder, is_held, orphan

    if not is_held(home):
        return NotRunning(f"no daemon answers at {home.socket}{detail}")
    left = orphan(home)
    if left is not None:
        return NotRunning(left.sentence(), remedy=left.cure())
    return NotRunning(
        f"a daemon ({holder(home) or 'of unknown pid'}) holds this home, but nobody answers at {home.socket}: it is"
        " starting or ending, or its socket was swept away and will be bound again",
        remedy=f"try again in {SOCKET_BACK_S:.0f} s",
    )


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
