"""Asks the daemon of a home over its unix socket: one HTTP/1.1 request, one JSON answer, one deadline.

Standard library only, and little of it: importing http.client takes longer than the daemon's answer.
"""

from __future__ import annotations

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
"""A header of every answer of a daemon: the version of its API. Another program's answer has none."""
MIN_OVERRULE_S, MAX_OVERRULE_S = 60.0, 14 * 86_400.0
"""The time for which `resume --for` may overrule the schedule."""
PROTOCOL = b"HTTP/1."
SOCKET_BACK_S = 10.0
"""The period in which a daemon checks that its socket is in its place."""
RETRY_S = 0.05
PIECE_BYTES = 1 << 18
MAX_HEAD_BYTES = 1 << 16
MAX_ANSWER_BYTES = 256 * 1024 * 1024
"""A run's whole status is a few megabytes."""


def ask(
    home: Home, verb: str, body: dict[str, Any] | None = None, *, query: str = "", deadline_s: float = DEADLINE_S
) -> dict[str, Any]:
    """Send GET /v1/VERB, or POST with a body; return the daemon's answer.

    `deadline_s` is for the whole exchange. Raises NotRunning, NotPermitted, Refused (with the daemon's own message),
    NotOurs when another program answers, VersionSkew, SlowAnswer after the deadline, SweepError for a broken answer.
    """
    try:
        status, raw = _exchange(home, _request(verb, body, query), time.monotonic() + deadline_s)
        answer = json.loads(raw)
    except FileNotFoundError as error:
        raise _absent(home, "") from error
    except ConnectionError as error:
        # Refused: a socket that a dead daemon left. Reset: a daemon that ended while it was asked.
        raise _absent(home, f": {error}") from error
    except PermissionError as error:
        raise NotPermitted(f"{home.socket} belongs to another user") from error
    except TimeoutError as error:
        raise SlowAnswer(
            f"the daemon did not answer within {deadline_s:.0f} s", remedy=f"read {home.logs / 'debug.jsonl'}"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise _broken(home, str(error)) from error
    if not isinstance(answer, dict):
        raise _broken(home, f"it is no JSON object: {answer!r:.100}")
    if status != 200:
        refused = Refused(answer.get("error"), remedy=answer.get("remedy"))
        refused.exit_code = int(answer.get("exit_code", 1))
        raise refused
    return answer


def _request(verb: str, body: dict[str, Any] | None, query: str) -> bytes:
    """Return the request's bytes. Its path names the API's version: a daemon of another version refuses it."""
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{'GET' if body is None else 'POST'} /v{API_VERSION}/{verb}{query} HTTP/1.1\r\nHost: sweep\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + content


def _exchange(home: Home, request: bytes, end_s: float) -> tuple[int, bytes]:
    """Send `request` to the daemon's socket; return the status and the body of the answer.

    All of it ends by `end_s` on the monotonic clock. Raises OSError, the errors of `_check_api`, and ValueError for an
    answer that is not whole.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        _connect(connection, str(home.socket), end_s)
        _shorten(connection, end_s)
        connection.sendall(request)
        head, body = _until_blank_line(connection, end_s)
        status, headers = _parsed(head)
        # Before the body: another program's may have any form.
        _check_api(home, headers.get(API_HEADER.lower()))
        length = int(headers.get("content-length", "0"))
        if not 0 <= length <= MAX_ANSWER_BYTES:
            raise ValueError(f"it has {length} bytes, expected at most {MAX_ANSWER_BYTES}")
        while len(body) < length:
            body += _piece(connection, end_s)
    return status, bytes(body[:length])


def _connect(connection: socket.socket, path: str, end_s: float) -> None:
    _check_socket(path)
    while True:
        _shorten(connection, end_s)
        try:
            return connection.connect(path)
        except BlockingIOError:
            # The daemon's queue of waiting connections is full (unix(7)).
            time.sleep(RETRY_S)


def _check_socket(path: str) -> None:
    """Raise NotPermitted unless `path` is a socket of this user: a name in /tmp can be another's. FileNotFoundError."""
    found = os.lstat(path)
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
        raise NotPermitted(
            f"expected a socket of this user at {path}, found another file", remedy=f"look at it, and remove {path}"
        )


def _shorten(connection: socket.socket, end_s: float) -> None:
    """Let the next call wait until `end_s` only: a socket's own timeout begins anew with each piece."""
    left_s = end_s - time.monotonic()
    if left_s <= 0.0:
        raise TimeoutError("timed out")
    connection.settimeout(left_s)


def _piece(connection: socket.socket, end_s: float) -> bytes:
    """Return the next bytes. Raises ConnectionResetError when the daemon has closed the connection."""
    _shorten(connection, end_s)
    piece = connection.recv(PIECE_BYTES)
    if not piece:
        raise ConnectionResetError("it closed the connection before its answer was complete")
    return piece


def _until_blank_line(connection: socket.socket, end_s: float) -> tuple[bytes, bytearray]:
    """Return the answer's head and the part of its body that came with it; of another protocol, the first bytes."""
    received = bytearray()
    while b"\r\n\r\n" not in received and received.startswith(PROTOCOL[: len(received)]):
        if len(received) > MAX_HEAD_BYTES:
            raise ValueError(f"its headers have more than {MAX_HEAD_BYTES} bytes")
        received += _piece(connection, end_s)
    head, _, body = received.partition(b"\r\n\r\n")
    return bytes(head), body


def _parsed(head: bytes) -> tuple[int, dict[str, str]]:
    """Return status and headers of an answer (RFC 9112, sections 4 and 5); 0 and no header for another protocol."""
    first, *lines = head.decode("latin-1").split("\r\n")
    _, _, rest = first.partition(" ")
    if not head.startswith(PROTOCOL) or not rest[:3].isdecimal():
        return 0, {}
    pairs = (line.partition(":") for line in lines)
    return int(rest[:3]), {name.strip().lower(): value.strip() for name, _, value in pairs}


def _broken(home: Home, problem: str) -> SweepError:
    return SweepError(f"the answer at {home.socket} is broken: {problem}", remedy=f"read {home.logs / 'debug.jsonl'}")


def _check_api(home: Home, version: str | None) -> None:
    """Raise NotOurs for an answer without API_HEADER, VersionSkew for one of another version."""
    if version is None:
        raise NotOurs(
            f"expected a {__product__} daemon at {home.socket}, found another program",
            remedy=f"end that program, or remove {home.socket}",
        )
    if version != str(API_VERSION):
        raise VersionSkew(f"the daemon speaks API version {version}, this command {API_VERSION}")


def _absent(home: Home, detail: str) -> NotRunning:
    """Return why there is no answer: no daemon, or a daemon without its socket."""
    from supervisor.home_lock import holder, is_held, orphan

    if not is_held(home):
        return NotRunning(f"no daemon is running for the home {home.root} (socket {home.socket}{detail})")
    left = orphan(home)
    if left is not None:
        return NotRunning(f"{left.sentence()} (home {home.root})", remedy=left.cure())
    return NotRunning(
        f"a daemon ({holder(home) or 'of unknown pid'}) holds the home {home.root}, but does not answer at"
        f" {home.socket}: it is"
        " starting or ending, or its socket was removed and will be bound again",
        remedy=f"try again in {SOCKET_BACK_S:.0f} s",
    )
