"""A trial's gate: between batches the trial reads the flag of its node, by mmap, and waits while it must not work.

A wait is also a beat of the heartbeat, so it belongs behind work that is done: on an accelerator, where a batch that
returns may only be queued, behind the reading of a value of it.

STOP makes a trial leave its work: `wait` raises Leave, the trial saves itself and waits for its end. A PAUSE with
`release` set, which needs the trial's memory, does the same to a trial that can resume from a checkpoint. A flag that
is missing, or whose lease is older than LEASE_S, counts as PAUSE.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable
from pathlib import Path

from actors.trial.heartbeat import Heartbeat, Phase
from actors.trial.node_files import ACTION, HELD, LAYOUT, LEASE, LEASE_S, LEAVES, MAGIC, SLOTS, VERSION, open_flag
from supervisor.domain.command import Action

POLL_S = 0.02
MAX_REST_S = 10.0
"""Bound of one THROTTLE rest: a trial whose batches take minutes shall not rest for minutes more."""

_RESTING = int(Action.THROTTLE)


class Leave(Exception):
    """The trial must leave its work: save, and do not continue."""


class Gate:
    """The gate of one trial; `trial` is its number. `wait` costs half a microsecond while the gate is open."""

    def __init__(
        self,
        path: Path,
        mono_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        trial: int | None = None,
        heartbeat: Heartbeat | None = None,
        *,
        may_be_released: bool = False,
    ) -> None:
        self._path, self._mono_s, self._sleep, self._trial, self.heartbeat = path, mono_s, sleep, trial, heartbeat
        self._map: mmap.mmap | None = None
        # Views of the map, for the fast path of every batch. All our platforms are little endian.
        self._words: memoryview[int] | None = None
        self._doubles: memoryview[float] | None = None
        self._released = False
        self._worked_from_mono_s = mono_s()
        self._may_be_released = may_be_released
        self.waited_s = 0.0
        """The seconds that the trial has waited here, in all."""

    def wait(self) -> float:
        """Wait until the trial may work; return the seconds waited, 0.0 at an open gate. Raises Leave."""
        began = self._mono_s()
        if self.heartbeat is not None:
            self.heartbeat.batch(began)
        words, doubles = self._words, self._doubles
        if (
            words is not None
            and doubles is not None
            and words[ACTION] < _RESTING
            and not words[HELD]
            and began - doubles[LEASE] <= LEASE_S
        ):
            self._worked_from_mono_s = began
            return 0.0
        return self._wait(began)

    def _wait(self, began: float) -> float:
        action, share = self._read(began)
        if action < Action.THROTTLE:
            self._worked_from_mono_s = began
            return 0.0
        self._set_phase(Phase.WAITING)
        if action is Action.THROTTLE:
            self._rest(min(MAX_REST_S, (began - self._worked_from_mono_s) * share / (1.0 - share)))
        self._wait_while_closed()
        self._set_phase(Phase.WORKING)
        self._worked_from_mono_s = self._mono_s()
        self.waited_s += self._worked_from_mono_s - began
        return self._worked_from_mono_s - began

    def _set_phase(self, phase: Phase) -> None:
        if self.heartbeat is not None:
            self.heartbeat.phase(phase)

    def _rest(self, rest_s: float) -> None:
        until = self._mono_s() + rest_s
        while (now := self._mono_s()) < until and self._read(now)[0] is Action.THROTTLE:
            self._sleep(min(POLL_S, until - now))

    def _wait_while_closed(self) -> None:
        # Without a bound on purpose: waiting is the safe state, and the driver can always end its trials.
        while (action := self._read(self._mono_s())[0]) >= Action.PAUSE:
            if action is Action.STOP or (self._released and self._may_be_released):
                raise Leave
            self._sleep(POLL_S)

    def _read(self, now_mono_s: float) -> tuple[Action, float]:
        found = self._fields()
        if found is None or now_mono_s - found[2] > LEASE_S:
            # A watchdog that started anew has written another file.
            self.close()
            found = self._fields()
            if found is None or now_mono_s - found[2] > LEASE_S:
                self._released = False
                return Action.PAUSE, 0.0
        return Action(found[0]), found[1]

    def _fields(self) -> tuple[int, float, float] | None:
        if self._map is None:
            self._map = open_flag(self._path)
            if self._map is None:
                return None
            whole = memoryview(self._map)
            if LAYOUT.unpack_from(self._map)[:2] == (MAGIC, VERSION):
                self._words, self._doubles = whole.cast("I"), whole.cast("d")
        magic, version, action, release, share, lease, _ = LAYOUT.unpack_from(self._map)
        if magic != MAGIC or version != VERSION or action > Action.STOP or not 0.0 <= share < 1.0:
            return None
        leaves = self._leaves()
        self._released = release == 1 or leaves is True
        if leaves is not None:
            action = max(action, int(Action.PAUSE))
        return action, share, lease

    def _leaves(self) -> bool | None:
        """Return whether this trial, held by itself, is to leave; None if it is not held."""
        if self._trial is None or self._words is None or not self._words[HELD]:
            return None
        slots = self._words[SLOTS].tolist()
        if self._trial | LEAVES in slots:
            return True
        return False if self._trial in slots else None

    def close(self) -> None:
        """Forget the flag; the next read opens it anew."""
        # Not closed by hand: a map with views cannot be. The last reference unmaps it.
        self._map = self._words = self._doubles = None
