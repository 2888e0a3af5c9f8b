"""A worker's heartbeat: its phases, and the batches that a gate measures."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray import tune

import actors.trial.checkpoints
import actors.trial.supervised
from actors.trial.device_memory import DeviceMemory
from actors.trial.gate import Gate, Leave
from actors.trial.heartbeat import (
    BATCHES,
    TAILS,
    Heartbeat,
    Phase,
    Progress,
    Worker,
    WorkerMemory,
    read_heartbeat,
    trials_of_workers,
)
from actors.trial.node_files import LEASE_S, FlagWriter
from actors.trial.patchtst import PatchTSTTrainable
from supervisor.clock import FakeClock
from supervisor.domain.command import Action
from supervisor.processes.identity import started_at
from supervisor.sensors.trial_memory import TrialWorker

WORKER = Worker("2M-h1", 7, 2, "/runs/ä/7", 4711, "123")


def progress_in(folder: Path) -> Progress:
    found = read_heartbeat(folder / "4711.heartbeat")
    assert found is not None
    assert found[0] == WORKER
    return found[1]


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def heartbeat(tmp_path, clock):
    return Heartbeat(tmp_path / "heartbeats", WORKER, in_batches=True, mono_s=clock.mono_s)


def test_a_worker_is_preparing_until_it_says_otherwise(heartbeat, clock, tmp_path):
    assert progress_in(tmp_path / "heartbeats") == Progress(Phase.PREPARING, clock.now_s, True)
    clock.sleep(3.0)
    heartbeat.phase(Phase.IDLE)
    assert progress_in(tmp_path / "heartbeats") == Progress(Phase.IDLE, clock.now_s, True)
    heartbeat.drop()
    assert list((tmp_path / "heartbeats").iterdir()) == []


def test_batches_and_tails_are_measured(heartbeat, clock, tmp_path):
    """From wait to wait within a step; what comes before a step's first wait is no batch, nor is the time between."""
    for _ in range(2):
        heartbeat.batch(clock.mono_s())  # a step waits once before it begins
        heartbeat.begin_step()
        clock.sleep(0.5)  # before the first wait
        for seconds in (1.0, 2.0):
            heartbeat.batch(clock.mono_s())
            clock.sleep(seconds)
        heartbeat.batch(clock.mono_s())
        clock.sleep(9.0)
        heartbeat.end_step()
        clock.sleep(1000.0)
    progress = progress_in(tmp_path / "heartbeats")
    assert progress.phase is Phase.IDLE
    assert progress.batches_s == pytest.approx((1.0, 2.0))
    assert progress.tails_s == pytest.approx((9.0, 9.0))


def test_a_step_without_batches_is_all_tail(heartbeat, clock, tmp_path):
    heartbeat.begin_step()
    clock.sleep(4.0)
    heartbeat.end_step()
    assert progress_in(tmp_path / "heartbeats").tails_s == (4.0,)


def test_what_the_accelerator_holds_is_measured_at_each_phase_and_at_most_once_a_second(clock, tmp_path):
    asked = []

    def memory():
        asked.append(clock.now_s)
        return DeviceMemory(len(asked) * 1000, shared=True)

    heartbeat = Heartbeat(tmp_path / "heartbeats", WORKER, in_batches=True, mono_s=clock.mono_s, memory=memory)
    heartbeat.begin_step()
    for _ in range(25):
        heartbeat.batch(clock.mono_s())
        clock.sleep(0.1)
    heartbeat.claim(17, 5_000_000_000)
    assert len(asked) == 2 + 2
    assert progress_in(tmp_path / "heartbeats").memory == WorkerMemory(4000, True, 5_000_000_000, 17)
    heartbeat.claim(0, 0)
    assert progress_in(tmp_path / "heartbeats").memory == WorkerMemory(4000, True)


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=100))
def test_the_last_ones_are_kept(tmp_path_factory, lengths):
    folder, clock = tmp_path_factory.mktemp("heartbeats"), FakeClock(0.0)
    heartbeat = Heartbeat(folder, WORKER, in_batches=False, mono_s=clock.mono_s)
    heartbeat.begin_step()
    heartbeat.batch(clock.mono_s())
    taken = []
    for length in lengths:
        before = clock.now_s
        clock.sleep(length)
        heartbeat.batch(clock.mono_s())
        taken.append(clock.now_s - before)
    for _ in range(TAILS + 3):
        clock.sleep(1.0)
        heartbeat.end_step()
        heartbeat.begin_step()
    progress = progress_in(folder)
    assert sorted(progress.batches_s) == sorted(taken[-BATCHES:])
    assert len(progress.tails_s) == TAILS


@pytest.mark.parametrize(
    "body", [b"", b"SWPB", b"x" * 400, b"SWPB\x02\0\0\0" + b"\0" * 392, b"SWPB\x01\0\0\0" + b"\0" * 392]
)
def test_a_file_that_is_no_heartbeat_is_none(tmp_path, body):
    (tmp_path / "1.heartbeat").write_bytes(body)
    assert read_heartbeat(tmp_path / "1.heartbeat") is None


@pytest.fixture
def gate(heartbeat, clock, tmp_path):
    """An open one, with its writer, of a worker at its step."""
    writer = FlagWriter(tmp_path / "flag", clock.mono_s)
    writer.write(Action.RUN, 0.0)
    heartbeat.begin_step()
    return Gate(tmp_path / "flag", clock.mono_s, clock.sleep, heartbeat=heartbeat), writer


def test_each_wait_at_an_open_gate_is_a_beat(gate, clock, tmp_path):
    opened, _ = gate
    for seconds in (0.25, 0.75):
        opened.wait()
        clock.sleep(seconds)
    opened.wait()
    assert progress_in(tmp_path / "heartbeats") == Progress(Phase.WORKING, clock.now_s, True, (0.25, 0.75))


@pytest.mark.parametrize("action", [Action.THROTTLE, Action.PAUSE])
def test_a_worker_at_a_closed_gate_or_at_rest_is_waiting_and_its_wait_is_no_batch(gate, clock, tmp_path, action):
    """While it waits it says so; then it works again, from now on."""
    closed, writer = gate
    closed.wait()
    clock.sleep(2.0)
    writer.write(action, 0.5)
    seen = []
    sleep = clock.sleep

    def look_and_open(seconds):
        seen.append(progress_in(tmp_path / "heartbeats").phase)
        sleep(LEASE_S / 2)
        writer.write(Action.RUN, 0.0)

    closed._sleep = look_and_open
    assert closed.wait() > 0
    assert seen == [Phase.WAITING]
    assert progress_in(tmp_path / "heartbeats") == Progress(Phase.WORKING, clock.now_s, True, (2.0,))


class Looks(tune.Trainable):
    """Keeps the phase of its own heartbeat, in its step and while it is saved."""

    sweep_batches = True

    def step(self):
        self.seen = [self.look()]
        return {"loss": 1.0}

    def save_checkpoint(self, checkpoint_dir):
        self.seen.append(self.look())
        return {}

    def load_checkpoint(self, checkpoint):
        """Load nothing."""


class Unaware(Looks):
    sweep_batches = False


@pytest.fixture
def supervised(tmp_path, monkeypatch):
    """A supervised trial after its setup, without Ray, that can look at its own heartbeat."""
    monkeypatch.setattr(actors.trial.supervised, "prefer_for_oom", lambda: None)
    monkeypatch.setattr(actors.trial.supervised, "dump_on_signal", lambda folder: None)

    def make(kind):
        made = actors.trial.supervised.supervise(kind)
        trial = made.__new__(made)
        trial._failure, trial._step, trial.sweep_number, trial.sweep_memory = None, 0, 7, None
        trial.sweep_metric = "loss"
        own, folder = {"experiment": "one", "attempt": 3}, tmp_path / "one" / "7"
        trial._heartbeat = trial._begin_heartbeat(own, folder, tmp_path / "heartbeats")
        trial._last_step, trial._leaves = None, False
        trial.sweep_gate = SimpleNamespace(wait=lambda: 0.0, waited_s=0.0)
        trial.sweep_checkpoints = trial._checkpoints_in(folder, 0.0)
        trial.look = lambda: read_heartbeat(tmp_path / "heartbeats" / f"{os.getpid()}.heartbeat")[1].phase
        return trial

    return make


def test_a_trial_works_in_its_step_prepares_while_it_is_saved_and_is_idle_between(supervised, tmp_path):
    trial = supervised(Looks)
    assert trial.look() is Phase.PREPARING
    trial.step()
    assert trial.seen == [Phase.WORKING, Phase.PREPARING]
    assert trial.look() is Phase.IDLE
    [path] = (tmp_path / "heartbeats").iterdir()
    worker, progress = read_heartbeat(path)
    assert (worker.experiment, worker.number, worker.attempt, worker.folder) == (
        "one",
        7,
        3,
        str(tmp_path / "one" / "7"),
    )
    assert worker.started == started_at(os.getpid())
    assert len(progress.tails_s) == 1


def test_only_a_trial_that_waits_for_space_may_be_silent_without_a_bound(supervised, monkeypatch):
    """Each time that it tries to save it is watched again."""
    trial = supervised(Looks)
    trial.seen = []

    def once_there_is_space(save, folder, waits):
        waits()
        trial.seen.append(trial.look())
        return save()

    monkeypatch.setattr(actors.trial.checkpoints, "when_there_is_space", once_there_is_space)
    trial.sweep_checkpoints.save(0)
    assert trial.seen == [Phase.WAITING, Phase.PREPARING]


def test_a_step_that_fails_leaves_the_trial_idle(supervised):
    trial = supervised(Looks)
    look, trial.look = trial.look, lambda: 1 / 0
    assert trial.step()["done"] is True
    assert look() is Phase.IDLE


def test_a_trial_that_leaves_its_work_has_no_heartbeat_any_more(supervised, tmp_path):
    def leave():
        raise Leave

    trial = supervised(Looks)
    trial.seen, trial.sweep_gate.wait = [], leave
    trial.step()
    assert trial.seen == [Phase.PREPARING]
    assert list((tmp_path / "heartbeats").iterdir()) == []


@pytest.mark.parametrize(("kind", "in_batches"), [(Looks, True), (Unaware, False)])
def test_a_class_says_whether_it_waits_at_its_gate_before_every_batch(supervised, tmp_path, kind, in_batches):
    supervised(kind)
    [path] = (tmp_path / "heartbeats").iterdir()
    assert read_heartbeat(path)[1].in_batches is in_batches


def test_the_built_in_trainable_waits_at_its_gate_before_every_batch():
    assert PatchTSTTrainable.sweep_batches is True


def test_only_living_workers_are_listed_with_their_trials(tmp_path):
    """A process that was given a dead worker's pid is none of ours."""
    pid = os.getpid()
    Heartbeat(tmp_path, Worker("2M-h1", 7, 2, "/f", pid, started_at(pid)), in_batches=True)
    assert trials_of_workers(tmp_path) == {pid: TrialWorker("2M-h1/7")}
    Heartbeat(tmp_path, Worker("2M-h1", 7, 2, "/f", pid, "another start"), in_batches=True)
    assert trials_of_workers(tmp_path) == {}
    assert trials_of_workers(tmp_path / "absent") == {}
