"""The verb `notify` sends a test to each address and to the ping, and says what came of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.cli import supervisorctl
from supervisor.errors import NotSent
from supervisor.home import Home
from tests.unit.processes.web import Web, serving

SECRET = "hunter2"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    pytest.importorskip("apprise", reason="messages need the extra `notify`")
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path))
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    made = Home(tmp_path.resolve())
    made.state.mkdir()
    made.notify.touch(mode=0o600)
    return made


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as made:
        yield made


def test_without_an_address_it_says_where_to_write_one(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert supervisorctl.main(["notify"]) == 2
    assert "no address in" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["notify"], ["notify", "test"]])
def test_it_says_what_came_of_each_address_and_of_the_ping(
    home: Home, web: Web, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    home.notify.write_text(f"json://{web.place}/{SECRET}\nping = http://{web.place}/{SECRET}\ndigest = 7:30\n")
    assert supervisorctl.main(words) == 0
    assert capsys.readouterr().out.splitlines() == [
        "json (address 1): sent",
        "ping: it answered with status 200; its check now expects one every 5 minutes",
        "daily digest: 07:30",
    ]
    assert web.messages[0]["title"].startswith("sweep supervisor: a test message from ")
    assert web.paths == [f"/{SECRET}"] * 2


def test_one_that_does_not_get_it_is_named_without_its_secrets_and_fails_the_verb(
    home: Home, web: Web, capsys: pytest.CaptureFixture[str]
) -> None:
    home.notify.write_text(f"json://{web.place}\nnonsense://{SECRET}\nping = http://127.0.0.1:9/{SECRET}\n")
    assert supervisorctl.main(["notify", "test"]) == NotSent.exit_code
    said = capsys.readouterr()
    assert said.out.splitlines()[:3] == [
        "json (address 1): sent",
        "nonsense (address 2): Apprise does not know this kind of address",
        "ping: no connection (Connection refused)",
    ]
    assert "2 of 3 did not get the test" in said.err
    assert SECRET not in said.out + said.err


def test_a_ping_alone_is_enough(home: Home, web: Web, capsys: pytest.CaptureFixture[str]) -> None:
    home.notify.write_text(f"ping = http://{web.place}/check\n")
    assert supervisorctl.main(["notify"]) == 0
    assert "digest" not in capsys.readouterr().out
