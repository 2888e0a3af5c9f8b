"""One instant on both clocks. Standard library only, and light: the sensors' child processes import it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class TimeSource(Protocol):
    """What `supervisor.clock.Clock` offers, as far as reading time goes."""

    def mono_s(self) -> float: ...

    def wall_s(self) -> float: ...


@dataclass(frozen=True)
class Now:
    """`mono_s` is CLOCK_MONOTONIC, for intervals; `wall_s` is seconds since the epoch, for people."""

    mono_s: float
    wall_s: float

    @classmethod
    def of(cls, clock: TimeSource) -> Now:
        return cls(mono_s=clock.mono_s(), wall_s=clock.wall_s())
