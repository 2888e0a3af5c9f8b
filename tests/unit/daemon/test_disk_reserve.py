"""Test the reserve: it is deleted while space is short, then made again."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from supervisor.clock import Clock
from supervisor.daemon.stop_request import StopRequest
from supervisor.daemon.upkeep import disk_reserve
from supervisor.daemon.upkeep.disk_reserve import DiskReserve, ReserveLimits

LIMITS = ReserveLimits(reserve_bytes=1000, low_bytes=100, enough_bytes=3000)


class Disk:
    def __init__(self, free: int = 10_000) -> None:
        self.free = free

    def __call__(self, _: Path) -> int:
        return self.free


class Waiting(Clock):
    """Does one thing at each sleep."""

    def __init__(self, *happenings: object) -> None:
        self._happenings = iter(happenings)

    async def sleep(self, seconds: float) -> None:
        happening = next(self._happenings)
        assert callable(happening)
        happening()


def test_the_reserve_really_takes_its_space_and_is_made_once(tmp_path: Path) -> None:
    reserve = DiskReserve(tmp_path, Clock(), LIMITS, Disk())
    file = tmp_path / "reserve"
    assert (reserve.full, file.stat().st_size) == (False, 1000)
    before = file.read_bytes()
    DiskReserve(tmp_path, Clock(), LIMITS, Disk())
    assert file.read_bytes() == before


@pytest.mark.parametrize(("free", "full"), [(101, False), (100, False), (99, True), (0, True)])
def test_below_the_lower_limit_the_reserve_is_deleted(tmp_path: Path, free: int, full: bool) -> None:
    disk = Disk()
    reserve = DiskReserve(tmp_path, Clock(), LIMITS, disk)
    disk.free = free
    reserve.look()
    assert (reserve.full, (tmp_path / "reserve").exists()) == (full, not full)


def test_the_disk_is_full_until_there_is_enough_space_for_the_reserve(tmp_path: Path) -> None:
    disk = Disk()
    reserve = DiskReserve(tmp_path, Clock(), LIMITS, disk)
    reserve.give_up()
    for free, full in ((1100, True), (2999, True), (3000, False)):
        disk.free = free
        reserve.look()
        assert (reserve.full, (tmp_path / "reserve").exists()) == (full, not full)


def test_a_folder_that_is_gone_has_an_unknown_number_of_free_bytes(tmp_path: Path) -> None:
    def gone(_: Path) -> int:
        raise FileNotFoundError

    view = DiskReserve(tmp_path, Clock(), LIMITS, gone).view()
    assert view == {"folder": str(tmp_path), "free_bytes": None, "full": False, "enough_bytes": 3000}


def test_without_space_for_the_reserve_the_disk_is_full_and_no_part_of_it_remains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(disk_reserve.os, "fsync", refuse)
        reserve = DiskReserve(tmp_path, Clock(), LIMITS, Disk())
        assert reserve.full
        assert list(tmp_path.iterdir()) == []
    reserve.look()
    assert not reserve.full


def test_waiting_ends_with_space_or_with_a_request_to_stop(tmp_path: Path) -> None:
    disk, stop = Disk(), StopRequest()

    def freed() -> None:
        disk.free = 10_000

    reserve = DiskReserve(tmp_path, Waiting(lambda: None, freed), LIMITS, disk)
    disk.free = 0
    assert asyncio.run(reserve.wait(stop))
    disk.free = 0
    reserve = DiskReserve(tmp_path, Waiting(lambda: None, lambda: stop.ask("enough")), LIMITS, disk)
    assert not asyncio.run(reserve.wait(stop))
