"""Attempts that wait at a closed gate are found by their heartbeats."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from actors.trial.heartbeat import Heartbeat, Phase, Progress, Worker
from actors.watchdog.hang_watch import WaitWatch, waiting
from supervisor.clock import FakeClock

WORKER = Worker("e", 3, 2, "/f", 11, "start")
ATTEMPT = ("e", 3, 2)


def closed(experiment: str, number: int) -> bool:
    return True


def opened(experiment: str, number: int) -> bool:
    return False


def test_an_attempt_that_waits_at_a_closed_gate_is_found_until_it_moves() -> None:
    """Also while the flag is open already: its worker has not seen it yet."""
    first = waiting({}, [(WORKER, Progress(Phase.WAITING, 5.0))], closed)
    assert first == {ATTEMPT: 5.0}
    assert waiting(first, [(WORKER, Progress(Phase.WAITING, 5.0))], opened) == first
    assert waiting(first, [(WORKER, Progress(Phase.WORKING, 6.0))], opened) == {}


def test_a_rest_or_a_wait_for_disk_space_does_not_count() -> None:
    """A trial that rests again has moved between its two rests."""
    assert waiting({}, [(WORKER, Progress(Phase.WAITING, 5.0))], opened) == {}
    assert waiting({ATTEMPT: 5.0}, [(WORKER, Progress(Phase.WAITING, 7.0))], opened) == {}


@given(st.sampled_from([phase for phase in Phase if phase is not Phase.WAITING]))
def test_a_closed_flag_alone_makes_no_attempt_wait(phase: Phase) -> None:
    """It may be in the middle of a batch, or be loading its checkpoint."""
    assert waiting({ATTEMPT: 5.0}, [(WORKER, Progress(phase, 5.0))], closed) == {}


def test_a_trial_that_is_held_by_itself_waits_alone() -> None:
    other = Worker("e", 4, 1, "/f", 12, "start")
    found = [(worker, Progress(Phase.WAITING, 5.0)) for worker in (WORKER, other)]
    assert set(waiting({}, found, lambda experiment, number: (experiment, number) == ("e", 3))) == {ATTEMPT}


def test_a_look_says_whether_other_attempts_wait_than_before(tmp_path: Path) -> None:
    clock, watch = FakeClock(), WaitWatch(tmp_path)
    assert not watch.look(closed)
    heartbeat = Heartbeat(tmp_path, WORKER, in_batches=True, mono_s=clock.mono_s)
    heartbeat.phase(Phase.WAITING)
    assert watch.look(closed)
    assert watch.attempts == [ATTEMPT]
    assert not watch.look(closed)
    heartbeat.phase(Phase.WORKING)
    assert watch.look(closed)
    assert watch.attempts == []
