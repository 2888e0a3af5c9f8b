"""Test the socket and the API on it: an error of one request affects no other."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import socket
import stat
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from supervisor import API_VERSION, __product__
from supervisor.control import api, unix_socket
from supervisor.errors import (
    Conflict,
    UnsafeFolder,
)
from supervisor.home import Home
from tests.unit.control.fake_verbs import FakeVerbs

Request = tuple[str, str, bytes | None]
Answer = tuple[int, dict[str, Any]]


def speak(home: Home, verbs: FakeVerbs, *requests: Request) -> list[Answer]:
    """Return the status and JSON of each request to an API on its real socket."""

    async def all_of_them() -> list[Answer]:
        runner = web.AppRunner(api.make_app(verbs), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.SockSite(runner, unix_socket.bind(home.socket)).start()
        answers = []
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(home.socket))) as session:
            for method, path, body in requests:
                async with session.request(method, f"http://sweep{path}", data=body) as response:
                    answers.append((response.status, await response.json()))
        await runner.cleanup()
        return answers

    return asyncio.run(all_of_them())


def post(verb: str, body: Any) -> Request:
    return "POST", f"/v1/{verb}", body if isinstance(body, bytes) else json.dumps(body).encode()


# The socket


def test_the_socket_is_for_its_owner_only_and_listens(folder: Path) -> None:
    made = unix_socket.bind(folder / "ctl.sock")
    assert stat.S_IMODE((folder / "ctl.sock").lstat().st_mode) == 0o600
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(str(folder / "ctl.sock"))
        accepted, _ = made.accept()
        assert unix_socket.peer_uid(accepted) in (os.geteuid(), None)
        accepted.close()
    made.close()
    assert [each.name for each in folder.iterdir()] == ["ctl.sock"], "nothing is left beside it"


def test_a_stale_socket_is_replaced(folder: Path) -> None:
    path = folder / "ctl.sock"
    stale = unix_socket.bind(path)
    stale.close()
    before = unix_socket.inode(path)
    made = unix_socket.bind(path)
    assert unix_socket.inode(path) != before
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(str(path))
    made.close()


def test_a_path_too_long_for_a_socket_is_refused_with_the_cure(folder: Path) -> None:
    with pytest.raises(UnsafeFolder, match="too long") as refusal:
        unix_socket.bind(folder / ("x" * 120))
    assert refusal.value.remedy is not None
    assert list(folder.iterdir()) == []


def test_a_bind_that_fails_leaves_nothing_behind(folder: Path) -> None:
    (folder / "ctl.sock").mkdir()
    with pytest.raises(OSError, match="directory"):
        unix_socket.bind(folder / "ctl.sock")
    assert [each.name for each in folder.iterdir()] == ["ctl.sock"]


def test_a_socket_that_was_removed_has_no_inode(folder: Path) -> None:
    made = unix_socket.bind(folder / "ctl.sock")
    assert unix_socket.inode(folder / "ctl.sock") is not None
    (folder / "ctl.sock").unlink()
    assert unix_socket.inode(folder / "ctl.sock") is None
    made.close()


# The API


def test_each_verb_reaches_the_daemon_with_its_arguments_and_who_asked(home: Home) -> None:
    verbs, me = FakeVerbs(), pwd.getpwuid(os.geteuid()).pw_name
    answers = speak(
        home, verbs, ("GET", "/v1/status", None), ("GET", "/v1/status?trials=1", None),
        post("pause", {"target": "x", "now": True, "reason": "visitors"}), post("pause", {"node": "3f"}),
        post("resume", {}), post("resume", {"node": "3f", "force": True}), post("stop", {}), post("shutdown", b""),
        post("drill", {"name": "heat", "duration_s": 5, "node": None}), post("backup", {"path": "/x/copy.db"}),
        ("GET", "/v1/runs", None), post("remove", {"run": "smoke-1"}), ("GET", "/v1/history?last=7", None),
        ("GET", "/v1/history", None), ("GET", "/v1/run?run=smoke-1&trials=1", None), ("GET", "/v1/run", None),
        post("end", {"targets": ["2M-h1/17", "3"]}),
        post("skip", {"targets": ["2B-*"]}), post("skip", {}),
        post("set", {"targets": ["2M-*"], "sets": ["concurrency=4"]}),
        post("enqueue", {"targets": ["a"], "point": "{x: 1}"}), post("extend", {"targets": ["a"], "trials": 20}),
        post("reread", {}), post("reread", {"apply": True}), post("next", {"targets": ["b"]}),
        post("discard", {"targets": ["3"], "restore": True}),
        post("extend", {"targets": ["a/3"], "epochs": 5}),
        post("extend", {"targets": ["3"], "epochs": 5, "anew": True}),
    )  # fmt: skip
    assert [status for status, _ in answers] == [200] * 28
    assert verbs.calls == [
        ("status", False), ("status", True), ("pause", "x", True, "visitors", me, None),
        ("pause", None, False, "asked by the operator", me, "3f"), ("resume", None, me, None, False, None),
        ("resume", None, me, "3f", True, None), ("stop", me), ("shutdown", me),
        ("drill", "heat", 5.0, None), ("backup", Path("/x/copy.db"), me),
        ("runs",), ("remove", "smoke-1", me), ("history", 7), ("history", 20), ("run", "smoke-1", True),
        ("run", None, False),
        ("end", ["2M-h1/17", "3"], me), ("skip", ["2B-*"], me), ("skip", [], me),
        ("set", ["2M-*"], ["concurrency=4"], me), ("enqueue", ["a"], "{x: 1}", me), ("extend", ["a"], 20, 0.0, me),
        ("reread", False, me), ("reread", True, me), ("next", ["b"], me), ("discard", ["3"], True, me),
        ("extend_trials", ["a/3"], 5, False, me), ("extend_trials", ["3"], 5, True, me),
    ]  # fmt: skip


def test_hello_names_product_version_and_pid(home: Home) -> None:
    ((status, body),) = speak(home, FakeVerbs(), ("GET", "/v1/hello", None))
    assert (status, body["product"], body["api"], body["pid"]) == (200, __product__, API_VERSION, os.getpid())


@pytest.mark.parametrize(
    ("request_", "status", "complaint"),
    [
        (post("pause", {"colour": "red"}), 400, "expected the keys target, now, reason, node, found 'colour'"),
        (post("backup", {"path": "copy.db"}), 400, "the absolute path of a new file"),
        (post("remove", {}), 400, "expected the id of a run, found none"),
        (post("stop", {"now": True}), 400, "expected the keys (none), found 'now'"),
        (post("pause", {"now": "yes"}), 400, "expected a bool for now, found 'yes'"),
        (post("end", {"targets": "17"}), 400, "expected a list for targets, found '17'"),
        (post("end", {"targets": [17]}), 400, "expected a list of at most 1000 texts for targets, found [17]"),
        (post("skip", {"targets": ["a"] * 1001}), 400, "expected a list of at most 1000 texts"),
        (post("skip", {"targets": ["a\nb"]}), 400, "expected one line of at most 4096 characters for targets"),
        (post("extend", {"targets": ["a"]}), 400, "expected trials or hours above 0"),
        (post("extend", {"targets": ["a"], "trials": -1}), 400, "expected trials or hours above 0"),
        (post("extend", {"targets": ["a"], "trials": 1.5}), 400, "expected a int for trials, found 1.5"),
        (post("extend", b'{"targets": ["a"], "hours": NaN}'), 400, "expected trials or hours above 0"),
        (post("extend", {"targets": ["a"], "hours": 10**400}), 400, "expected trials or hours above 0"),
        (post("extend", {"targets": ["a/3"], "epochs": 0}), 400, "expected epochs above 0"),
        (post("extend", {"targets": ["a/3"], "epochs": 5, "trials": 5}), 400, "found both"),
        (post("extend", {"targets": ["a"], "trials": 5, "anew": True}), 400, "found both"),
        (post("extend", {"targets": ["a/3"], "anew": True}), 400, "expected epochs above 0"),
        (post("pause", {"target": 7}), 400, "expected a str for target, found 7"),
        (post("drill", {"name": "heat", "duration_s": True}), 400, "expected a float for duration_s, found True"),
        (post("drill", {"name": "heat", "duration_s": 0.5}), 400, "from 1 to 3600"),
        (post("resume", {"for_s": 1.0}), 400, "for_s from 60 to"),
        (post("drill", b'{"name": "heat", "duration_s": NaN}'), 400, "from 1 to 3600"),
        (post("drill", b'{"name": "heat", "duration_s": 1e999}'), 400, "from 1 to 3600"),
        (post("drill", {"duration_s": 5}), 400, "the name of a drill"),
        (post("pause", b"now=true"), 400, "not JSON"),
        (post("pause", b"\xff\xfe"), 400, "not JSON"),
        (post("pause", b"[" * 50_000), 400, "not JSON"),
        (post("pause", b"[1, 2]"), 400, "expected a JSON object, found [1, 2]"),
        (post("pause", {"reason": "x" * api.MAX_REQUEST_BYTES}), 413, "413"),
        (("GET", "/v1/history?last=many", None), 400, "a number of runs for last, found 'many'"),
        (post("reboot", {}), 404, "404"),
        (("GET", "/v1/__class__", None), 404, "404"),
        (("GET", "/v1/pause", None), 405, "405"),
        (("GET", "/v1/status?everything=1", None), 400, "expected the keys trials, found 'everything'"),
    ],
)
def test_a_bad_request_is_refused_with_a_message_changes_nothing_and_harms_no_other(
    home: Home, request_: Request, status: int, complaint: str
) -> None:
    verbs = FakeVerbs()
    (found, body), (next_status, _) = speak(home, verbs, request_, ("GET", "/v1/status", None))
    assert (found, complaint in body["error"]) == (status, True), body
    assert body["exit_code"] in (1, 2)
    assert (next_status, verbs.calls) == (200, [("status", False)])


def test_a_refusal_of_the_daemon_has_its_cure_and_exit_code(home: Home) -> None:
    verbs = FakeVerbs()
    verbs.trouble = Conflict("x is not at work", remedy="wait")
    ((status, body),) = speak(home, verbs, post("pause", {}))
    assert (status, body) == (409, {"error": "x is not at work", "remedy": "wait", "exit_code": 1})


def test_a_bug_in_one_verb_answers_500_and_the_next_request_works(home: Home) -> None:
    verbs = FakeVerbs()
    verbs.trouble = ZeroDivisionError("of all things")
    (status, body), (next_status, _) = speak(home, verbs, post("stop", {}), ("GET", "/v1/hello", None))
    assert status == 500
    assert "of all things" in body["error"]
    assert next_status == 200


def test_only_the_verbs_of_the_table_are_routed(home: Home) -> None:
    """The application routes exactly the verbs of ROUTES."""
    routed = {(route.method, route.resource.canonical) for route in api.make_app(FakeVerbs()).router.routes()}
    table = {(route.method, f"/v1/{route.verb}") for route in api.ROUTES}
    assert {pair for pair in routed if pair[0] != "HEAD"} == table | {("GET", "/metrics")}
    reading = {"hello", "status", "runs", "history", "run"}
    steering = {"pause", "resume", "retry", "finish", "stop", "shutdown"}
    steering |= {"end", "skip", "set", "enqueue", "extend", "reread", "next", "discard"}
    verbs = reading | steering | {"drill", "backup", "remove", "page"}
    assert {verb for _, verb in table} == {f"/v1/{verb}" for verb in verbs}


def test_the_figures_for_prometheus_are_text_at_the_path_that_it_asks_for(home: Home) -> None:
    async def scene() -> tuple[str, str]:
        runner = web.AppRunner(api.make_app(FakeVerbs()), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.SockSite(runner, unix_socket.bind(home.socket)).start()
        connector = aiohttp.UnixConnector(str(home.socket))
        async with aiohttp.ClientSession(connector=connector) as session, session.get("http://sweep/metrics") as found:
            answer = found.headers["Content-Type"], await found.text()
        await runner.cleanup()
        return answer

    assert asyncio.run(scene()) == ("text/plain; version=0.0.4; charset=utf-8", "# {'verb': 'metrics'}")


@pytest.mark.parametrize("wish", ["auto", "off", "1", "65535"])
def test_the_live_page_is_asked_for_by_a_port_or_a_word(home: Home, wish: str) -> None:
    verbs = FakeVerbs()
    assert speak(home, verbs, post("page", {"http": wish})) == [(200, {"verb": "page"})]
    assert verbs.calls == [("page", wish)]


@pytest.mark.parametrize("wish", ["", "0", "65536", "-1", "on", "8080 ", "\u0661", "9" * 4000])
def test_any_other_wish_for_the_live_page_is_refused_with_the_allowed_ones(home: Home, wish: str) -> None:
    verbs = FakeVerbs()
    ((status, body),) = speak(home, verbs, post("page", {"http": wish}))
    assert (status, verbs.calls) == (400, [])
    assert "from 1 to 65535, auto or off" in body["error"]


def test_a_verb_of_another_version_is_not_carried_out(home: Home) -> None:
    """The path names the version: the daemon refuses before it does anything."""
    verbs = FakeVerbs()
    ((status, _),) = speak(home, verbs, ("POST", f"/v{API_VERSION + 1}/stop", b"{}"))
    assert (status, verbs.calls) == (404, [])
