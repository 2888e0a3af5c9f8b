"""Gives the page's connections their places: those that have shown the token stay, the others give way. Pure.

Every user of the machine can connect, and who opens connections and says nothing must keep no browser out.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable

SILENT_FOR_S = 20.0
"""The time in which a connection must send a whole request that is answered: a browser sends one at once."""


class Places:
    """Knows `most` connections, each of those without an answered request since when."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[Hashable] = set()
        self._strange: dict[Hashable, float] = {}
        """The oldest first."""

    def keep(self, living: Collection[Hashable]) -> None:
        """Free the places of all but the `living` connections."""
        self._known.intersection_update(living)
        self._strange = {one: since for one, since in self._strange.items() if one in living}

    def make_room(self) -> tuple[bool, Hashable | None]:
        """Return whether there is a place for one more, and the connection that must end for it."""
        if len(self._known) + len(self._strange) < self._most:
            return True, None
        if not self._strange:
            return False, None
        oldest = next(iter(self._strange))
        del self._strange[oldest]
        return True, oldest

    def enter(self, connection: Hashable, now_s: float) -> None:
        """Give a new connection a place."""
        self._strange[connection] = now_s

    def admit(self, connection: Hashable) -> None:
        """Take note that a request of a connection is answered."""
        if self._strange.pop(connection, None) is not None:
            self._known.add(connection)

    def silent(self, now_s: float) -> list[Hashable]:
        """Return the connections whose time is over, and free their places."""
        over = [one for one, since in self._strange.items() if now_s - since >= SILENT_FOR_S]
        for one in over:
            del self._strange[one]
        return over
