"""The live page over the lives of a daemon: off unless asked, the same port and token again, never a reason to fail."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from supervisor.control.handshake import ANY_PORT, NO_PAGE
from supervisor.daemon.live_page import LivePage
from supervisor.errors import Conflict
from supervisor.home import Home
from supervisor.page.server import listen
from supervisor.redaction import redact
from supervisor.store.database import Store
from supervisor.store.run_writer import RunWriter, create_run
from tests.unit.page.stored_run import FakeLive, StoredRun, StoryClock

Scene = Callable[[LivePage], Awaitable[None]]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    made.state.mkdir()
    return made


class Lives:
    """Plays the lives of daemons in one home."""

    def __init__(self, home: Home) -> None:
        self.home, self.clock = home, StoryClock()
        self.store = Store(home.store, self.clock)

    def live(self, asked: str | None, scene: Scene | None = None, run: str = "one") -> str | None:
        """Return the page's address after `scene`; the daemon of `run` was asked for `asked` at its start."""
        if self.store.row("SELECT 1 FROM run WHERE id = ?", run) is None:
            create_run(
                self.store, run, plan="p", fingerprint="f", source="s", plan_text="", hardware={}, data={}, specs=[]
            )
        page = LivePage(self.home, RunWriter(self.store, run), self.clock)

        async def whole() -> str | None:
            try:
                await page.begin(FakeLive(StoredRun.__new__(StoredRun)), asked)
                if scene is not None:
                    await scene(page)
                return page.address
            finally:
                await page.close()

        return asyncio.run(whole())

    def events(self, name: str) -> list[dict[str, object]]:
        return [event.fields for event in self.store.events_after(0) if event.name == name]


@pytest.fixture
def lives(home: Home) -> Lives:
    return Lives(home)


def port_of(address: str | None) -> int:
    assert address is not None
    return int(address.split(":")[2].split("/")[0])


async def answers(page: LivePage) -> None:
    assert page.address is not None
    async with aiohttp.ClientSession() as session, session.get(page.address) as answer:
        assert answer.status == 200


def test_there_is_no_page_unless_it_was_asked_for(lives: Lives, home: Home) -> None:
    assert lives.live(None) is None
    assert not home.page.exists()
    assert lives.events("page.opened") == []


def test_the_page_answers_and_its_secret_is_only_the_owners(lives: Lives, home: Home) -> None:
    address = lives.live(ANY_PORT, answers)
    token = json.loads(home.page.read_text())["token"]
    assert str(address).endswith(f"/?token={token}")
    assert len(token) == 64
    assert stat.S_IMODE(home.page.stat().st_mode) == 0o600
    assert token not in json.dumps(lives.events("page.opened"))


def test_a_log_that_quotes_the_cookie_hides_its_value(lives: Lives) -> None:
    async def scene(page: LivePage) -> None:
        async with aiohttp.ClientSession() as session, session.get(str(page.address)) as answer:
            name, _, rest = answer.headers["Set-Cookie"].partition("=")
            value = rest.partition(";")[0]
        assert len(value) == 64
        assert value not in redact(f"more than 8190 bytes when reading: b'other=1; {name}={value}; x=2'")

    lives.live(ANY_PORT, scene)


def test_the_next_daemon_of_the_run_opens_it_again_at_the_same_address(lives: Lives) -> None:
    address = lives.live(ANY_PORT)
    assert lives.live(None, answers) == address
    assert lives.live(ANY_PORT) == address


def test_another_run_must_ask_and_gets_the_same_address(lives: Lives) -> None:
    address = lives.live(ANY_PORT)
    assert lives.live(None, run="two") is None
    assert lives.live(ANY_PORT, run="two") == address


def test_a_port_that_is_taken_is_replaced_by_another_and_the_event_says_so(lives: Lives) -> None:
    port = port_of(lives.live(ANY_PORT))
    with listen(port):
        other = port_of(lives.live(None, answers))
    assert other != port
    assert lives.events("page.opened")[-1]["not_free"] == port


def test_a_named_port_is_used_and_kept(lives: Lives) -> None:
    with listen(0) as free:
        port = free.getsockname()[1]
    assert port_of(lives.live(str(port))) == port
    assert port_of(lives.live(None)) == port


def test_the_page_of_a_live_run_is_opened_moved_and_closed_for_good(lives: Lives) -> None:
    async def scene(page: LivePage) -> None:
        assert page.address is None
        first = await page.switch(ANY_PORT)
        assert await page.switch(ANY_PORT) == first
        with listen(0) as free:
            port = free.getsockname()[1]
        assert port_of(await page.switch(str(port))) == port
        assert await page.switch(NO_PAGE) is None

    assert lives.live(None, scene) is None
    assert lives.live(None) is None
    assert len(lives.events("page.opened")) == 2
    assert len(lives.events("page.closed")) == 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"token": "x", "port": 1, "run": null}', '{"token": 5}', "\0"])
def test_a_damaged_file_is_no_page_and_is_written_anew_when_one_is_asked_for(
    lives: Lives, home: Home, text: str
) -> None:
    home.page.write_text(text)
    assert lives.live(None) is None
    assert lives.live(ANY_PORT, answers) is not None


def test_before_the_page_is_known_a_request_is_told_to_come_again(lives: Lives) -> None:
    """The daemon's socket answers a moment earlier."""
    lives.live(None)
    page = LivePage(lives.home, RunWriter(lives.store, "one"), lives.clock)
    for asked in (page.metrics(), page.switch(ANY_PORT)):
        with pytest.raises(Conflict, match="still starting"):
            asyncio.run(asked)
    assert not lives.home.page.exists()


def test_a_start_that_asks_for_no_page_closes_the_one_before_for_good(lives: Lives) -> None:
    lives.live(ANY_PORT)
    assert lives.live(NO_PAGE) is None
    assert lives.live(None) is None


def test_a_page_that_cannot_be_opened_is_an_event_and_not_the_end_of_the_run(
    lives: Lives, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("supervisor.daemon.live_page.listen", refuse)
    assert lives.live(ANY_PORT) is None
    assert lives.events("page.failed") == [{"error": "Too many open files"}]
