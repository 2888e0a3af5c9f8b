"""A process that hangs is followed through each part up to the store, without Ray."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from actors.driver.commands_in_force import CommandsInForce
from actors.driver.watchdog_links import Node
from actors.trial.node_files import heartbeats_folder
from actors.watchdog.actor import Watchdog
from actors.watchdog.hang_watch import HangWatch
from actors.watchdog.node_governor import WatchdogSettings
from supervisor.domain import messages
from supervisor.domain.command import Origin, run
from tests.unit.store.writers import make_writer, say

ROOT = Path(__file__).resolve().parents[3]
NODE = "n" * 40
WORKER = """
import os, sys, time
from pathlib import Path
from actors.trial.heartbeat import Heartbeat, Worker
from actors.trial.worker_process import dump_on_signal
from supervisor.processes.identity import started_at
heartbeats, folder = Path(sys.argv[1]), sys.argv[2]
def wait_for_godot():
    while True:
        time.sleep(600)
dump_on_signal(heartbeats)
heartbeat = Heartbeat(heartbeats, Worker("one", 7, 2, folder, os.getpid(), started_at(os.getpid())), in_batches=True)
heartbeat.begin_step()
for _ in range(3):
    heartbeat.batch(time.monotonic())
print("up", flush=True)
wait_for_godot()
"""


@pytest.fixture
def settings(tmp_path):
    policy = {"hung_min_s": 0.5, "hung_first_s": 60.0, "disk_hold_bytes": 2.0, "disk_pause_bytes": 1.0}
    return WatchdogSettings(NODE, str(tmp_path / "gate"), policy, None, (str(tmp_path),))


@pytest.fixture
def worker(settings, tmp_path):
    """A process that has three batches behind it and then hangs."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(heartbeats_folder(settings.gate, NODE)), str(tmp_path / "one" / "7")],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture
def start(settings):
    dogs = []

    def make(*more):
        opened = lambda *_, **__: (list(more), [])  # noqa: E731 - no sensor of this machine matters here
        dogs.append(Watchdog(settings, open_providers=opened))
        return dogs[-1]

    yield make
    for dog in dogs:
        dog.stop()


def test_a_watchdog_ends_a_process_that_hangs_and_knows_the_cause_of_its_death(start, worker, tmp_path):
    dog = start()
    assert dog.how_died("one", 7, 2) is None
    assert worker.wait(120) < 0
    death = dog.how_died("one", 7, 2)
    assert (death.cause, death.pid) == ("hung", worker.pid)
    assert "in wait_for_godot" in (tmp_path / "one" / "7" / "hung-attempt-2.txt").read_text()


def test_a_hung_process_is_ended_while_a_sensor_hangs(start, worker):
    """Its thread needs nothing that the sensors' thread holds."""
    go_on = threading.Event()

    class Hangs:
        """Gives one round of readings, then no more."""

        name = "hangs"

        def __init__(self):
            self.rounds = [None]

        def read(self):
            if self.rounds:
                self.rounds.pop()
            else:
                go_on.wait(200)
            return []

        def close(self):
            """Close no file: none was opened."""

    dog = start(Hangs())
    try:
        assert worker.wait(120) < 0
        assert dog.how_died("one", 7, 2).cause == "hung"
    finally:
        go_on.set()


def test_a_look_that_fails_is_not_the_last(start, monkeypatch):
    looks = []

    def look(self):
        looks.append(time.monotonic())
        raise OSError("the folder is on a disk that is gone")

    monkeypatch.setattr(HangWatch, "look", look)
    start()
    deadline = time.monotonic() + 60
    while len(looks) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_watchdogs_note_of_a_worker_that_cannot_be_killed_becomes_a_message(settings):
    sent = []
    link, in_force = type("Link", (), {"send": staticmethod(sent.append)}), CommandsInForce("one")
    node = Node(link, in_force, settings, in_force.for_watchdogs)
    facts = {
        "experiment": "one",
        "number": 7,
        "attempt": 2,
        "pid": 4711,
        "why": "silent",
        "folder": "/",
        "started": "1",
    }
    node.take(
        {
            "version": 1, "pid": 5, "largest_trial": None, "command": run(Origin.GOVERNOR).to_json(), "readings": [],
            "protected": True, "notes": [{"kind": "worker.stuck", "facts": facts}], "waiting": [["one", 7, 2]],
        }
    )  # fmt: skip
    assert in_force.is_waiting(NODE, 7, 2)
    assert messages.WorkerStuck(7, 2, NODE, 4711, "silent") in sent


def test_a_hang_is_an_event_of_the_attempt_that_hung_and_of_no_other(tmp_path):
    """In the log with its silence, median and file; a late one is refused."""
    writer = make_writer(tmp_path / "sweep.db")
    for message in (
        messages.TrialAdded(0, {}, "sampled"),
        messages.TrialStarted(0, 1, "a", "n", 9, None),
        messages.WorkerStuck(0, 1, "n", 9, "silent for 300 s"),
        messages.TrialHung(0, 1, 301.5, 0.25, "/d"),
        messages.AttemptLost(0, 1, "hung", "silent for 301 s; its stacks: /d"),
        messages.TrialHung(0, 1, 301.5, 0.25, "/d"),
    ):
        say(writer, message)
    events = [event for event in writer.store.events_after(0) if event.trial is not None][2:]
    found = [(event.name, event.attempt) for event in events]
    assert found == [("worker.stuck", 1), ("trial.hung", 1), ("trial.requeued", 1), ("result.refused", 1)]
    assert events[1].fields == {"silent_s": 301.5, "median_s": 0.25, "dump": "/d"}
    assert events[2].fields["cause"] == "hung"
