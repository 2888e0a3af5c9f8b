"""Make malformed requests for the control socket, by kind and seed, and check their answers. Pure.

The daemon can obey none of them, so fuzzing does not change its run.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

VERBS = (
    "pause", "resume", "retry", "end", "skip", "set", "enqueue", "extend", "reread", "next", "discard", "stop",
    "shutdown", "drill", "backup", "remove", "page",
)  # fmt: skip
READS = ("hello", "status", "runs", "history", "run")
MAX_REQUEST_BYTES = 64 * 1024


@dataclass(frozen=True)
class Attack:
    """The pieces of a malformed request, and in `answer_kind` the kind of the right answer.

    "json": a 4xx whose body is an error of ours. "4xx": any 4xx, or a closed connection, for bytes that are not whole
    HTTP. "nothing": the answer is not read. "after": as "4xx", after some right requests.
    """

    kind: str
    pieces: tuple[bytes, ...]
    answer_kind: str = "json"


def attack(rng: random.Random) -> Attack:
    """Draw a request of any kind, all with the same probability."""
    kind = rng.choice(sorted(KINDS))
    return KINDS[kind](rng)


def fault_of(sent: Attack, answer: bytes) -> str | None:
    """Return the fault of the answer, or None for a right one."""
    if sent.answer_kind == "nothing":
        return None
    if not answer:
        return "no answer" if sent.answer_kind == "json" else None
    try:
        answers = parse(answer)
    except ValueError as error:
        return f"not HTTP: {error}"
    if sent.answer_kind == "after":
        answers = [each for each in answers if each[0] != 200] or [(400, b"")]
    status, body = answers[0]
    if not 400 <= status < 500:
        return f"status {status}: {body[:200]!r}"
    return _not_ours(body) if sent.answer_kind == "json" else None


def _not_ours(body: bytes) -> str | None:
    try:
        error = json.loads(body)
    except ValueError:
        return f"not JSON: {body[:200]!r}"
    if not isinstance(error, dict) or not isinstance(error.get("exit_code"), int):
        return f"not an error of ours: {body[:200]!r}"
    return None if error.get("error") else f"it has no message: {body[:200]!r}"


def parse(answer: bytes) -> list[tuple[int, bytes]]:
    """Parse status and body of each response. Raises ValueError for anything else."""
    found = []
    while answer:
        head, end, rest = answer.partition(b"\r\n\r\n")
        status = re.match(rb"HTTP/1\.[01] (\d{3}) ", head)
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if status is None or not end or length is None:
            raise ValueError(repr(answer[:200]))
        found.append((int(status[1]), rest[: int(length[1])]))
        answer = rest[int(length[1]) :]
    return found


def request(method: str, path: str, body: bytes = b"", *headers: str, length: int | str | None = None) -> bytes:
    """Build one HTTP/1.1 request; the daemon closes the connection after its answer."""
    lines = [f"{method} {path} HTTP/1.1", "Host: sweep", "Connection: close", *headers]
    if length != "":
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode("utf-8", "surrogatepass") + b"\r\n\r\n" + body


def _post(verb: str, body: bytes, *headers: str, length: int | str | None = None) -> bytes:
    return request("POST", f"/v1/{verb}", body, *headers, length=length)


def _random_bytes(rng: random.Random) -> Attack:
    return Attack("random bytes", (rng.randbytes(rng.randint(1, 5000)) + b"\r\n\r\n",), "4xx")


def _not_http(rng: random.Random) -> Attack:
    sent = rng.choice(
        [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET /v1/status HTTP/9.9\r\n\r\n", b"GET  /v1/status HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n",
            b"GET /v1/status HTTP/1.1\r\n: nothing\r\n\r\n", b"GET /v1/status HTTP/1.1\r\nHo st: x\r\n\r\n",
            b"GET /v1/status HTTP/1.1\r\nHost: a\x00b\r\n\r\n", b"\r\n\r\n\r\n\r\n", b"\x00" * 100, b"QUIT\n",
            b"GET /v1/status HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
            b"POST /v1/stop HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
            b"POST /v1/stop HTTP/1.1\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{\"a\": 1}",
            b"POST /v1/stop HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
            b"POST /v1/stop HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        ]
    )  # fmt: skip
    return Attack("not HTTP", (sent,), "4xx")


def _wrong_verb(rng: random.Random) -> Attack:
    path = rng.choice(
        [
            "/", "/v1", "/v1/", "/v2/status", "/v1/status/", "/v1/status/../stop", "/v1/%73top%00", "/v1/Stop",
            "//v1//stop",
            "/v1/" + "a" * rng.randint(1, 2000), "/v1/__class__", "/v1/stop.json", "/v1/../../etc/passwd", "/v1/%ff%fe",
            "*", "http://elsewhere/v1/nothing", "/v1/" + chr(rng.randint(0x100, 0xFFFF)).encode("utf-8",
            "replace").hex(),
        ]
    )  # fmt: skip
    if rng.random() < 0.5:
        # An existing verb by a wrong method.
        verb = rng.choice(VERBS)
        return Attack("wrong verb", (request(rng.choice(["GET", "PUT", "DELETE", "PATCH", "OPTIONS"]), f"/v1/{verb}"),))
    return Attack("wrong verb", (request(rng.choice(["GET", "POST", "DELETE", "BREW"]), path),), "4xx")


def _unknown_query(rng: random.Random) -> Attack:
    query = rng.choice(["?trails=1", "?trials[]=1&x=2", "?a=b&c=d", "?__proto__=1", "?" + "x" * rng.randint(1, 2000)])
    return Attack("unknown query", (request("GET", f"/v1/{rng.choice(READS)}{query}"),))


def _huge_headers(rng: random.Random) -> Attack:
    if rng.random() < 0.5:
        return Attack(
            "huge headers", (request("GET", "/v1/hello", b"", f"X-A: {'a' * rng.randint(9000, 200_000)}"),), "4xx"
        )
    many = [f"X-{place}: {'b' * 90}" for place in range(rng.randint(900, 3000))]
    # Many small headers may be accepted; then the path is unknown.
    return Attack("many headers", (request("GET", "/v1/nothing", b"", *many),), "4xx")


def _wrong_types(rng: random.Random) -> Attack:
    verb = rng.choice(VERBS)
    body: Any = rng.choice(
        [
            [], [1], "text", 3, True, {"unknown": 1}, {"": None, "now": "yes"}, {"now": 1, "target": []},
            {"reason": {}},
            {"target": 5}, {"force": "yes", "now": "no"}, {"name": [], "path": 1}, {"duration_s": "60", "path": {}},
            {"who": "root"}, {"node": 1.5, "path": False}, {"path": ["/tmp/x"], "name": 0}, {"__class__": "x"},
        ]
    )  # fmt: skip
    return Attack("wrong types", (_post(verb, json.dumps(body).encode()),))


def _not_json(rng: random.Random) -> Attack:
    depth = rng.choice([100, 1000, 5000, 20_000])
    body = rng.choice(
        [
            b"{", b"}", b"{'a': 1}", b'{"a": }', b"nul", b"\xff\xfe{}",
            b'{"a": 1}}', b"[" * depth, b'{"a":' * (depth // 2),
            b"[" * depth + b"]" * depth, b'{"a": 1e999999}', b"9" * rng.randint(100, 60_000),
            b'"' + b"\\ud800" * 10 + b'"',
            b"-" * 50, b"<xml/>", b"a=1&b=2", rng.randbytes(rng.randint(1, 3000)), b"\x00",
        ]
    )  # fmt: skip
    return Attack("not JSON", (_post(rng.choice(VERBS), body),))


OUT_OF_RANGE: dict[str, tuple[str, ...]] = {
    "drill": (
        "{}", '{"name": ""}', '{"name": "nonsense"}', '{"name": "heat", "node": "nowhere"}',
        *(f'{{"name": "heat", "duration_s": {number}}}' for number in ("1e308", "-1", "NaN", "Infinity", "0", "true")),
        *(f'{{"name": "heat", "duration_s": {"9" * digits}}}' for digits in (300, 5000)),
    ),
    "pause": (
        '{"target": "99999999999999999999"}', '{"target": "x/-1"}', '{"target": ""}', '{"target": "x/1", "node": "n"}',
        '{"target": "no such thing"}', '{"target": "\\ud800"}', '{"reason": "\\u0000"}', '{"target": "x/\u0663"}',
        '{"reason": "\\ud800\\u001b[2J"}', '{"target": "\u00b2"}', f'{{"reason": "{"r" * 50_000}"}}',
    ),
    "resume": ('{"node": "\\u0000"}', f'{{"target": "{"t" * 5000}"}}', '{"force": true}', '{"node": "nowhere"}'),
    "remove": ("{}", '{"run": ""}', '{"run": "no-such-run"}', '{"run": "../state"}', f'{{"run": "{"r" * 5000}"}}'),
    "backup": (
        "{}", '{"path": "relative"}', '{"path": ""}', '{"path": "/"}', '{"path": "/no/such/folder/x"}',
        '{"path": "/\\u0000"}', '{"path": "/\\udcff"}', '{"path": "/dev/null"}', f'{{"path": "/{"p" * 4000}"}}',
        f'{{"path": "/tmp/{"p" * 300}"}}', '{"path": "/proc/x"}', '{"path": "/tmp"}', '{"path": "/tmp/.."}',
    ),
}  # fmt: skip


def _out_of_range(rng: random.Random) -> Attack:
    verb = rng.choice(sorted(OUT_OF_RANGE))
    return Attack("out of range", (_post(verb, rng.choice(OUT_OF_RANGE[verb]).encode()),))


@cache
def _bomb() -> bytes:
    """Make 32 KiB that unpack into 32 MiB."""
    return gzip.compress(b"\x00" * (32 << 20))


def _wrong_body(rng: random.Random) -> Attack:
    big = rng.randint(MAX_REQUEST_BYTES + 1, 4 * MAX_REQUEST_BYTES)
    sent, answer_kind = rng.choice(
        [
            (_post("stop", b'{"a": "' + b"x" * big + b'"}'), "json"),
            (_post("stop", b"x" * big, length=1 << 30), "nothing"),
            (_post("stop", _bomb(), "Content-Encoding: gzip"), "json"),
            (_post("stop", b"no gzip", "Content-Encoding: gzip"), "4xx"),
            (_post("stop", b'{"a": 1}', "Content-Encoding: br"), "4xx"),
            (_post("pause", b'{"a": 1}', "Expect: a miracle"), "4xx"),
            (_post("pause", b'{"reason": 1}', "Content-Type: image/png"), "json"),
            (_post("pause", b'{"reason": 1}', "Content-Type: text/plain; charset=\x01"), "4xx"),
            (_post("pause", b'{"reason": 1}', "Upgrade: websocket", "Sec-WebSocket-Key: x"), "4xx"),
            (request("POST", "/v1/stop", b"5\r\n{\"a\":\r\n3\r\n 1}\r\n0\r\n\r\n", "Transfer-Encoding: chunked",
            length=""), "json"),
        ]
    )  # fmt: skip
    return Attack("wrong body", (sent,), answer_kind)


def _half(rng: random.Random) -> Attack:
    """Make a request that never ends; its connection stays open for a while."""
    whole = _post("pause", json.dumps({"reason": "x" * rng.randint(1, 500), "now": 1}).encode())
    cut = rng.randint(1, len(whole) - 1)
    pieces = tuple(whole[place : place + max(1, cut // 5)] for place in range(0, cut, max(1, cut // 5)))
    return Attack("half a request", pieces, "nothing")


def _slow(rng: random.Random) -> Attack:
    """Make a whole but wrong request that is sent in small pieces."""
    whole = _post("stop", b'{"unknown": true}')
    size = rng.randint(1, 40)
    return Attack("in pieces", tuple(whole[place : place + size] for place in range(0, len(whole), size)))


def _pipelined(rng: random.Random) -> Attack:
    right = b"GET /v1/hello HTTP/1.1\r\nHost: sweep\r\n\r\n"
    junk = rng.choice(
        [rng.randbytes(200) + b"\r\n\r\n", b"BREW / HTTP/1.1\r\n\r\n", b"\x00\x01\r\n\r\n", b"GET / HTTP/7\r\n\r\n"]
    )
    return Attack("pipelined", (right * rng.randint(1, 20) + junk,), "after")


def _gone(rng: random.Random) -> Attack:
    """Make a request whose sender leaves before the answer, or sends nothing at all."""
    sent = rng.choice([b"", request("GET", "/v1/status"), request("GET", "/v1/nothing"), b"GET /v1/status?trials=1"])
    return Attack("gone", (sent,), "nothing")


KINDS: dict[str, Callable[[random.Random], Attack]] = {
    "random bytes": _random_bytes, "not HTTP": _not_http, "wrong verb": _wrong_verb, "unknown query": _unknown_query,
    "huge headers": _huge_headers, "wrong types": _wrong_types, "not JSON": _not_json, "out of range": _out_of_range,
    "wrong body": _wrong_body, "half": _half, "slow": _slow, "pipelined": _pipelined, "gone": _gone,
}  # fmt: skip
