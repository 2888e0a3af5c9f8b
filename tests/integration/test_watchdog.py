"""Watchdogs on a real Ray head: killed, hung, shared by drivers, one per node."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter

import pytest

from supervisor.domain.command import Action, Command, Origin, trial_scope
from supervisor.domain.messages import (
    AttemptLost,
    ResultReported,
    SensorNoted,
    TrialEnded,
    TrialHeld,
    TrialStarted,
    WatchdogUp,
)

PAUSE = Command(Action.PAUSE, Origin.OPERATOR, "the operator says so").to_json()
SHED = Command(Action.SHED, Origin.OPERATOR, "the operator says so", shed_trials=1).to_json()
FAST = {
    "period_s": 0.1, "fast_period_s": 0.1, "soft_dwell_s": 0, "pause_dwell_s": 0, "hold_min_s": 0, "ease_after_s": 0.1,
    "min_off_s": 0, "disk_hold_bytes": 2.0, "disk_pause_bytes": 1.0, "memory_shed_percent": 98.0,
    "memory_pause_percent": 99.0, "memory_critical_percent": 100.0,
}  # fmt: skip


@pytest.fixture
def steps(spec, tmp_path):
    log = tmp_path / "batches.jsonl"

    def make(**changes):
        config = {"batches": 5, "batch_s": 0.02, "steps": 20, "log": str(log), **changes.pop("config", {})}
        return spec(trainable="actors_trainables:Steps", config=config, **changes)

    return make, log


def batches(log):
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_a_watchdog_that_is_gone_is_replaced_and_the_operators_pause_outlives_it(drive, steps, how):
    """Paused before and after, by the operator only; then all comes back and no batch is lost or doubled."""
    make, log = steps
    daemon = drive(make(max_trials=1))
    first = daemon.wait_for(WatchdogUp)
    daemon.wait_for(ResultReported, lambda message: message.step == 2)
    daemon.command(PAUSE)
    daemon.wait_for(TrialHeld)
    time.sleep(0.3)
    while_closed = len(batches(log))
    os.kill(first.pid, how)
    lost = daemon.wait_for(SensorNoted, lambda message: message.kind == "watchdog.lost")
    assert lost.node == first.node
    second = daemon.wait_for(WatchdogUp)
    assert second.pid != first.pid
    time.sleep(0.5)
    assert len(batches(log)) == while_closed
    daemon.command()
    assert daemon.end() == 0, daemon.log.read_text()
    assert Counter(line["batch"] for line in batches(log)) == dict.fromkeys(range(1, 101), 1)


def test_a_long_pause_gives_the_memory_back_and_loses_no_batch(drive, steps):
    """Past release_after_s the trial saves itself in the middle of its epoch, leaves, and goes on there later."""
    make, log = steps
    daemon = drive(
        make(max_trials=1, config={"batches": 20, "steps": 4}), watchdog={"policy": {**FAST, "release_after_s": 1.0}}
    )
    daemon.wait_for(ResultReported)
    time.sleep(0.1)
    daemon.command(PAUSE)
    daemon.wait_for(TrialHeld)
    lost = daemon.wait_for(AttemptLost)
    assert (lost.attempt, lost.cause, lost.error) == (1, "released", None)
    daemon.command()
    again = daemon.wait_for(TrialStarted)
    assert (again.attempt, again.resumed_step) == (2, 1)
    assert daemon.end() == 0, daemon.log.read_text()
    assert Counter(line["batch"] for line in batches(log)) == dict.fromkeys(range(1, 81), 1)


def test_shedding_takes_the_youngest_trial_and_brings_it_back(drive, steps):
    """Under SHED one trial fewer; lifted: it goes on from its checkpoint. The other never stops."""
    make, log = steps
    daemon = drive(make(max_trials=2, concurrency=2, config={"steps": 60}))
    daemon.wait_for(ResultReported, lambda message: message.number == 1)
    daemon.command(SHED)
    lost = daemon.wait_for(AttemptLost)
    assert (lost.number, lost.cause) == (1, "released")
    daemon.wait_for(ResultReported, lambda message: message.number == 0)
    daemon.command()
    again = daemon.wait_for(TrialStarted)
    assert (again.number, again.attempt) == (1, 2)
    assert again.resumed_step is not None
    assert daemon.end() == 0, daemon.log.read_text()
    assert [row.attempt for row in daemon.store.rows.values()] == [1, 2]
    assert set(Counter((line["x"], line["batch"]) for line in batches(log)).values()) == {1}


def test_a_paused_trial_stands_alone_also_after_its_driver_was_killed(drive, steps):
    """At its next report; the other goes on to its end. The next driver brings it back standing, until it is lifted."""
    make, log = steps
    spec = make(max_trials=2, concurrency=2, enqueue=[{"x": 0.1}, {"x": 0.2}], config={"steps": 30})
    hold = Command(Action.HOLD, Origin.OPERATOR, "the operator says so", trial_scope("one", 0)).to_json()

    def of_held():
        return [line["batch"] for line in batches(log) if line["x"] == 0.1]

    first = drive(spec)
    first.wait_for(ResultReported, lambda message: message.number == 0 and message.step == 2)
    first.command(hold)
    held = first.wait_for(TrialHeld)
    assert (held.number, held.state) == (0, "PAUSED")
    stands = len(of_held())
    first.wait_for(ResultReported, lambda message: message.number == 1 and message.step >= 8)
    assert len(of_held()) == stands, "it stands at the end of a step, and batches are logged before they are reported"
    first.kill()

    second = drive(spec, store=first.store, commands=[hold])
    ended = second.wait_for(TrialEnded)
    assert ended.number == 1
    assert len(of_held()) == stands
    second.command()
    assert second.end() == 0, second.log.read_text()
    assert of_held() == list(range(1, 151))


@pytest.mark.slow
def test_the_gauges_are_at_rays_metrics_endpoint(drive, steps, ray_head):
    """Prometheus scrapes them there, and Ray's dashboard shows them."""
    make, _ = steps
    daemon = drive(make(max_trials=1, config={"steps": 300}))
    node = daemon.wait_for(WatchdogUp).node
    daemon.wait_for(ResultReported)
    daemon.command(PAUSE)
    deadline = time.monotonic() + 60
    wanted = re.compile(rf'sweep_watchdog_action\{{[^}}]*node="{node[:12]}"[^}}]*\}} 4\.0')
    while not wanted.search(scraped(ray_head)):
        assert time.monotonic() < deadline, scraped(ray_head)[-2000:]
        time.sleep(0.5)
    assert "sweep_watchdog_memory_percent" in scraped(ray_head)
    daemon.kill()


def scraped(ray_head):
    """What the head's node offers to Prometheus; nothing before its agent is up."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{ray_head.metrics_port}/metrics", timeout=10) as answer:
            return answer.read().decode()
    except OSError:
        return ""


def test_a_watchdog_outlives_a_killed_driver_and_serves_the_next(drive, steps):
    make, _ = steps
    first = drive(make(max_trials=1))
    before = first.wait_for(WatchdogUp)
    first.wait_for(ResultReported)
    first.kill()
    second = drive(make(max_trials=1), store=first.store)
    assert second.wait_for(WatchdogUp).pid == before.pid
    assert second.end() == 0, second.log.read_text()


@pytest.fixture
def second_node(ray_head):
    """Another node of the module's head, on this machine."""
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--address={ray_head.address}",
        "--node-ip-address=127.0.0.1", "--num-cpus=2", "--object-store-memory=100000000",
    ]  # fmt: skip
    log = ray_head.folder / "second.log"
    with log.open("wb") as stream:
        node = subprocess.Popen(command, env=ray_head.environment, stdout=stream, stderr=stream, start_new_session=True)
    deadline = time.monotonic() + 60
    while b"Ray runtime started" not in log.read_bytes():
        assert node.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield
    os.killpg(node.pid, signal.SIGKILL)
    node.wait()


@pytest.mark.slow
def test_heat_on_one_node_pauses_its_trials_alone(drive, steps, second_node):
    """Two nodes, a trial on each: while one is hot, the other works on and takes the next trial too."""
    make, log = steps
    daemon = drive(
        make(max_trials=3, concurrency=2, resources={"cpu": 2.0, "gpu": 0.0}, config={"steps": 30, "batch_s": 0.02})
    )
    started = [daemon.wait_for(TrialStarted) for _ in range(2)]
    hot, cool = started
    assert hot.node != cool.node
    daemon.drill("heat", 20.0, hot.node)
    held = daemon.wait_for(TrialHeld)
    assert (held.number, held.state) == (hot.number, "PAUSED")
    third = daemon.wait_for(TrialStarted)
    assert third.node == cool.node
    released = daemon.wait_for(TrialHeld)
    assert (released.number, released.state) == (hot.number, "RUNNING")
    assert daemon.end() == 0, daemon.log.read_text()
    assert [row.end_reason for row in daemon.store.rows.values()] == ["finished"] * 3
    assert set(Counter((line["x"], line["batch"]) for line in batches(log)).values()) == {1}
