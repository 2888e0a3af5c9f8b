"""A driver that waits for its turn joins Ray and starts workers, which the first trials take."""

from __future__ import annotations

from supervisor.domain.messages import ResultReported
from tests import waits


def tickets(ray_head):
    return list((ray_head.folder / "warm").glob("*.ticket"))


def prepared(drive, ray_head, spec, workers):
    """Return a driver whose workers have begun to import."""
    daemon = drive(spec, workers_ahead=workers)
    waits.until("it starts workers", lambda: tickets(ray_head), daemon.log.read_text, period_s=0.01)
    waits.until("they begin to import", lambda: not tickets(ray_head), daemon.log.read_text)
    return daemon


def test_the_first_trials_take_the_workers_that_wait(drive, ray_head, spec):
    daemon = prepared(drive, ray_head, spec(trainable="actors_trainables:warmed", max_trials=3, concurrency=2), 2)
    daemon.begin()
    daemon.succeeds()
    assert [message.metrics["warmed"] for message in daemon.all(ResultReported)] == [1.0] * 3


def test_two_drivers_are_joined_and_the_one_that_waits_takes_no_part(drive, ray_head, spec, steps):
    """The trials of the one at work go on, the watchdog obeys it; the workers of the other end with it."""
    steps.goes_on.touch()
    at_work = drive(steps.make(max_trials=1))
    at_work.wait_for(ResultReported)
    waiting = prepared(drive, ray_head, spec(), 1)
    assert [type(message).__name__ for message in waiting.seen] == ["Hello"]
    waiting.kill()
    at_work.wait_for(ResultReported)
    steps.goes_on.unlink()
    at_work.succeeds()
