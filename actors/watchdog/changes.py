"""Counts the changes on a node, and keeps the notes that came with them, for the drivers that wait for the next."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

from supervisor.governor.sensor_health import Note

MAX_NOTES = 200
"""Notes that no driver has fetched; older ones are dropped."""


class Changes:
    """Owns the lock of its state; every method may be called from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._notes: deque[tuple[int, int, Note]] = deque(maxlen=MAX_NOTES)
        self._version = self._noted = 0

    def add(self, notes: Iterable[Note] = ()) -> None:
        """Number a change and wake the threads that wait for it."""
        with self._changed:
            self._version += 1
            for note in notes:
                self._noted += 1
                self._notes.append((self._version, self._noted, note))
            self._changed.notify_all()

    def wait(self, version: int, timeout_s: float) -> None:
        """Return as soon as the latest change is not `version`, at the latest after `timeout_s`."""
        with self._changed:
            self._changed.wait_for(lambda: self._version != version, timeout=timeout_s)

    def since(self, version: int) -> tuple[int, list[tuple[int, Note]]]:
        """Return the version of the latest change, and the notes newer than `version`, each with its serial number.

        By that number the daemon knows a note that several drivers pass on.
        """
        with self._changed:
            return self._version, [(serial, note) for at, serial, note in self._notes if at > version]
