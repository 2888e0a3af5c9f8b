"""A child process sends a message to all addresses at once; no text shows an address's secret."""

from __future__ import annotations

import asyncio
import socketserver
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.processes.notification import send_message
from tests.unit.processes.web import Web, serving
from tests.waits import NET_S

SECRET = "hunter2"


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    pytest.importorskip("apprise", reason="messages need the extra `notify`")
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    with serving() as made:
        yield made


def send(*addresses: str, within_s: float = NET_S) -> list[str | None]:
    return asyncio.run(send_message(addresses, "title", "body", within_s))


def test_an_answer_of_the_sender_that_is_no_list_means_no_address_was_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = tmp_path / "python"
    for answer, found in ((SECRET, "JSON (8 bytes)"), ("{}", "a list of problems"), ("[]", "a list of problems")):
        sender.write_text(f"#!/bin/sh\ncat > /dev/null\necho '{answer}'\n")
        sender.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(sender))
        assert send("json://192.0.2.1") == [f"the sender answered with something other than {found}"]


def test_a_real_service_gets_the_message_and_each_other_one_has_its_own_problem(web: Web) -> None:
    addresses = (f"json://{web.place}", f"json://me:{SECRET}@127.0.0.1:9", f"nonsense://{SECRET}")
    problems = send(*addresses)
    assert [(message["title"], message["message"]) for message in web.messages] == [("title", "body")]
    assert problems == [None, "there is no connection to the service", "Apprise does not know this kind of address"]


def test_a_service_that_refuses_is_told_with_its_status_and_without_the_address(web: Web) -> None:
    web.status = 403
    assert send(f"json://me:{SECRET}@{web.place}/{SECRET}") == ["the service answered with status 403"]


def test_a_message_that_is_too_long_for_a_service_comes_in_parts(web: Web) -> None:
    lines = [f"line {number} " + "x" * 180 for number in range(60)]
    body = "\n".join(lines)
    # Mattermost takes 4000 characters.
    assert asyncio.run(send_message([f"mmost://{web.place}/{'a' * 32}"], "title", body, NET_S)) == [None]
    parts = [message["text"] for message in web.messages]
    assert len(parts) > 1
    assert max(map(len, parts)) <= 4000
    assert "".join("".join(parts).split()).count("x") == body.count("x"), "no part is lost"


class MailDesk(socketserver.StreamRequestHandler):
    """Takes mail as an SMTP server does (RFC 5321), and keeps the lines of its data."""

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        in_data = False
        for line in self.rfile:
            if in_data and line != b".\r\n":
                self.server.lines.append(line.decode().rstrip())  # type: ignore[attr-defined]
                continue
            in_data = line[:4].upper() == b"DATA"
            self.wfile.write(b"354 go on\r\n" if in_data else b"250 taken\r\n")


@pytest.mark.usefixtures("web")
def test_a_mail_keeps_its_lines_and_its_angle_brackets() -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), MailDesk) as server:
        server.lines = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        address = f"mailto://127.0.0.1:{server.server_address[1]}?from=a@example.org&to=b@example.org&mode=insecure"
        sent = asyncio.run(send_message([address], "title", "one\ntwo <x> & y\n  three", NET_S))
        server.shutdown()
        assert sent == [None]
        lines = server.lines  # type: ignore[attr-defined]
    assert [line for line in lines if line][-3:] == ["one", "two <x> & y", "  three"]


def test_a_service_that_does_not_answer_costs_the_others_nothing(web: Web) -> None:
    problems = send(f"json://{web.place}/silent", f"json://{web.place}/quick", within_s=3.0)
    assert problems[0] is not None
    # A busy machine may not start the sender within its time; then neither is reached, and both are tried again.
    assert problems[1] is None or problems[0] == problems[1]
    assert web.paths in (["/quick"], [])


def test_a_sender_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sender = tmp_path / "python"
    sender.write_text("#!/bin/sh\nsleep 1000\n")
    sender.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(sender))
    monkeypatch.setattr("supervisor.processes.notification.START_WITHIN_S", 0.0)
    assert send("json://192.0.2.1", within_s=0.05) == ["the sender took longer than 0.05 s"]
