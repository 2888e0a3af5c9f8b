"""Keeps the plans that begin after the run at work: a file of the home, changed under a lock of its own.

Each entry is a checked StartRequest. The daemon takes the first one when a run has ended; a command line adds, moves
and removes them, with or without a daemon. Standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from supervisor.control.handshake import StartRequest
from supervisor.errors import Conflict, NotFound, StoreError
from supervisor.filesystem import write_atomically
from supervisor.home import Home

MAX_ENTRIES = 100
MAX_BYTES = 64 * 1024 * 1024
"""A plan of a thousand experiments is below one megabyte."""


@dataclass(frozen=True)
class Entry:
    """Holds a plan that waits. `error` says why it could not begin when its turn came; such a one is passed over."""

    id: str
    who: str
    queued_wall: float
    request: StartRequest
    error: str | None = None

    @property
    def plan(self) -> str:
        return str(self.request.plan)


class PlanQueue:
    """Reads and changes the queue of a home. Each method raises StoreError for a file that cannot be read or written.

    A name is an entry's place in the list, from 1, or its plan.
    """

    def __init__(self, home: Home) -> None:
        self._file, self._lock = home.state / "queue.json", home.state / "queue.lock"

    def entries(self) -> list[Entry]:
        """Return the plans that wait, the next one first."""
        try:
            with self._file.open("rb") as file:
                found = json.loads(file.read(MAX_BYTES + 1))
            return [_entry(one) for one in found]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise StoreError(f"{self._file} cannot be read: {error}", remedy="correct or remove it") from error

    def first(self) -> Entry | None:
        """Return the next plan that can begin; None without one."""
        return next((entry for entry in self.entries() if entry.error is None), None)

    def add(self, request: StartRequest, who: str, wall_s: float) -> int:
        """Put a plan at the end; return its place. Raises Conflict for a full queue."""
        entry = Entry(f"{request.plan}-{wall_s:.6f}-{os.getpid()}", who, wall_s, request)

        def added(entries: list[Entry]) -> list[Entry]:
            if len(entries) >= MAX_ENTRIES:
                raise Conflict(f"{MAX_ENTRIES} plans wait already", remedy="`supervisorctl queue remove` takes one out")
            return [*entries, entry]

        return len(self._change(added))

    def move(self, name: str, place: int) -> list[Entry]:
        """Give an entry another place, the last one at most; return the queue. Raises NotFound."""

        def moved(entries: list[Entry]) -> list[Entry]:
            entry = named(entries, name)
            others = [other for other in entries if other.id != entry.id]
            return [*others[: place - 1], entry, *others[place - 1 :]]

        return self._change(moved)

    def remove(self, names: Sequence[str]) -> list[Entry]:
        """Take entries out; return the queue. Raises NotFound, and removes none then."""

        def without(entries: list[Entry]) -> list[Entry]:
            gone = {named(entries, name).id for name in names}
            return [entry for entry in entries if entry.id not in gone]

        return self._change(without)

    def drop(self, entry_id: str) -> None:
        """Take out the entry of this id, if it is there: its run has begun."""
        self._change(lambda entries: [entry for entry in entries if entry.id != entry_id])

    def fail(self, entry_id: str, error: str) -> None:
        """Note why an entry could not begin; it stays, and the next one has its turn."""
        self._change(
            lambda entries: [replace(entry, error=error) if entry.id == entry_id else entry for entry in entries]
        )

    def _change(self, change: Callable[[list[Entry]], list[Entry]]) -> list[Entry]:
        try:
            with self._locked():
                entries = change(self.entries())
                text = json.dumps([asdict(entry) for entry in entries]).encode()
                if len(text) > MAX_BYTES:
                    raise Conflict(f"expected a queue of at most {MAX_BYTES} bytes, found {len(text)}",
                                   remedy="`supervisorctl queue remove` takes a plan out")  # fmt: skip
                write_atomically(self._file, text)
        except OSError as error:
            raise StoreError(f"{self._file} cannot be written: {error}", remedy="check its owner and disk") from error
        return entries

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fd = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def _entry(read: dict[str, Any]) -> Entry:
    """Return an entry that was read from the file. Raises TypeError, KeyError or ValueError for another content."""
    entry = Entry(**{**read, "request": StartRequest(**read["request"])})
    request, words = entry.request, (entry.id, entry.who, entry.request.plan, entry.request.plan_text)
    if not (
        all(isinstance(word, str) for word in words)
        and isinstance(entry.queued_wall, float)
        and math.isfinite(entry.queued_wall)
        and isinstance(request.hardware, dict)
        and isinstance(request.data, dict)
        and isinstance(request.specs, list)
        and all(isinstance(spec, dict) for spec in request.specs)
    ):
        raise ValueError(f"expected a plan with its start's request, found {str(read)[:200]}")
    return entry


def named(entries: Sequence[Entry], name: str) -> Entry:
    """Return the entry of a place or a plan. Raises NotFound, also for a plan that waits twice."""
    found = [entry for place, entry in enumerate(entries, 1) if name in (str(place), entry.plan)]
    if len(found) == 1:
        return found[0]
    plans = ", ".join(f"{place} {entry.plan}" for place, entry in enumerate(entries, 1)) or "none"
    said = f"{len(found)} plans in the queue are called {name!r:.60}" if found else f"no plan {name!r:.60} in the queue"
    raise NotFound(f"{said}; there are {plans}", remedy="name one by its place: `supervisorctl queue`")
