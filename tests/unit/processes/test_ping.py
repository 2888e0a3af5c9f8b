"""A child process asks for a web address; no text shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from supervisor.processes.ping import Answer, Sign, address_of, ask, send_ping
from tests.unit.processes.web import Web, serving
from tests.waits import NET_S


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    with serving() as made:
        yield made


@pytest.mark.parametrize(
    ("address", "sign", "expected"),
    [
        ("https://a.example/u", Sign.ALIVE, "https://a.example/u"),
        ("https://a.example/u", Sign.START, "https://a.example/u/start"),
        ("https://a.example/u/", Sign.FAIL, "https://a.example/u/fail"),
        ("https://a.example/u?k=1", Sign.FAIL, "https://a.example/u/fail?k=1"),
        ("https://a.example/u?k=1", Sign.ALIVE, "https://a.example/u?k=1"),
    ],
)
def test_a_sign_is_an_ending_of_the_path(address: str, sign: Sign, expected: str) -> None:
    assert address_of(address, sign) == expected


def test_a_real_server_is_asked_for_each_sign(web: Web) -> None:
    address = f"http://{web.place}/check"
    answers = [asyncio.run(send_ping(address, sign, NET_S)) for sign in Sign]
    assert answers == [Answer(status=200)] * 3
    assert web.paths == ["/check", "/check/start", "/check/fail"]


def test_a_refusal_has_its_status_and_a_dead_server_its_reason(web: Web) -> None:
    web.status = 404
    refused = ask(f"http://{web.place}/check", NET_S)
    assert (refused.status, refused.reached, refused.words) == (404, False, "it answered with status 404")
    dead = ask("http://127.0.0.1:9/secret", NET_S)
    assert dead.problem == "no connection (Connection refused)"
    assert not dead.reached


def test_a_server_that_never_answers_is_given_up(web: Web) -> None:
    answer = ask(f"http://{web.place}/silent-secret", 0.2)
    assert not answer.reached
    assert answer.problem is not None
    assert "secret" not in answer.words


@pytest.mark.parametrize("address", ["http://[secret", "http://127.0.0.1:secret/", "http://sec ret/"])
def test_what_is_no_address_is_told_without_quoting_it(address: str) -> None:
    answer = asyncio.run(send_ping(address, Sign.START, NET_S))
    assert answer.problem is not None
    assert "sec" not in answer.problem
