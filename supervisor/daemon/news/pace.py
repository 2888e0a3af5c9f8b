"""Decides when the next message may go: alarms at once, and the longer a topic goes on, the rarer. Pure.

Its state follows from the messages that were sent (their times and topics), so a daemon that starts anew goes on with
the same pace. Times are those of the wall clock: they must survive a restart.
"""

from __future__ import annotations

from dataclasses import dataclass

from supervisor.daemon.news.tally import Heap, Tally

AT_MOST_EVERY_S = 60.0
"""The shortest time between two messages."""
FIRST_WAIT_S, LONGEST_WAIT_S = 60.0, 6 * 3600.0
"""The wait after a topic's first message; it doubles with each further one."""
FORGET_S = 6 * 3600.0
"""A topic starts anew after this time, or after twice its wait if that is longer."""


@dataclass(frozen=True)
class Step:
    """Says when a topic was last in a message, and how often it was in a row."""

    wall_s: float
    number: int

    @property
    def wait_s(self) -> float:
        """Return the seconds to the topic's next message."""
        return float(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(self.number, 20)))


class Pace:
    """Remembers which topics were sent when; it grows with the number of topics only."""

    def __init__(self) -> None:
        self._steps: dict[str, Step] = {}
        self._last_wall_s: float | None = None

    def sent(self, keys: tuple[str, ...], wall_s: float) -> None:
        """Take note of a message about the topics `keys`."""
        for key in keys:
            before = self._steps.get(key)
            in_a_row = before is not None and wall_s - before.wall_s < max(FORGET_S, 2 * before.wait_s)
            self._steps[key] = Step(wall_s, before.number + 1 if before is not None and in_a_row else 0)
        self._last_wall_s = wall_s

    def due(self, tally: Tally, now_s: float) -> bool:
        """Return whether a message may go now: all that waits goes with it."""
        if not _over(self._last_wall_s, AT_MOST_EVERY_S, now_s):
            return False
        return any(self._topic_due(heap, now_s) for heap in tally.heaps())

    def _topic_due(self, heap: Heap, now_s: float) -> bool:
        step = self._steps.get(heap.topic.key)
        paced = step is None or _over(step.wall_s, step.wait_s, now_s)
        return paced and _over(heap.since_wall_s, heap.topic.gather_s, now_s)


def _over(since_s: float | None, wait_s: float, now_s: float) -> bool:
    # A clock that was set back must not silence a topic.
    return since_s is None or not 0 <= now_s - since_s < wait_s
