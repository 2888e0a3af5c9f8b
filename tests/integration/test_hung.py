"""Test hung trials and dead workers on a real Ray head."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supervisor.domain.messages import AttemptLost, ResultReported, TrialEnded, TrialHung, TrialStarted
from supervisor.processes.identity import started_at
from tests.integration.fake_daemon import FAST_POLICY

ALLOWED_S = 5.0
IMPATIENT = {**FAST_POLICY, "hung_min_s": ALLOWED_S, "hung_first_s": ALLOWED_S, "hung_first_step_s": ALLOWED_S}


@pytest.fixture
def troubled(spec, tmp_path):
    """Make the spec of trials with the named troubles, one each, in this order.

    Each trial may die once.
    """

    def make(*troubles: str, **config):
        return spec(
            trainable="hanging_trainables:Troubled",
            config={"marks": str(tmp_path), **config},
            space={"trouble": {"type": "categorical", "choices": sorted(set(troubles))}},
            enqueue=[{"trouble": trouble} for trouble in troubles],
            max_trials=len(troubles),
            max_failures=1,
        )

    return make


@pytest.fixture
def impatient(drive):
    """Starts a driver whose watchdogs wait seconds, not minutes."""

    def start(experiment, **more):
        return drive(experiment, watchdog={"policy": IMPATIENT}, **more)

    return start


@pytest.fixture
def small_group():
    """Make a control group of 64 MiB; the kernel kills a process in it that needs more."""
    version_1 = Path("/sys/fs/cgroup/memory")
    top = version_1 if version_1.is_dir() else Path("/sys/fs/cgroup")
    group, limit = top / f"sweep-test-{os.getpid()}", "memory.limit_in_bytes" if version_1.is_dir() else "memory.max"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        (group / limit).write_text(str(64 << 20))
        yield group
    finally:
        group.rmdir()


def told_of(daemon, number: int) -> list[object]:
    """Return the messages about a trial's attempts, in order."""
    kinds = (TrialStarted, TrialHung, AttemptLost, TrialEnded)
    return [message for message in daemon.seen if isinstance(message, kinds) and message.number == number]


def assert_each_result_once(daemon) -> None:
    for row in daemon.store.rows.values():
        reported = [m.step for m in daemon.all(ResultReported) if m.number == row.number]
        assert len(reported) == len(set(reported)), "a step was reported twice"


@pytest.mark.slow
def test_a_trial_that_hangs_is_ended_with_its_stacks_and_goes_on_from_its_checkpoint(impatient, troubled):
    """In its second step, while it is built, while it saves. One that always hangs ends as hung; the search goes on."""
    daemon = impatient(troubled("hangs in step", "always hangs in step", "hangs in setup", "hangs in save", "nothing"))
    daemon.succeeds()
    rows = daemon.store.rows
    assert [row.end_reason for row in rows.values()] == ["finished", "hung", "finished", "finished", "finished"]
    assert_each_result_once(daemon)

    begun, hung, lost, again, ended = told_of(daemon, 0)
    assert (hung.attempt, lost.cause, again.attempt, again.resumed_step, ended.attempt) == (1, "hung", 2, 1, 2)
    assert hung.silent_s > ALLOWED_S
    assert 0.0 < hung.median_s < ALLOWED_S
    assert hung.dump in lost.error
    assert Path(hung.dump).parent == daemon.folder / "experiment" / "0"
    assert "wait_for_godot" in Path(hung.dump).read_text()
    assert started_at(begun.worker_pid) is None

    # One retry (max_failures), and each attempt's stacks.
    kinds = [type(message).__name__ for message in told_of(daemon, 1)]
    assert kinds == ["TrialStarted", "TrialHung", "AttemptLost", "TrialStarted", "TrialHung", "TrialEnded"]
    assert "wait_for_godot" in Path(told_of(daemon, 1)[4].dump).read_text()
    assert "silent for" in rows[1].error

    # While it is built it has not been told as started. It is told then, for only what has begun can be lost.
    begun, hung, lost, again, _ = told_of(daemon, 2)
    assert (begun.attempt, hung.median_s, lost.cause, again.attempt, again.resumed_step) == (1, None, "hung", 2, None)
    assert begun.worker_pid is not None

    # The step whose checkpoint was being written had not been told: it is trained again.
    _, _, lost, again, _ = told_of(daemon, 3)
    assert (lost.cause, again.resumed_step) == ("hung", 1)


@pytest.mark.slow
def test_a_function_that_falls_silent_between_reports_is_ended_too(impatient, spec, tmp_path):
    """Its batches are not seen, so its steps decide."""
    daemon = impatient(
        spec(trainable="hanging_trainables:silent", space={}, config={"marks": str(tmp_path)}, max_trials=1)
    )
    daemon.succeeds()
    _, hung, lost, _, ended = told_of(daemon, 0)
    assert "wait_for_godot" in Path(hung.dump).read_text()
    assert (lost.cause, ended.end_reason) == ("hung", "finished")


@pytest.mark.slow
def test_a_worker_that_dies_while_it_starts_or_saves_costs_one_attempt(impatient, troubled):
    """A new worker, one that takes over the next trial, and one that writes a checkpoint: each death counts once."""
    daemon = impatient(troubled("dies in setup", "nothing", "dies in reset", "dies in save"))
    daemon.succeeds()
    assert [row.end_reason for row in daemon.store.rows.values()] == ["finished"] * 4
    assert_each_result_once(daemon)
    lost = [(message.number, message.attempt, message.cause) for message in daemon.all(AttemptLost)]
    assert lost == [(number, 1, "worker_died") for number in (0, 2, 3)]
    assert [row.attempt for row in daemon.store.rows.values()] == [2, 1, 2, 2]


@pytest.mark.slow
def test_a_worker_that_the_kernel_kills_for_memory_is_told_as_such(impatient, troubled, small_group):
    """A real kill by the kernel's out-of-memory killer: its own counters tell it from any other kill -9."""
    daemon = impatient(troubled("swallows memory in step", "nothing", group=str(small_group)))
    daemon.succeeds()
    (lost,) = daemon.all(AttemptLost)
    assert (lost.number, lost.attempt, lost.cause) == (0, 1, "oom_killed")
    assert "memory had run out" in lost.error
    assert [row.end_reason for row in daemon.store.rows.values()] == ["finished", "finished"]


@pytest.mark.slow
def test_deaths_under_an_earlier_driver_count(impatient, troubled):
    """A trial whose workers died max_failures times before its driver did gets no new allowance from the next."""
    experiment = troubled("always hangs in step")
    first = impatient(experiment)
    first.wait_for(AttemptLost)
    first.kill()
    second = impatient(experiment, store=first.store)
    second.succeeds()
    assert first.store.rows[0].end_reason == "hung"
    assert second.all(AttemptLost) == []
