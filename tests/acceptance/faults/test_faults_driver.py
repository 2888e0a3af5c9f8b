"""Test faults of a driver: it dies, hangs, ignores a stop, comes late, leaves children behind.

Ray's own processes are killed for real in test_faults_ray.
"""

from __future__ import annotations

import asyncio
import functools
import os
from pathlib import Path

import pytest

from supervisor.control.client import ask
from supervisor.daemon import assembly
from supervisor.home import Home
from supervisor.processes import driver_process
from supervisor.processes import orphans as orphans
from supervisor.processes.environment import OWNER
from tests.acceptance.faults.evidence import names, recorded, stored
from tests.acceptance.faults.stories import (
    END_ORPHANS,
    ONCE,
    finishes,
    is_gone,
    live_to_the_end,
    patience,
    story,
)
from tests.acceptance.lives import KILLED, FakeHead, Setting, check_everything, living, until

DIES = (
    ONCE
    + """
def at(number, attempt, step):
    if (number, step) == (0, 2) and once("died"):
        os.kill(os.getpid(), 9)
"""
)


@pytest.mark.fault(
    "19",
    "kill -9 of the driver",
    "seen at once by its exit status, its trial requeued once with the cause, the run continues",
)
def test_a_killed_driver_is_recorded_and_replaced(home: Home) -> None:
    live_to_the_end(home, Setting(driver=story(DIES)))
    events = check_everything(home)
    died = [event for event in events if event["event"] == "driver.exited"]
    assert [event["reason"] for event in died] == ["signal SIGKILL"]
    assert names(events).count("driver.started") == 2
    lost = [(event["cause"]) for event in events if event["event"] == "trial.requeued"]
    assert lost == ["driver_died"]
    resumed = [event["resumed_step"] for event in events if event["event"] == "trial.started"]
    assert resumed == [None, 1, None], "it goes on from its checkpoint"


STOPS = (
    ONCE
    + """
def at(number, attempt, step):
    if (number, step) == (0, 2) and once("stopped"):
        os.kill(os.getpid(), 19)
"""
)


@pytest.mark.fault(
    "19",
    "SIGSTOP of the driver: it hangs",
    "found silent, killed, its trial requeued with the cause, the run continues",
)
def test_a_silent_driver_is_killed_and_replaced(home: Home) -> None:
    live_to_the_end(home, Setting(driver=story(STOPS), change=patience(4.0, story(STOPS))))
    events = check_everything(home)
    assert [event["silent_s"] for event in events if event["event"] == "driver.hung"] == [4.0]
    assert [event["cause"] for event in events if event["event"] == "trial.requeued"] == ["driver_died"]
    pids = [event["pid"] for event in events if event["event"] == "driver.started"]
    assert len(pids) == 2
    assert is_gone(pids[0])


class MortalHead(FakeHead):
    """Its first one ends when the run has a result."""

    made = 0

    async def exited(self) -> int:
        MortalHead.made += 1
        if MortalHead.made == 1:
            log = Home(Path(os.environ["SWEEP_TEST_HOME"])).audit_log("p")
            while b"trial.reported" not in log.read_bytes():
                await asyncio.sleep(0.02)
            return 1
        return await super().exited()


def with_a_mortal_head() -> None:
    assembly.RayHead = MortalHead  # type: ignore[misc, assignment]


@pytest.mark.fault(
    "20",
    "Ray's head ends",
    "recorded with its status, the driver is killed at once, Ray and driver start again, the run continues",
)
def test_the_end_of_rays_head_ends_its_driver_and_both_start_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEP_TEST_HOME", str(home.root))
    slow = "def at(number, attempt, step):\n    time.sleep(0.2 if attempt == 1 else 0)\n"
    live_to_the_end(home, Setting(driver=story(slow), change=with_a_mortal_head))
    events = check_everything(home)
    seen = names(events)
    assert [event["status"] for event in events if event["event"] == "ray.exited"] == ["exit code 1"]
    assert (seen.count("ray.started"), seen.count("driver.started")) == (2, 2)
    assert seen.index("ray.exited") < seen.index("driver.exited") < len(seen) - seen[::-1].index("ray.started")


STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def at(number, attempt, step):
    if attempt == 1 and (number, step) == (0, 2):
        child = os.fork()
        if child:
            (folder / "stubborn").write_text(f"{os.getpid()} {child}")
        while True:
            time.sleep(60)
"""


def impatient() -> None:
    driver_process.FINISH_GRACE_S = 0.5


@pytest.mark.fault(
    "27",
    "a driver and its child ignore SIGTERM",
    "its group is killed after the grace; the run stays stopped and loses nothing",
)
def test_a_driver_that_ignores_sigterm_is_killed_with_its_group(home: Home) -> None:
    with living(home, Setting(driver=story(STUBBORN), change=impatient)) as first:
        until(home, "it hangs", lambda: stubborn_pids(home))
        pids = [int(pid) for pid in stubborn_pids(home)]
        ask(home, "stop", {})
        finishes(home, first)
    assert all(is_gone(pid) for pid in pids)
    assert stored(home, "SELECT state, desired FROM run") == [{"state": "STOPPED", "desired": "stop"}]
    assert [event["cause"] for event in recorded(home) if event["event"] == "trial.requeued"] == ["stopped"]
    assert stored(home, "SELECT count(*) AS live FROM attempt WHERE ended_wall IS NULL") == [{"live": 0}]
    live_to_the_end(home)
    check_everything(home)


def stubborn_pids(home: Home) -> list[str]:
    """Return the pids of the driver and its child, once both are there."""
    found = [path.read_text().split() for path in home.runs.glob("*/x/stubborn")]
    return next((pids for pids in found if len(pids) == 2), [])


ORPHANS = (
    ONCE
    + """
def at(number, attempt, step):
    if (number, step) == (0, 2) and once("orphan"):
        child = os.fork()
        if child == 0:
            os.setsid()
            if os.fork() == 0:
                os.closerange(0, 64)
                (folder / "orphan.new").write_text(str(os.getpid()))
                (folder / "orphan.new").rename(folder / "orphan.pid")
                time.sleep(300)
            os._exit(0)
        os.waitpid(child, 0)
        while not (folder / "orphan.pid").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), 9)
"""
)


def marked(home: Home) -> None:
    """Mark the life's children with the home's mark, and find them by it."""
    os.environ[OWNER] = home.key
    orphans.end = END_ORPHANS


def orphan_of(home: Home) -> int:
    (path,) = home.runs.glob("*/x/orphan.pid")
    return int(path.read_text())


@pytest.mark.fault(
    "28", "a daemonised grandchild outlives its driver", "found by its mark before the next driver, ended and named"
)
def test_an_orphan_of_a_driver_is_ended_before_the_next_one_begins(home: Home) -> None:
    live_to_the_end(home, Setting(driver=story(ORPHANS), change=functools.partial(marked, home)))
    events = check_everything(home)
    orphan = orphan_of(home)
    assert is_gone(orphan)
    seen = names(events)
    (swept,) = [event for event in events if event["event"] == "orphans.ended"]
    assert [text.split()[0] for text in swept["processes"]] == [str(orphan)]
    assert seen.index("driver.exited") < seen.index("orphans.ended") < len(seen) - seen[::-1].index("driver.started")


@pytest.mark.fault(
    "28", "a daemonised grandchild outlives its driver and the daemon", "ended and named by the next start"
)
def test_an_orphan_of_a_dead_daemon_is_ended_by_the_next_start(home: Home) -> None:
    orphans = ORPHANS.replace("os.kill(os.getpid(), 9)", "os.kill(os.getppid(), 9)")
    with living(home, Setting(driver=story(orphans), change=functools.partial(marked, home))) as first:
        assert first.ended()[0] == KILLED
    orphan = orphan_of(home)
    assert not is_gone(orphan)
    live_to_the_end(home, Setting(driver=story(orphans), change=functools.partial(marked, home)))
    events = check_everything(home)
    assert is_gone(orphan)
    ended = [text for event in events if event["event"] == "orphans.ended" for text in event["processes"]]
    assert str(orphan) in [text.split()[0] for text in ended]
    assert names(events).count("daemon.recovered") == 1


ZOMBIE = """
def at(number, attempt, step):
    if (number, attempt, step) == (0, 1, 3):
        send(link.ResultReported(0, 1, 2, 123.0, {}, None))             # said twice
        send(link.AttemptLost(0, 1, "worker_died", None))
        send(link.ResultReported(0, 1, 3, 123.0, {}, None))             # said after it was lost
        send(link.TrialStarted(0, 1, "ray", "node", 1, None))           # starts as what it was
        send(link.TrialStarted(0, 2, "ray", "node", os.getpid(), 2))
        send(link.ResultReported(0, 1, 3, 123.0, {}, None))             # said while another speaks
        send(link.TrialEnded(0, 1, "finished", 123.0, None, {}))
        globals()["attempt"] = 2
    if (number, step) == (1, 1):
        send(link.ResultReported(0, 2, 3, 123.0, {}, None))             # said after the trial's end
"""


@pytest.mark.fault(
    "29", "a result comes twice, late, or from an attempt that was lost", "refused and recorded; the first one counts"
)
def test_messages_of_a_lost_attempt_are_refused_and_change_nothing(home: Home) -> None:
    live_to_the_end(home, Setting(driver=story(ZOMBIE)))
    events = check_everything(home)
    refused = [(event["message"], event["reason"]) for event in events if event["event"] == "result.refused"]
    assert refused == [
        ("ResultReported", "that attempt was lost"),
        ("TrialStarted", "an attempt of that number was started before"),
        ("ResultReported", "attempt 2 speaks for it now"),
        ("TrialEnded", "attempt 2 speaks for it now"),
        ("ResultReported", "it has ended"),
    ]
    values = stored(home, "SELECT value FROM result WHERE trial = 0 ORDER BY step")
    assert [row["value"] for row in values] == [1.0, 1 / 2, 1 / 3]
