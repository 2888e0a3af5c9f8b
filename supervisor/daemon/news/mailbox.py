"""Holds the news that an address still waits for, and the time of the next try.

Each address has a mailbox of its own: none waits for another, and none gets a message twice because another failed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

from supervisor.daemon.news.pace import Pace
from supervisor.daemon.news.tally import Item, Tally

RETRY_BASE_S, RETRY_CAP_S = 30.0, 3600.0
FINGERPRINT_CHARACTERS = 12


def retry_in_s(failures: int) -> float:
    """Return the seconds until the next try after `failures` in a row (at least one): doubled, an hour at most."""
    return float(min(RETRY_CAP_S, RETRY_BASE_S * 2.0 ** min(failures - 1, 20)))


def fingerprint(address: str) -> str:
    """Return the name of an address in the store, which does not give it away."""
    return hashlib.sha256(address.encode()).hexdigest()[:FINGERPRINT_CHARACTERS]


class Mailbox:
    """Gathers news for one address. `sent_up_to` is the last event that it got or that was no news for it."""

    def __init__(self, address: str, sent_up_to: int, pace: Pace, told: Iterable[str] = ()) -> None:
        """`told` are the keys of the topics that it was told about in this run."""
        self.address, self.sent_up_to, self.pace = address, sent_up_to, pace
        self._told = set(told)
        self.tally = Tally()
        self.failures = 0
        self._not_before_s = float("-inf")
        self._problem: str | None = None

    def put(self, items: Iterable[Item], read_up_to: int) -> None:
        """Put in the items that are new to it, read up to the event `read_up_to`."""
        for item in items:
            if item.seq > self.sent_up_to and not (item.topic.once and item.topic.key in self._told):
                self.tally.add(item)
        if not self.tally:
            self.sent_up_to = max(self.sent_up_to, read_up_to)

    def due(self, wall_s: float, mono_s: float) -> bool:
        """Return whether a message may go now."""
        return bool(self.tally) and mono_s >= self._not_before_s and self.pace.due(self.tally, wall_s)

    def sent(self, up_to: int, wall_s: float) -> None:
        """Take note that the address got all its news."""
        self.pace.sent(self.tally.keys, wall_s)
        self._told.update(self.tally.keys)
        self.tally, self.sent_up_to, self.failures, self._problem = Tally(), up_to, 0, None
        self._not_before_s = float("-inf")

    def failed(self, problem: str, mono_s: float) -> bool:
        """Take note that the address was not reached; return whether it is the first time for this reason."""
        self.failures += 1
        self._not_before_s = mono_s + retry_in_s(self.failures)
        # A service that is down for days must not fill the log.
        told, self._problem = self._problem == problem, problem
        return not told


class Cursors:
    """Holds the number of the last event that each address got, as the store keeps it."""

    def __init__(self, noted: str | None, newest: int) -> None:
        """`noted` is the store's note; an earlier version had one number for all addresses. `newest` is the default."""
        found = json.loads(noted) if noted is not None else newest
        self._of: Mapping[str, int] = found if isinstance(found, dict) else {}
        self._default = newest if isinstance(found, dict) else int(found)

    @property
    def first(self) -> int:
        """Return the smallest number: the events after it must be read."""
        return min([self._default, *self._of.values()])

    def of(self, address: str) -> int:
        """Return the number of an address; a new one gets no old news."""
        return int(self._of.get(fingerprint(address), self._default))


def note_of(boxes: Iterable[Mailbox], read_up_to: int) -> str:
    """Return the note of the boxes' numbers; without boxes the number for all addresses to come."""
    found = {fingerprint(box.address): box.sent_up_to for box in boxes}
    return json.dumps(found or read_up_to)
