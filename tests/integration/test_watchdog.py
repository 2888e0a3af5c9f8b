"""Run watchdogs on a real Ray head: killed, hung, one per node."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
import urllib.request

import pytest

from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.messages import (
    AttemptLost,
    ResultReported,
    SensorNoted,
    TrialEnded,
    TrialHeld,
    TrialStarted,
    WatchdogUp,
)
from supervisor.domain.scope import trial_scope
from tests import waits
from tests.integration.conftest import ray_process
from tests.integration.fake_daemon import FAST_POLICY

PAUSE = Command(Action.PAUSE, Origin.OPERATOR, "the operator says so").to_json()
SHED = Command(Action.SHED, Origin.OPERATOR, "the operator says so", shed_trials=1).to_json()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_a_watchdog_that_is_gone_is_replaced_and_the_operators_pause_outlives_it(drive, steps, how):
    """Paused before and after, by the operator only; then all comes back and no batch is lost or doubled."""
    steps.goes_on.touch()
    daemon = drive(steps.make(max_trials=1))
    first = daemon.wait_for(WatchdogUp)
    daemon.wait_for(ResultReported, lambda message: message.step == 2)
    daemon.command(PAUSE)
    daemon.wait_for(TrialHeld)
    while_closed = steps.stand()
    os.kill(first.pid, how)
    lost = daemon.wait_for(SensorNoted, lambda message: message.kind == "watchdog.lost")
    assert lost.node == first.node
    second = daemon.wait_for(WatchdogUp)
    assert second.pid != first.pid
    time.sleep(0.5)
    assert len(steps.batches()) == while_closed
    daemon.command()
    steps.goes_on.unlink()
    daemon.succeeds()
    steps.assert_each_once()


def test_shedding_and_a_long_pause_free_memory_and_lose_no_batch(drive, steps):
    """SHED takes the youngest trial only; a pause past release_after_s takes both; each goes on from its checkpoint."""
    steps.goes_on.touch()
    policy = {**FAST_POLICY, "release_after_s": 1.0}
    daemon = drive(steps.make(max_trials=2, concurrency=2), watchdog={"policy": policy})
    daemon.wait_for(ResultReported, lambda message: message.number == 1)
    daemon.command(SHED)
    lost = daemon.wait_for(AttemptLost)
    assert (lost.number, lost.cause) == (1, "released")
    daemon.wait_for(ResultReported, lambda message: message.number == 0)
    daemon.command()
    again = daemon.wait_for(TrialStarted)
    assert (again.number, again.attempt) == (1, 2)
    assert again.resumed_step is not None

    daemon.wait_for(ResultReported, lambda message: message.number == 1)
    daemon.command(PAUSE)
    released = [daemon.wait_for(AttemptLost) for _ in range(2)]
    assert {(lost.number, lost.attempt, lost.cause, lost.error) for lost in released} == {
        (0, 1, "released", None), (1, 2, "released", None)
    }  # fmt: skip
    daemon.command()
    both = [daemon.wait_for(TrialStarted) for _ in range(2)]
    assert {(message.number, message.attempt) for message in both} == {(0, 2), (1, 3)}
    assert all(message.resumed_step is not None for message in both)
    steps.goes_on.unlink()
    daemon.succeeds()
    steps.assert_each_once()


@pytest.mark.slow
def test_a_paused_trial_stands_alone_also_after_its_driver_was_killed(drive, steps):
    """At its next report; the other goes on to its end. The next driver brings it back standing, until it is lifted."""
    spec = steps.make(max_trials=2, concurrency=2, enqueue=[{"x": 0.1}, {"x": 0.2}], config={"steps": 30})
    hold = Command(Action.HOLD, Origin.OPERATOR, "the operator says so", trial_scope("one", 0)).to_json()

    def of_held():
        return [line["batch"] for line in steps.batches() if line["x"] == 0.1]

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
    second.succeeds()
    assert of_held() == list(range(1, 151))


@pytest.mark.slow
def test_the_gauges_are_at_rays_metrics_endpoint(drive, steps, ray_head):
    """Prometheus scrapes them there, and Ray's dashboard shows them."""
    daemon = drive(steps.make(max_trials=1, config={"steps": 300}))
    node = daemon.wait_for(WatchdogUp).node
    daemon.wait_for(ResultReported)
    daemon.command(PAUSE)
    wanted = re.compile(rf'sweep_watchdog_action\{{[^}}]*node="{node[:12]}"[^}}]*\}} 4\.0')
    waits.until("the pause is at the endpoint", lambda: wanted.search(scraped(ray_head)), period_s=0.5)
    assert "sweep_watchdog_memory_percent" in scraped(ray_head)
    daemon.kill()


def scraped(ray_head):
    """Return the metrics of the head's node; an empty text before its agent is up."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{ray_head.metrics_port}/metrics", timeout=10) as answer:
            return answer.read().decode()
    except OSError:
        return ""


@pytest.fixture
def second_node(ray_head):
    """Start another node of the shared head, on this machine."""
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--address={ray_head.address}",
        "--node-ip-address=127.0.0.1", "--num-cpus=2", "--object-store-memory=100000000",
    ]  # fmt: skip
    with ray_process(command, ray_head.environment, ray_head.folder / "second.log") as node:
        yield
        os.killpg(node.pid, signal.SIGKILL)


@pytest.mark.slow
def test_heat_on_one_node_pauses_its_trials_alone(drive, steps, second_node):
    """Two nodes, a trial on each: while one is hot, the other works on and takes the next trial too."""
    daemon = drive(steps.make(max_trials=3, concurrency=2, resources={"cpu": 2.0, "gpu": 0.0}, config={"steps": 30}))
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
    daemon.succeeds()
    assert [row.end_reason for row in daemon.store.rows.values()] == ["finished"] * 3
    steps.assert_each_once()
