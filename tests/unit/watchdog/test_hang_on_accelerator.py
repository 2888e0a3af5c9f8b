"""A trial on an accelerator that only queues its batches is no hang; one whose device has stopped is."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.trial.gate import Gate
from actors.trial.heartbeat import Heartbeat, Worker, read_heartbeat
from actors.trial.node_files import FlagWriter
from actors.watchdog.hang_detection import Hang, allowed_s, hang_of
from supervisor.clock import FakeClock
from supervisor.domain.command import Action
from supervisor.governor.policy import Policy
from tests.unit.training.small_learner import made
from tests.unit.training.small_trial import build
from tests.unit.training.stand_in import Generator, Queue, stand_in
from training.loop import epochs

POLICY = Policy()
WORKER = Worker("2B-h1", 7, 1, "/runs/7", 4711, "123")


def test_slow_batches_that_are_queued_in_a_second_are_no_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of 23 s on the device is queued in one: sixteen of them are longer than any allowance."""
    learner, windows = made(build(tmp_path), max_epochs=1, batch_size=4)
    learner.accelerator = stand_in(Generator())
    clock = FakeClock()
    heartbeat = Heartbeat(tmp_path / "heartbeats", WORKER, in_batches=True, mono_s=clock.mono_s)
    writer = FlagWriter(tmp_path / "flag", clock.mono_s)
    writer.write(Action.RUN, 0.0)
    gate = Gate(tmp_path / "flag", clock.mono_s, clock.sleep, heartbeat=heartbeat)
    seen: list[Hang | None] = []
    allowed: list[float | None] = []

    def look() -> None:
        writer.renew()
        found = read_heartbeat(tmp_path / "heartbeats" / "4711.heartbeat")
        assert found is not None
        seen.append(hang_of(found[1], POLICY, clock.mono_s(), 0.0))
        allowed.append(allowed_s(found[1], POLICY))

    Queue(clock.sleep, 1.0, 23.0, look).attach(monkeypatch)
    heartbeat.begin_step()
    list(epochs(learner, windows, gate.wait, clock.mono_s))
    assert len(seen) > 50
    assert set(seen) == {None}
    assert allowed[-1] == pytest.approx(POLICY.hung_factor * 24.0), "the allowance counts batches that are done"
