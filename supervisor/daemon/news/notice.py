"""Writes one message: a title for the lock screen, a few lines for each topic, the command to type. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from supervisor.daemon.news.tally import Heap, Tally
from supervisor.daemon.news.topics import DIGEST, LOOK
from supervisor.formatting import shortened
from supervisor.redaction import redact

TITLE_CHARACTERS, LINE_CHARACTERS = 160, 200
MAX_LINES = 60
"""The limit of a whole message; each topic has at least one line."""


@dataclass(frozen=True)
class Notice:
    """Holds the title and the body of one message."""

    title: str
    body: str


def compose(tally: Tally, plan: str, where: str) -> Notice:
    """Write one message about all that waits in `tally`, which is not empty; `where` says run and machine."""
    heaps = tally.heaps()
    lines = [line for heap in heaps for line in _section(heap)]
    if len(lines) > MAX_LINES:
        lines = [_line(heap) for heap in heaps]
    end = [f"next: `{_next(heaps[0])}`", where]
    return Notice(_short(f"{plan}: {_headline(heaps[0])}", TITLE_CHARACTERS), "\n".join([*lines, "", *end]))


def _headline(heap: Heap) -> str:
    if heap.count == 1:
        return heap.last.sentence
    return heap.topic.many.format(count=heap.count, more=heap.count - 1, last=heap.last.sentence)


def _line(heap: Heap) -> str:
    return _short(f"{_time(heap.last.wall_s)} {_headline(heap)}", LINE_CHARACTERS)


def _section(heap: Heap) -> Iterator[str]:
    """Yield the lines of one topic, oldest first, those that are only counted in one."""
    if heap.left_out:
        yield f"{heap.topic.key}: {heap.count} times; the last:"
    for item in heap.newest:
        time = "" if item.topic.key == DIGEST.key else f"{_time(item.wall_s)} "
        yield _short(f"{time}{item.sentence}", LINE_CHARACTERS)
    yield from (f"  {_short(line, LINE_CHARACTERS - 2)}" for line in heap.last.details)


def _short(text: str, characters: int) -> str:
    """Return a text on one line of at most `characters`, without secrets: a cut one is not known any more."""
    return shortened(" ".join(redact(text).split()), characters)


def _next(heap: Heap) -> str:
    if "{experiment}" not in heap.topic.next:
        return heap.topic.next
    return LOOK if heap.last.experiment is None else heap.topic.next.format(experiment=heap.last.experiment)


def _time(wall_s: float) -> str:
    """Return day and time where the daemon lives."""
    return datetime.fromtimestamp(wall_s).astimezone().strftime("%a %H:%M")
