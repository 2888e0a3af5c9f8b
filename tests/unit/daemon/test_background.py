"""Test background tasks: bounded logs, lost time, and a failed task's restart."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.clock import Clock
from supervisor.daemon.upkeep.background import CLOCK_PERIOD_S, Look, between, keep_bounded, keep_running
from supervisor.domain.time_accounting import driven_seconds, uncounted_s
from supervisor.errors import DiskFailed
from tests.waits import NET_S

HOUR, DAY = 3600.0, 86400.0


def after(ran_s: float, slept_s: float = 0.0, set_s: float = 0.0, boot: bool = True) -> list[tuple[str, float]]:
    """Return the events of a time in which this process ran, the machine slept, and the clock was set."""
    before = Look(1e9, 100.0, 100.0 if boot else None)
    now = Look(1e9 + ran_s + slept_s + set_s, 100.0 + ran_s, 100.0 + ran_s + slept_s if boot else None)
    return [(event, round(fields["seconds"], 1)) for event, fields in between(before, now, CLOCK_PERIOD_S)]


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ([], after(2.0)),
        ([], after(4.5, slept_s=0.3, set_s=-0.5)),
        ([("machine.slept", HOUR)], after(2.0, slept_s=HOUR)),
        ([("clock.set", -HOUR)], after(2.0, set_s=-HOUR)),
        ([("clock.set", DAY)], after(2.0, set_s=DAY)),
        ([("daemon.stood_still", 58.0)], after(60.0)),
        ([("machine.slept", HOUR), ("clock.set", -HOUR)], after(2.0, slept_s=HOUR, set_s=-HOUR)),
        ([("clock.set", HOUR)], after(2.0, slept_s=HOUR, boot=False)),
    ],
)
def test_sleep_a_stop_and_a_set_clock_are_distinguished(
    expected: list[tuple[str, float]], found: list[tuple[str, float]]
) -> None:
    assert found == expected


def test_the_machine_has_all_three_clocks_or_lacks_one() -> None:
    look = Look.at(Clock())
    assert look.boot_s is None or look.boot_s >= 0.0
    assert between(look, Look.at(Clock()), planned_s=0.0) == []


@given(st.lists(st.tuples(st.floats(0, 5e4), st.floats(-9e4, 9e4)), min_size=1, max_size=8))
@settings(max_examples=30)
def test_neither_sleep_nor_a_set_clock_counts_for_an_experiments_hours(lives: list[tuple[float, float]]) -> None:
    """Each life is a pair: seconds at work, and how far the wall clock moves beside them."""
    wall, events, worked = 1e9, [], 0.0
    for work_s, moved_s in lives:
        events.append(("experiment.started", wall, {}))
        wall += work_s / 2
        events.append(("trial.reported", wall, {}))
        wall += moved_s
        events.append(("machine.slept" if moved_s > 0 else "clock.set", wall, {"seconds": moved_s}))
        wall += work_s / 2
        events.append(("driver.exited", wall, {}))
        worked += work_s
    assert driven_seconds(events) == pytest.approx(worked, abs=1e-3)


def test_only_time_in_which_no_driver_could_run_is_uncounted() -> None:
    assert uncounted_s("machine.slept", {"seconds": 5.0}) == 5.0
    assert uncounted_s("clock.set", {"seconds": -5.0}) == -5.0
    assert uncounted_s("daemon.stood_still", {"seconds": 5.0}) == 0.0, "the driver went on"
    assert uncounted_s("run.finished", {"seconds": 5.0}) == 0.0


def test_a_log_over_its_bound_keeps_its_last_half_and_its_writer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "driver.log"
    program = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"
    with path.open("ab") as log:
        child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=log, bufsize=0)
    assert child.stdin is not None
    child.stdin.write(b"".join(b"%04d\n" % number for number in range(100)))
    while path.stat().st_size < 500:
        pass
    assert not keep_bounded(path, 500)
    assert keep_bounded(path, 499)
    child.stdin.write(b"after\n")
    child.stdin.close()
    child.wait(NET_S)
    assert path.read_bytes() == b"after\n"
    assert (tmp_path / "driver.log.1").read_bytes().endswith(b"0098\n0099\n")
    assert (tmp_path / "driver.log.1").stat().st_size == 249


def test_a_missing_log_is_left_alone(tmp_path: Path) -> None:
    assert not keep_bounded(tmp_path / "driver.log")


class FastClock(Clock):
    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


def test_a_task_that_fails_starts_again_until_it_returns_or_the_disk_fails() -> None:
    ends: list[Exception | None] = [ValueError("a bug"), PermissionError("no access"), None, DiskFailed("broken")]
    failures: list[DiskFailed] = []

    async def task() -> None:
        end = ends.pop(0)
        if end is not None:
            raise end

    asyncio.run(keep_running(task, FastClock(), failures.append))
    assert (len(ends), failures) == (1, [])
    asyncio.run(keep_running(task, FastClock(), failures.append))
    assert (ends, [failure.message for failure in failures]) == ([], ["broken"])
