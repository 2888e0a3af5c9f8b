"""Test the watch over a node's workers: it ends hung ones and explains deaths."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from actors.trial.heartbeat import Heartbeat, Phase, Worker
from actors.watchdog import hang_watch
from actors.watchdog.hang_watch import HangWatch, ProcessCalls
from supervisor.clock import FakeClock
from supervisor.governor.policy import Policy

POLICY = Policy(hung_min_s=50.0, hung_first_s=100.0, hung_first_step_s=1000.0)
OWN, GROUP = Path("/own/memory.events"), Path("/job/memory.events")


class Machine:
    """Processes in a state that a test sets, and the calls that they got."""

    def __init__(self):
        self.alive: dict[int, str] = {}
        self.ended: list[int] = []
        self.immortal = self.speechless = False
        self.kills = {OWN: 0, GROUP: 0}
        self.at_dump = lambda: None
        self.write = ProcessCalls().write

    def stacks_of(self, folder, pid):
        self.at_dump()
        return None if self.speechless else "File model.py in wait_for_godot"

    def end(self, pid, started):
        assert self.alive[pid] == started
        self.ended.append(pid)
        if self.immortal:
            return False
        del self.alive[pid]
        return True

    def calls(self):
        return ProcessCalls(
            started_at=self.alive.get, stacks_of=self.stacks_of, end=self.end, write=self.write,
            kill_counter=lambda pid: GROUP if pid in self.alive else OWN, kill_count=self.kills.get,
        )  # fmt: skip


class Bench:
    def __init__(self, folder):
        self.folder, self.clock, self.machine, self.notes = folder, FakeClock(), Machine(), []
        self.watch = self.a_watch()

    def a_watch(self):
        note = lambda kind, facts: self.notes.append((kind, facts))  # noqa: E731 - a name for the callback
        return HangWatch(self.folder / "heartbeats", POLICY, note, self.clock, self.machine.calls())

    def worker(self, pid=11, number=4, attempt=2):
        self.machine.alive[pid] = f"start-{pid}"
        worker = Worker("one", number, attempt, str(self.folder / "one" / str(number)), pid, f"start-{pid}")
        return Heartbeat(self.folder / "heartbeats", worker, in_batches=True, mono_s=self.clock.mono_s)

    def at_work(self, **worker):
        """A worker after three batches of a second."""
        heartbeat = self.worker(**worker)
        heartbeat.begin_step()
        for _ in range(4):
            heartbeat.batch(self.clock.mono_s())
            self.clock.sleep(1.0)
        return heartbeat

    def passes(self, seconds):
        """Time, with the watch looking regularly."""
        until = self.clock.now_s + seconds
        while self.clock.now_s < until:
            self.clock.sleep(self.watch.period_s)
            self.watch.look()


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_a_trial_that_is_silent_too_long_is_ended_and_its_stacks_kept(bench):
    bench.at_work()
    bench.passes(40.0)
    assert bench.machine.ended == []
    bench.passes(15.0)
    assert bench.machine.ended == [11]
    death = bench.watch.how_died("one", 4, 2)
    assert (death.cause, death.pid, death.median_s) == ("hung", 11, 1.0)
    assert 50.0 < death.silent_s < 60.0
    dump = bench.folder / "one" / "4" / "hung-attempt-2.txt"
    assert death.dump == str(dump)
    assert str(dump) in death.text
    assert "wait_for_godot" in dump.read_text()
    assert bench.notes == []


def test_the_cause_is_known_before_the_worker_ends(bench):
    """Tune sees the death within milliseconds and asks."""
    bench.at_work()
    asked = []
    end = bench.machine.end

    def end_and_ask(pid, started):
        gone = end(pid, started)
        asked.append(bench.watch.how_died("one", 4, 2).cause)
        return gone

    bench.machine.end = end_and_ask
    bench.watch = bench.a_watch()
    bench.passes(70.0)
    assert asked == ["hung"]


@pytest.mark.parametrize("phase", [Phase.IDLE, Phase.WAITING])
def test_a_trial_that_waits_is_not_ended(bench, phase):
    bench.at_work().phase(phase)
    bench.passes(100_000.0)
    assert bench.machine.ended == []


def test_a_machine_that_slept_or_was_stopped_has_no_hung_trials(bench):
    """After SIGSTOP of all processes, or a sleep, the allowance begins anew at the first look."""
    bench.at_work()
    bench.passes(10.0)
    bench.clock.sleep(50_000.0)
    bench.watch.look()
    bench.passes(45.0)
    assert bench.machine.ended == []
    bench.passes(15.0)
    assert bench.machine.ended == [11]


def test_a_wall_clock_that_jumps_changes_nothing(bench, monkeypatch):
    """The watch reads the monotonic clock only."""
    monkeypatch.setattr(FakeClock, "wall_s", lambda self: pytest.fail("the wall clock was read"))
    bench.at_work()
    bench.passes(70.0)
    assert bench.machine.ended == [11]


def test_a_trial_that_moves_while_its_stacks_are_written_is_not_ended(bench):
    heartbeat = bench.at_work()
    bench.machine.at_dump = lambda: heartbeat.batch(bench.clock.mono_s())
    bench.passes(55.0)
    assert bench.machine.ended == []
    assert not list(bench.folder.rglob("hung-*"))


def test_a_trial_that_moves_while_its_stacks_are_kept_is_not_ended(bench):
    """A trial that waited for a slow disk may continue when the disk takes the stacks."""
    heartbeat = bench.at_work()
    bench.machine.write = lambda path, text: heartbeat.batch(bench.clock.mono_s())
    bench.watch = bench.a_watch()
    bench.passes(55.0)
    assert bench.machine.ended == []
    bench.passes(55.0)
    assert bench.watch.how_died("one", 4, 2) is None


@pytest.mark.parametrize("asked", [True, False])
def test_a_trial_that_dies_while_its_stacks_are_written_did_not_die_of_its_silence(bench, asked):
    """Also when Tune has asked for the cause already."""
    bench.at_work()
    causes = []

    def dies():
        del bench.machine.alive[11]
        bench.machine.kills[GROUP] += 1
        if asked:
            causes.append(bench.watch.how_died("one", 4, 2).cause)

    bench.machine.at_dump = dies
    bench.passes(70.0)
    if not asked:
        causes.append(bench.watch.how_died("one", 4, 2).cause)
    assert (bench.machine.ended, causes) == ([], ["oom_killed"])
    assert not list(bench.folder.rglob("hung-*"))


def test_a_worker_that_cannot_be_killed_is_reported_once_and_tried_once(bench):
    bench.at_work()
    bench.machine.immortal = True
    bench.passes(500.0)
    assert bench.machine.ended == [11]
    [(kind, facts)] = bench.notes
    assert (kind, facts["number"], facts["attempt"], facts["pid"]) == ("worker.stuck", 4, 2, 11)
    assert "silent for" in facts["why"]
    # It dies at last.
    del bench.machine.alive[11]
    assert bench.watch.how_died("one", 4, 2).cause == "hung"


@pytest.mark.parametrize("why", ["speechless", "no room", "a disk that hangs"])
def test_a_hung_trial_is_ended_without_stacks_too(bench, why, monkeypatch):
    bench.at_work()
    if why == "a disk that hangs":
        monkeypatch.setattr(hang_watch, "WRITE_WITHIN_S", 0.1)
        bench.machine.write = lambda path, text: threading.Event().wait(300)
        bench.watch = bench.a_watch()
    bench.machine.speechless = why == "speechless"
    if why == "no room":
        (bench.folder / "one").write_text("a file where the trial's folder should be")
    bench.passes(70.0)
    death = bench.watch.how_died("one", 4, 2)
    assert (death.cause, death.dump) == ("hung", None)
    assert "could not be read" in death.text


def test_another_process_with_the_same_pid_is_not_ended(bench):
    bench.at_work()
    bench.machine.alive[11] = "start-later"
    bench.passes(500.0)
    assert bench.machine.ended == []
    assert not list((bench.folder / "heartbeats").iterdir())


@pytest.mark.parametrize(("counter", "cause"), [(GROUP, "oom_killed"), (OWN, "worker_died"), (None, "worker_died")])
def test_a_death_is_the_kernels_only_if_its_own_group_counted_a_kill(bench, counter, cause):
    bench.at_work()
    bench.watch.look()
    del bench.machine.alive[11]
    if counter is not None:
        bench.machine.kills[counter] += 1
    assert bench.watch.how_died("one", 4, 2).cause == cause


def test_one_kill_explains_one_death(bench):
    bench.at_work()
    bench.at_work(pid=12, number=5, attempt=1)
    bench.watch.look()
    bench.machine.alive.clear()
    bench.machine.kills[GROUP] += 1
    bench.watch.look()
    causes = [bench.watch.how_died("one", number, attempt).cause for number, attempt in ((4, 2), (5, 1))]
    assert causes == ["oom_killed", "worker_died"]


def test_a_worker_that_lives_or_is_unknown_has_no_death(bench):
    bench.at_work()
    assert bench.watch.how_died("one", 4, 2) is None
    assert bench.watch.how_died("two", 4, 2) is None


def test_a_worker_that_ends_without_a_trial_leaves_no_file_behind(bench):
    """A search of weeks has thousands of them. One that lives, between two trials, needs its file."""
    for pid in (11, 12, 13):
        bench.worker(pid=pid, number=pid).drop()
        (bench.folder / "heartbeats" / f"{pid}.stacks").touch()
    bench.worker(pid=12, number=12)
    del bench.machine.alive[13]
    bench.watch.look()
    assert {path.name for path in (bench.folder / "heartbeats").glob("*.stacks")} == {"11.stacks", "12.stacks"}


def test_a_death_is_reported_once(bench):
    """The number of an attempt whose start was never reported may be used again."""
    bench.at_work()
    bench.passes(70.0)
    assert bench.watch.how_died("one", 4, 2).cause == "hung"
    bench.at_work(pid=12)
    assert bench.watch.how_died("one", 4, 2) is None
    del bench.machine.alive[12]
    assert bench.watch.how_died("one", 4, 2).cause == "worker_died"
