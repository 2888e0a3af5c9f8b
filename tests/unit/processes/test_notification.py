"""A child process sends a message to its addresses; no text shows an address's secret."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from supervisor.errors import NotSent, UnsafeFile, UsageError
from supervisor.home import Home
from supervisor.processes.notification import Outcome, read_addresses, send_message

SECRET = "hunter2"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "notify"
    path.write_text(f"# mine\n\nntfy://me:{SECRET}@example.org/topic\n")
    path.chmod(0o600)
    return path


def test_the_addresses_are_the_lines_that_are_no_comment(file: Path) -> None:
    assert read_addresses(file) == [f"ntfy://me:{SECRET}@example.org/topic"]
    file.unlink()
    assert read_addresses(file) == []


def test_links_and_lines_without_a_service_are_refused_without_quoting_them(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    with pytest.raises(UnsafeFile):
        read_addresses(link)
    file.write_text(f"ntfy://ok\nmailto {SECRET}\n")
    with pytest.raises(UsageError, match="line 2: expected SERVICE") as caught:
        read_addresses(file)
    assert SECRET not in caught.value.render()
    file.write_text("ntfy://a\n" * 21)
    with pytest.raises(UsageError, match="more than 20"):
        read_addresses(file)


def test_an_answer_of_the_sender_that_is_not_json_means_no_address_was_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = tmp_path / "python"
    for answer, found in ((SECRET, "JSON (8 bytes)"), ("[1]", "a JSON object")):
        sender.write_text(f"#!/bin/sh\ncat > /dev/null\necho '{answer}'\n")
        sender.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(sender))
        outcome = asyncio.run(send_message(["json://192.0.2.1"], "title", "body", 60.0))
        assert outcome == Outcome(False, f"the sender answered with something other than {found}")


@pytest.fixture
def web() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A service on this machine that takes Apprise's JSON."""
    taken: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"json://127.0.0.1:{server.server_port}", taken
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_real_service_gets_the_message_and_a_dead_one_is_named_without_its_secrets(
    web: tuple[str, list[dict[str, Any]]],
) -> None:
    address, taken = web
    dead = f"json://me:{SECRET}@127.0.0.1:9"
    outcome = asyncio.run(send_message([address, dead, f"nonsense://{SECRET}"], "title", "body", 60.0))
    assert [(message["title"], message["message"]) for message in taken] == [("title", "body")]
    assert outcome.reached
    assert outcome.problem is not None
    assert "json (address 2)" in outcome.problem
    assert "nonsense (address 3)" in outcome.problem
    assert SECRET not in outcome.problem


def test_a_sender_that_takes_too_long_is_ended() -> None:
    outcome = asyncio.run(send_message(["json://192.0.2.1"], "title", "body", 0.05))
    assert outcome == Outcome(False, "the sender took longer than 0.05 s")


def test_the_verb_sends_a_test_message_or_says_why_not(
    web: tuple[str, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from supervisor.cli import supervisorctl

    monkeypatch.setenv("SWEEP_HOME", str(tmp_path))
    home = Home(tmp_path.resolve())
    home.state.mkdir()
    assert supervisorctl.main(["notify"]) == 2
    assert "no address in" in capsys.readouterr().err
    home.notify.write_text(web[0] + "\n")
    home.notify.chmod(0o600)
    assert supervisorctl.main(["notify"]) == 0
    assert web[1][0]["message"] == "A test message."
    home.notify.write_text("nonsense://x\n")
    assert supervisorctl.main(["notify"]) == NotSent.exit_code
    assert "Apprise does not know" in capsys.readouterr().err
