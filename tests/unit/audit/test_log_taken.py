"""Test that a log which another program renames, removes or cuts goes on under its name, and lacks no line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.audit import evidence, invariants
from supervisor.audit.log import CATCH_UP_EVENTS, AuditLog, open_audit_log
from supervisor.audit.rotation import lines_of
from supervisor.clock import Clock
from supervisor.daemon.recovery import AuditFeed
from supervisor.daemon.upkeep.background import watch_log
from supervisor.home import Home
from supervisor.store.database import read_only
from supervisor.store.run_writer import RunWriter
from tests.unit.audit.rebuild_home import a_run, lived, make_home


class Over(Exception):
    """The looks are over."""


class Looks(Clock):
    """A clock that lets a loop look so many times."""

    def __init__(self, count: int) -> None:
        self.left = count

    async def sleep(self, seconds: float) -> None:
        if self.left == 0:
            raise Over
        self.left -= 1


class Scene:
    """A run whose events are written to its log, as the daemon does."""

    def __init__(self, folder: Path) -> None:
        self.home = make_home(folder)
        self.writer: RunWriter = a_run(self.home)
        self.log, _ = open_audit_log(self.home.audit_log("p"), self.writer.store)
        feed = AuditFeed(self.log, self.writer, "p")
        feed.mend()
        self.writer.store.after_each_change(feed.write)
        lived(self.writer)

    @property
    def path(self) -> Path:
        return self.log.path

    def look(self, times: int = 1) -> None:
        with pytest.raises(Over):
            asyncio.run(watch_log(self.log, "p", self.writer, Looks(times)))

    def say(self, count: int = 1) -> None:
        for number in range(count):
            self.writer.record("daemon.stopped", reason=f"{number}")

    def events(self) -> list[str]:
        return [event.name for event in self.writer.store.events_after(0, limit=1_000_000)]

    def faults(self) -> list[str]:
        """Return what `supervisorctl audit` finds wrong with log and store."""
        with read_only(self.home.store) as connection:
            found = invariants.check(evidence.gather(self.home, connection, "p"))
        return [fault for one in found if one.name in ("chain", "events", "replay") for fault in one.faults]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "home")


def renamed(path: Path) -> None:
    path.rename(path.with_name(f"{path.name}-20261130"))


def rotated(path: Path) -> None:
    """Rename the log and make another, as logrotate does with `create`."""
    path.rename(path.with_name(f"{path.name}.1"))
    path.touch()


def emptied(path: Path) -> None:
    """Copy the log and cut it, as logrotate does with `copytruncate`."""
    path.with_name(f"{path.name}-20261130").write_bytes(path.read_bytes())
    path.write_bytes(b"")


@pytest.mark.parametrize("take", [renamed, rotated, emptied, Path.unlink])
def test_the_log_goes_on_under_its_name_and_the_audit_finds_every_line(
    scene: Scene, take: Callable[[Path], object]
) -> None:
    take(scene.path)
    scene.say()  # nothing has looked yet
    assert scene.log.taken
    scene.look()
    assert not scene.log.taken
    scene.say()
    assert scene.faults() == []
    assert scene.events().count("audit.taken") == 1
    assert scene.writer.store.events_after(0)[-1].seq == scene.log.last_seq
    scene.log.close()
    again = AuditLog(scene.path)
    assert again.last_seq == scene.log.last_seq
    again.close()


def test_a_part_that_another_program_made_is_not_written_again(scene: Scene) -> None:
    rotated(scene.path)
    scene.look()
    (line,) = lines_of(scene.path)
    assert b'"audit.taken"' in line
    assert "audit.recovered" not in scene.events()


def test_lines_that_are_gone_are_written_again_while_the_daemon_answers(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scene.writer.store.change("p-1") as change:
        for number in range(2 * CATCH_UP_EVENTS):
            change.record("daemon.stopped", reason=f"{number}")
    scene.path.unlink()
    ends: list[int] = []
    catch_up = scene.log.catch_up
    monkeypatch.setattr(scene.log, "catch_up", lambda *given: (ends.append(count := catch_up(*given)), count)[1])
    scene.look(times=5)
    assert max(ends) <= CATCH_UP_EVENTS
    assert scene.log.lag is None
    assert scene.events()[-1] == "audit.recovered"
    assert scene.events().count("audit.taken") == 1
    assert "audit.lagged" not in scene.events()
    assert scene.faults() == []


def test_a_file_that_an_editor_has_saved_anew_is_gone_on_with_and_no_event(scene: Scene) -> None:
    beside, before = scene.path.with_name("copy"), scene.events()
    beside.write_bytes(scene.path.read_bytes())
    beside.rename(scene.path)
    scene.look()
    assert scene.events() == before
    scene.say()
    assert scene.faults() == []


def test_a_file_with_other_lines_in_its_place_is_no_reason_to_end_and_the_audit_says_so(scene: Scene) -> None:
    scene.path.unlink()
    scene.path.write_text('{"not": "ours"}\n')
    scene.look(times=2)
    scene.say()
    assert b'"not"' in scene.path.read_bytes()
    assert any("expected an event of the chain" in fault for fault in scene.faults())


def test_a_link_in_its_place_is_not_followed_and_the_old_file_gets_the_lines(scene: Scene, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    scene.path.rename(elsewhere)
    scene.path.symlink_to(elsewhere)
    before = elsewhere.stat().st_size
    scene.look(times=3)
    scene.say()
    assert elsewhere.stat().st_size > before


def test_a_log_in_its_place_is_left_alone(scene: Scene) -> None:
    before = scene.path.read_bytes()
    scene.look(times=3)
    assert scene.path.read_bytes() == before
    home: Home = scene.home
    assert [path.name for path in home.logs.iterdir()] == ["p.jsonl"]
