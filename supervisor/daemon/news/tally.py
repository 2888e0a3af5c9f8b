"""Gathers news by topic, in bounded memory: the newest of each topic are kept, the others are counted. Pure.

So a storm of one kind pushes no other kind out, and costs a message no more than a few lines.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from supervisor.daemon.news.topics import Topic

KEPT = 3
"""The number of lines of one topic that a message shows."""


@dataclass(frozen=True)
class Item:
    """Holds one piece of news: the event's number and wall time, its sentence, and `details` for lines below it."""

    seq: int
    wall_s: float
    topic: Topic
    sentence: str
    experiment: str | None = None
    details: tuple[str, ...] = ()


@dataclass
class Heap:
    """Holds the news of one topic: how many there are, since when, and the newest."""

    topic: Topic
    since_wall_s: float
    count: int = 0
    newest: deque[Item] = field(default_factory=lambda: deque(maxlen=KEPT))

    @property
    def last(self) -> Item:
        """Return the newest item."""
        return self.newest[-1]

    @property
    def left_out(self) -> int:
        """Return how many items are only counted."""
        return self.count - len(self.newest)


class Tally:
    """Holds the news that wait for one message."""

    def __init__(self) -> None:
        self._heaps: dict[str, Heap] = {}

    def __bool__(self) -> bool:
        return bool(self._heaps)

    @property
    def count(self) -> int:
        """Return how many items were added."""
        return sum(heap.count for heap in self._heaps.values())

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the keys of the topics, sorted."""
        return tuple(sorted(self._heaps))

    def add(self, item: Item) -> None:
        """Add an item; the oldest one shown of its topic is only counted from now on."""
        heap = self._heaps.setdefault(item.topic.key, Heap(item.topic, item.wall_s))
        heap.count += 1
        heap.newest.append(item)

    def heaps(self) -> list[Heap]:
        """Return the heaps, the most urgent first, then the newest; what is over comes after what is not."""
        return sorted(self._heaps.values(), key=lambda heap: (self._over(heap), heap.topic.rank, -heap.last.seq))

    def items(self) -> Iterator[Item]:
        """Yield the items that are kept."""
        for heap in self._heaps.values():
            yield from heap.newest

    def _over(self, heap: Heap) -> bool:
        end = self._heaps.get(heap.topic.ended_by or "")
        return end is not None and end.last.seq > heap.last.seq
