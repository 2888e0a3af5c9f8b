"""Room for last words: the reserve goes before anything has failed, and comes back when there is space to spare."""

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
    """Each sleep lets something happen."""

    def __init__(self, *happenings: object) -> None:
        self._happenings = iter(happenings)

    async def sleep(self, seconds: float) -> None:
        happening = next(self._happenings)
        assert callable(happening)
        happening()


def test_the_reserve_really_takes_its_space_and_is_made_once(tmp_path: Path) -> None:
    room = DiskReserve(tmp_path, Clock(), LIMITS, Disk())
    reserve = tmp_path / "reserve"
    assert (room.full, reserve.stat().st_size) == (False, 1000)
    before = reserve.read_bytes()
    DiskReserve(tmp_path, Clock(), LIMITS, Disk())
    assert reserve.read_bytes() == before


@pytest.mark.parametrize(("free", "full"), [(101, False), (100, False), (99, True), (0, True)])
def test_below_the_floor_the_reserve_is_given_up(tmp_path: Path, free: int, full: bool) -> None:
    disk = Disk()
    room = DiskReserve(tmp_path, Clock(), LIMITS, disk)
    disk.free = free
    room.look()
    assert (room.full, (tmp_path / "reserve").exists()) == (full, not full)


def test_work_goes_on_only_with_space_to_spare_and_the_reserve_back(tmp_path: Path) -> None:
    disk = Disk()
    room = DiskReserve(tmp_path, Clock(), LIMITS, disk)
    room.give_up()
    for free, full in ((1100, True), (2999, True), (3000, False)):
        disk.free = free
        room.look()
        assert (room.full, (tmp_path / "reserve").exists()) == (full, not full)


def test_no_space_for_the_reserve_is_a_full_disk_and_leaves_no_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(disk_reserve.os, "fsync", refuse)
        room = DiskReserve(tmp_path, Clock(), LIMITS, Disk())
        assert room.full
        assert list(tmp_path.iterdir()) == []
    room.look()
    assert not room.full


def test_waiting_ends_with_the_space_or_with_the_stop(tmp_path: Path) -> None:
    disk, stop = Disk(), StopRequest()

    def freed() -> None:
        disk.free = 10_000

    room = DiskReserve(tmp_path, Waiting(lambda: None, freed), LIMITS, disk)
    disk.free = 0
    assert asyncio.run(room.wait(stop))
    disk.free = 0
    room = DiskReserve(tmp_path, Waiting(lambda: None, lambda: stop.ask("enough")), LIMITS, disk)
    assert not asyncio.run(room.wait(stop))
