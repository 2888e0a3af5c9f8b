"""Times named pieces of one thread's work by wrappers around real functions: a piece within another is not in both."""

from __future__ import annotations

import functools
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mark:
    """Holds one moment: seconds of wall-clock, of this process's CPU, and of each piece so far, with its calls."""

    wall_s: float
    cpu_s: float
    pieces_s: Mapping[str, float]
    calls: Mapping[str, int]


@dataclass(frozen=True)
class Between:
    """Holds the milliseconds a trial between two marks; `rest_ms` is in no piece."""

    wall_ms: float
    cpu_ms: float
    pieces_ms: Mapping[str, float]
    calls: Mapping[str, float]

    @property
    def rest_ms(self) -> float:
        return self.wall_ms - sum(self.pieces_ms.values())


def between(first: Mark, last: Mark, trials: int) -> Between:
    """Return what happened between two marks, for each of `trials` trials."""
    return Between(
        1e3 * (last.wall_s - first.wall_s) / trials,
        1e3 * (last.cpu_s - first.cpu_s) / trials,
        {name: 1e3 * (total - first.pieces_s.get(name, 0.0)) / trials for name, total in last.pieces_s.items()},
        {name: (count - first.calls.get(name, 0)) / trials for name, count in last.calls.items()},
    )


class Timers:
    """Times the thread that makes it; a wrapped function that another thread calls is not timed."""

    def __init__(
        self, wall_s: Callable[[], float] = time.perf_counter, cpu_s: Callable[[], float] = time.process_time
    ) -> None:
        self._wall_s, self._cpu_s = wall_s, cpu_s
        self._thread = threading.get_ident()
        self._seconds: Counter[str] = Counter()
        self._calls: Counter[str] = Counter()
        self._open: list[str] = []
        self._since_s = 0.0
        self.marks: list[Mark] = []

    def wrap(self, owner: Any, name: str, piece: str) -> None:
        """Time the function `name` of a module or class as `piece`, from now on. Raises AttributeError without it."""
        setattr(owner, name, self.timed(piece, getattr(owner, name)))

    def timed(self, piece: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function`, timed as `piece`."""

        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            if threading.get_ident() != self._thread:
                return function(*arguments, **named)
            self._turn()
            self._open.append(piece)
            self._calls[piece] += 1
            try:
                return function(*arguments, **named)
            finally:
                self._turn()
                self._open.pop()

        return timed

    def _turn(self) -> None:
        """Give the time since the last turn to the innermost open piece."""
        now_s = self._wall_s()
        if self._open:
            self._seconds[self._open[-1]] += now_s - self._since_s
        self._since_s = now_s

    def mark(self) -> None:
        """Add a mark of this moment."""
        self._turn()
        self.marks.append(Mark(self._since_s, self._cpu_s(), dict(self._seconds), dict(self._calls)))

    def mark_after(self, owner: Any, name: str, when: Callable[..., bool] = lambda *_, **__: True) -> None:
        """Mark the end of each call of a function for whose arguments `when` is true."""
        function = getattr(owner, name)

        @functools.wraps(function)
        def marked(*arguments: Any, **named: Any) -> Any:
            try:
                return function(*arguments, **named)
            finally:
                if when(*arguments, **named):
                    self.mark()

        setattr(owner, name, marked)
