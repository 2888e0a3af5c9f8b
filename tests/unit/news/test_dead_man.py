"""The sign of life: a start, one every few minutes, a failure at a bad end; off unless asked, said once when lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.daemon.news.dead_man import PERIOD_S, RETRY_S, DeadMan
from supervisor.processes.ping import Answer, Sign
from supervisor.store.run_writer import RunWriter
from tests.unit.news.post import ADDRESS, HandClock, names, run_of, write_addresses

PING = "https://example.org/secret-check"
TAKEN = Answer(status=200)


class Enough(Exception):
    """Ends a loop that has no end."""


class Health:
    """A service that gives the answers of `story` in turn, then the last one for ever."""

    def __init__(self, *story: Answer) -> None:
        self.story = list(story)
        self.signs: list[Sign] = []
        self.addresses: set[str] = set()

    async def __call__(self, address: str, sign: Sign) -> Answer:
        self.addresses.add(address)
        self.signs.append(sign)
        return self.story.pop(0) if len(self.story) > 1 else self.story[0]


class ShortClock(HandClock):
    """Ends the loop after so many waits."""

    def __init__(self, waits: int) -> None:
        super().__init__()
        self.waited: list[float] = []
        self._waits = waits

    async def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)
        if len(self.waited) == self._waits:
            raise Enough
        await super().sleep(seconds)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[RunWriter]:
    with run_of(tmp_path, HandClock()) as made:
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_addresses(tmp_path / "notify", f"ping = {PING}")


def live(writer: RunWriter, file: Path, health: Health, periods: int) -> list[float]:
    clock = ShortClock(periods)
    with pytest.raises(Enough):
        asyncio.run(DeadMan(writer, file, clock, health).run())
    return clock.waited


def test_the_first_sign_is_a_start_and_the_others_say_alive(writer: RunWriter, file: Path) -> None:
    health = Health(TAKEN)
    assert live(writer, file, health, 3) == [PERIOD_S] * 3
    assert health.signs == [Sign.START, Sign.ALIVE, Sign.ALIVE]
    assert health.addresses == {PING}
    assert names(writer) == ["run.created"], "a sign that is taken is no event"


def test_a_service_without_an_address_for_starts_gets_a_plain_sign(writer: RunWriter, file: Path) -> None:
    health = Health(Answer(status=404), TAKEN)
    live(writer, file, health, 2)
    assert health.signs == [Sign.START, Sign.ALIVE, Sign.ALIVE]


def test_it_is_off_unless_the_file_asks_for_it(writer: RunWriter, tmp_path: Path) -> None:
    health = Health(TAKEN)
    live(writer, tmp_path / "nothing", health, 2)
    live(writer, write_addresses(tmp_path / "notify", ADDRESS), health, 2)
    asyncio.run(DeadMan(writer, tmp_path / "nothing", HandClock(), health).end(failed=True))
    assert health.signs == []


def test_a_service_that_cannot_be_reached_is_said_once_and_so_is_its_return(writer: RunWriter, file: Path) -> None:
    lost = Answer(problem="no connection (Connection refused)")
    waited = live(writer, file, Health(lost, lost, lost, lost, TAKEN), 6)
    assert waited == [RETRY_S] * 4 + [PERIOD_S] * 2
    assert names(writer)[1:] == ["ping.failed", "ping.answered"]
    assert "secret-check" not in str([dict(row) for row in writer.store.rows("SELECT * FROM event")])


def test_one_lost_sign_is_no_event(writer: RunWriter, file: Path) -> None:
    live(writer, file, Health(TAKEN, Answer(problem="no answer (TimeoutError)"), TAKEN), 4)
    assert names(writer) == ["run.created"]


@pytest.mark.parametrize(("failed", "sign"), [(True, Sign.FAIL), (False, Sign.ALIVE)])
def test_the_last_sign_says_how_it_ended(writer: RunWriter, file: Path, failed: bool, sign: Sign) -> None:
    health = Health(TAKEN)
    it = DeadMan(writer, file, HandClock(), health)
    asyncio.run(it.end(failed=failed))
    assert health.signs == [sign]
    asyncio.run(it.run())
    assert health.signs == [sign], "nothing comes after it"
