"""A run with one experiment in a store, and short names for the messages of its driver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from supervisor.clock import Clock
from supervisor.domain import messages as link
from supervisor.store.database import Store
from supervisor.store.run_writer import RunWriter, create_run
from supervisor.store.trial_writer import TrialWriter

E = "x"


class CountingClock(Clock):
    """A second later at each look."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def wall_s(self) -> float:
        self.now += 1.0
        return self.now


def make_writer(path: Path | str, **changes: Any) -> RunWriter:
    store = Store(Path(path), CountingClock())
    spec = {"name": E, "mode": "min", "max_trials": 3, "concurrency": 1, **changes}
    create_run(
        store, "r", plan="p", fingerprint="f", source="built-in", plan_text="", hardware={}, data={}, specs=[spec]
    )
    return RunWriter(store, "r")


def added(number: int = 0) -> link.TrialAdded:
    return link.TrialAdded(number, {"lr": 0.1 * (number + 1)}, "sampled")


def started(attempt: int, number: int = 0) -> link.TrialStarted:
    return link.TrialStarted(number, attempt, f"ray-{attempt}", "node", 4242, None)


def reported(attempt: int, step: int, value: float | None = 0.5, number: int = 0) -> link.ResultReported:
    return link.ResultReported(number, attempt, step, value, {"loss": value}, f"checkpoint-{step}.pt")


def held(attempt: int, state: str, number: int = 0) -> link.TrialHeld:
    return link.TrialHeld(number, attempt, state, "too hot")


def ended(attempt: int, reason: str = "finished", value: float | None = 0.5, number: int = 0) -> link.TrialEnded:
    return link.TrialEnded(number, attempt, reason, value, None if value is not None else "it broke", {"size": 1})


def lost(attempt: int, number: int = 0) -> link.AttemptLost:
    return link.AttemptLost(number, attempt, "worker_died", "SIGKILL")


def say(writer: RunWriter, message: link.Message) -> bool:
    return TrialWriter(writer.store, writer.run_id).handle(E, message)


def commit(writer: RunWriter, *messages: link.Message) -> list[str]:
    """The names of the events that these messages left."""
    before = last_seq(writer)
    for message in messages:
        say(writer, message)
    return [event.name for event in writer.store.events_after(before)]


def last_seq(writer: RunWriter) -> int:
    return int(writer.store.rows("SELECT coalesce(max(seq), 0) FROM event")[0][0])


def trial(writer: RunWriter, number: int = 0) -> dict[str, Any]:
    return dict(writer.store.rows("SELECT * FROM trial WHERE number = ?", number)[0])
