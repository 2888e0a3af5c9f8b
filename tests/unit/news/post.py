"""Provide a store with a run, a clock that only a test moves, and a service that takes messages."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from supervisor.clock import Clock
from supervisor.daemon.news.notifier import Notifier
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.eta.forecast import with_eta
from supervisor.processes.notification import Problem
from supervisor.store.database import Store
from supervisor.store.run_writer import RunWriter, create_run
from supervisor.store.status_cache import StatusView

SECRET = "hunter2"
ADDRESS = f"ntfy://me:{SECRET}@example.org/topic"
OTHER = f"json://me:{SECRET}@example.net/"
SPEC = {"name": "one", "mode": "min", "max_trials": 50, "finalize": None, "trainable": "mine:Train"}
NEWS_AT_ONCE = ("disk.filled", "test.failed", "trial.failed", "experiment.failed")
FIELDS: dict[str, dict[str, Any]] = {
    "disk.filled": {"free_bytes": 1, "folder": "/x"},
    "disk.freed": {"free_bytes": 1 << 30, "folder": "/x"},
    "test.failed": {"error": "it broke", "outside": True, "experiment": "one"},
    "trial.failed": {"end_reason": "oom", "error": "no memory", "seconds": 1.0, "record": {}, "experiment": "one"},
    "ray.exited": {"status": "signal 9"},
    "ray.started": {"address": "x"},
    "audit.lagged": {"error": "full"},
    "resources.found": {"experiment": "one"},
    "machine.underused": {"what": "a core", "cause": "x", "cure": "y"},
    "watchdog.unprotected": {"node": "n", "why": "no sensor"},
}
"""Events that can be recorded at any time, and their fields."""


class HandClock(Clock):
    """A clock at a whole minute that only a test moves."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_040.0

    def wall_s(self) -> float:
        return self.now_s

    def mono_s(self) -> float:
        return self.now_s - 1_600_000_000.0

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        await asyncio.sleep(0)


class Service:
    """Keeps the messages that each address takes; an address in `problems` takes none."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str]] = []
        self.taken: dict[str, list[str]] = {}
        self.problems: dict[str, str] = {}
        self.asked = 0
        self.together: asyncio.Barrier | None = None
        """So many messages must be under way before one is taken."""

    async def __call__(self, addresses: Sequence[str], title: str, body: str, within_s: float) -> list[Problem]:
        self.asked += 1
        if self.together is not None:
            await self.together.wait()
        reached = [address for address in addresses if address not in self.problems]
        if reached:
            self.messages.append((title, body))
        for address in reached:
            self.taken.setdefault(address, []).append(body)
        return [self.problems.get(address) for address in addresses]


@contextmanager
def run_of(folder: Path, clock: HandClock, *more: str) -> Iterator[RunWriter]:
    """Open a store with the run `smoke-1` of the experiment `one`, and of those named `more`."""
    store = Store(folder / "sweep.db", clock)
    create_run(
        store, "smoke-1", plan="smoke", fingerprint="f", source="built-in", plan_text="", hardware={}, data={},
        specs=[SPEC, *({**SPEC, "name": name} for name in more)],
    )  # fmt: skip
    yield RunWriter(store, "smoke-1")
    store.close()


def write_addresses(file: Path, *lines: str) -> Path:
    file.write_text("".join(f"{line}\n" for line in ("# mine", *lines)))
    file.chmod(0o600)
    return file


def notifier(writer: RunWriter, file: Path, service: Service, clock: HandClock) -> Notifier:
    return Notifier(writer, "smoke", file, clock, lambda: status(writer, clock), service)


def status(writer: RunWriter, clock: HandClock) -> dict[str, Any]:
    """Return the run as the daemon shows it, with 5 GiB free and nothing that holds the work."""
    view = StatusView(writer.store.connection, writer.run_id).now()
    return {
        **with_eta(view, clock.wall_s()),
        "disk": {"free_bytes": 5 << 30},
        "in_force": Command(Action.RUN, Origin.GOVERNOR, "nothing to hold for").to_json(),
    }


def record(writer: RunWriter, name: str, **fields: Any) -> None:
    """Record an event with its usual fields, and with these."""
    writer.record(name, **{**FIELDS.get(name, {}), **fields})


def look(it: Notifier) -> None:
    asyncio.run(it.look())


def put_schedule(writer: RunWriter, command: Command) -> None:
    """Record a command of the schedule as its watch does."""
    writer.record(
        "schedule.changed", action=command.action.name, reason=command.reason, until_wall=command.until_wall,
        who=command.who, command=command.to_json(),
    )  # fmt: skip


def finish_trial(writer: RunWriter, number: int, value: float | None, end_reason: str = "finished") -> None:
    place = {"experiment": "one", "trial": number}
    writer.record("trial.added", **place, params={}, source="sampled")
    writer.record("trial.started", **place, attempt=1, node="n", worker_pid=1, ray_trial_id="r", resumed_step=None)
    writer.record(
        "trial.finished", **place, attempt=1, end_reason=end_reason, value=value, epochs=1, seconds=1.0, error=None,
        record={},
    )  # fmt: skip


def sent_counts(writer: RunWriter) -> list[int]:
    """Return the counts of the messages that were sent, in order."""
    rows = writer.store.rows("SELECT json_extract(fields, '$.count') AS n FROM event WHERE name = 'notice.sent'")
    return [int(row["n"]) for row in rows]


def names(writer: RunWriter) -> list[str]:
    return [row["name"] for row in writer.store.rows("SELECT name FROM event ORDER BY seq")]
