"""The flag file of a node: its watchdog writes what trials may do, trials read it between batches, by mmap.

Layout, 256 bytes, little endian: magic `SWPG` (4), layout version (u32), action (u32, as in domain.command.Action),
release (u32, 1 or 0), throttle share (f64), lease (f64, seconds of CLOCK_MONOTONIC when the writer last vouched for the
flag), writer's pid (u32), how many single trials are held (u32), zeros to byte 64; then 48 slots (u32), each free or
the number of a held trial, its highest bit set when it is to be released. Each field is aligned, is written by itself
and means something by itself: readers need no lock, and a held trial's number never changes its slot.

STOP makes a trial leave its work: `wait` raises Leave, the trial saves itself and waits for its end. So does a PAUSE
with `release` set, which wants the trial's memory; but only a trial that can go on from a checkpoint leaves for that.
A flag whose lease is older than LEASE_S, or that is missing, counts as PAUSE: a dead watchdog must be safe.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from actors.watchdog.hang_detection import Phase
from supervisor.domain.command import Action

LAYOUT = struct.Struct("<4sIII dd I")
SIZE_BYTES = 256
MAGIC, VERSION = b"SWPG", 2
# Indices into the flag as u32 and as f64.
_ACTION, _RELEASE, _HELD, _SLOTS = 2, 3, 9, slice(16, 64)
_SHARE, _LEASE = 2, 3
_FREE, _LEAVES = 0xFFFFFFFF, 1 << 31
MAX_HELD_TRIALS = 48

LEASE_S = 15.0
POLL_S = 0.02
MAX_REST_S = 10.0
"""A trial whose batches take minutes is not put to rest for minutes more."""

_RESTING = int(Action.THROTTLE)

assert LAYOUT.size <= SIZE_BYTES


def flag_path(prefix: str, node: str) -> Path:
    """The flag file of one node: nodes may share a disk, and a simulated cluster shares one machine."""
    return Path(f"{prefix}.{node[:12]}")


def trials_folder(prefix: str, node: str) -> Path:
    """Where the workers of a node note which trial they work on, for supervisor.sensors.trial_memory."""
    return Path(f"{flag_path(prefix, node)}.trials")


class Leave(Exception):
    """The work is to be left where it is: save, and do not go on."""


class GateWriter:
    """The watchdog's side. Creates the file with mode 0600; PAUSE until the first `write`."""

    def __init__(self, path: Path, mono_s: Callable[[], float] = time.monotonic) -> None:
        self._mono_s = mono_s
        self._action, self._share, self._release = Action.PAUSE, 0.0, False
        self._held: dict[int, bool] = {}
        self._renewed_mono_s = mono_s()
        self._writing = threading.Lock()
        fresh = path.with_name(f"{path.name}.new-{os.getpid()}")
        descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.ftruncate(descriptor, SIZE_BYTES)
            self._map = mmap.mmap(descriptor, SIZE_BYTES)
        finally:
            os.close(descriptor)
        LAYOUT.pack_into(self._map, 0, MAGIC, VERSION, int(Action.PAUSE), 0, 0.0, mono_s(), os.getpid())
        self._words, self._doubles = memoryview(self._map).cast("I"), memoryview(self._map).cast("d")
        for slot in range(*_SLOTS.indices(SIZE_BYTES)):
            self._words[slot] = _FREE
        # Readers of an earlier watchdog's file see its lease run out, and open this one.
        fresh.replace(path)

    def write(
        self, action: Action, throttle_share: float, *, release: bool = False, held: Mapping[int, bool] | None = None
    ) -> None:
        """`held` are the trials that stand by themselves, each with whether it is to be released; at most 48 count."""
        self._action, self._share, self._release = action, throttle_share, release
        self._held = dict(sorted((held or {}).items())[:MAX_HELD_TRIALS])
        self.renew()

    @property
    def age_s(self) -> float:
        """Seconds since the writer last vouched for the flag."""
        return self._mono_s() - self._renewed_mono_s

    def renew(self) -> None:
        """Vouch for what is written for LEASE_S more."""
        # From two threads of the watchdog, one of which may hold on to a writer that the other has closed.
        with self._writing:
            if self._map.closed:
                return
            # Field by field: pack_into() clears all of it first, and for a moment a closed gate would stand open.
            self._words[_ACTION], self._words[_RELEASE] = int(self._action), int(self._release)
            self._doubles[_SHARE] = self._share
            self._write_held()
            self._doubles[_LEASE] = self._renewed_mono_s = self._mono_s()

    def _write_held(self) -> None:
        slots = self._words[_SLOTS]
        found = {slots[at] & ~_LEAVES: at for at in range(len(slots)) if slots[at] != _FREE}
        free = [at for at in range(len(slots)) if slots[at] == _FREE]
        for number in set(found) - set(self._held):
            slots[found[number]] = _FREE
            free.append(found[number])
        for number, leaves in self._held.items():
            at = found[number] if number in found else free.pop()
            slots[at] = number | _LEAVES if leaves else number
        self._words[_HELD] = len(self._held)

    def close(self) -> None:
        with self._writing:
            # A map with views cannot be closed.
            self._words.release()
            self._doubles.release()
            self._map.close()


class Notes(Protocol):
    """What is told of each wait (actors.trial.heartbeat.Beat)."""

    def batch(self, now_mono_s: float) -> None: ...
    def phase(self, phase: Phase) -> None: ...


class Gate:
    """A trial's side; `trial` is its number. `wait` costs half a microsecond while the gate is open."""

    def __init__(
        self,
        path: Path,
        mono_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        trial: int | None = None,
        beat: Notes | None = None,
    ) -> None:
        self._path, self._mono_s, self._sleep, self._trial, self._beat = path, mono_s, sleep, trial, beat
        self._map: mmap.mmap | None = None
        # Views of the map, for the one path that is walked at every batch. Every platform of ours is little endian.
        self._action_at: memoryview[int] | None = None
        self._lease_at: memoryview[float] | None = None
        self._released = False
        self._worked_from_mono_s = mono_s()
        self.may_be_released = False
        """Whether the trial loses nothing when it leaves for the sake of its memory."""

    def wait(self) -> float:
        """Return when the trial may go on; the seconds that it was kept waiting, 0.0 when it was not. Raises Leave."""
        began = self._mono_s()
        if self._beat is not None:
            self._beat.batch(began)
        rungs, leases = self._action_at, self._lease_at
        if (
            rungs is not None
            and leases is not None
            and rungs[_ACTION] < _RESTING
            and not rungs[_HELD]
            and began - leases[_LEASE] <= LEASE_S
        ):
            self._worked_from_mono_s = began
            return 0.0
        return self._wait(began)

    def _wait(self, began: float) -> float:
        action, share = self._read(began)
        if action < Action.THROTTLE:
            self._worked_from_mono_s = began
            return 0.0
        if self._beat is not None:
            self._beat.phase(Phase.WAITING)
        if action is Action.THROTTLE:
            self._rest(min(MAX_REST_S, (began - self._worked_from_mono_s) * share / (1.0 - share)))
        self._wait_while_closed()
        if self._beat is not None:
            self._beat.phase(Phase.WORKING)
        self._worked_from_mono_s = self._mono_s()
        return self._worked_from_mono_s - began

    def _rest(self, rest_s: float) -> None:
        until = self._mono_s() + rest_s
        while (now := self._mono_s()) < until and self._read(now)[0] is Action.THROTTLE:
            self._sleep(min(POLL_S, until - now))

    def _wait_while_closed(self) -> None:
        # Without a bound on purpose: to stand still is the safe state, and the driver can always end its trials.
        while (action := self._read(self._mono_s())[0]) >= Action.PAUSE:
            if action is Action.STOP or (self._released and self.may_be_released):
                raise Leave
            self._sleep(POLL_S)

    def _read(self, now_mono_s: float) -> tuple[Action, float]:
        found = self._fields()
        if found is None or now_mono_s - found[2] > LEASE_S:
            self._forget()
            found = self._fields()
            if found is None or now_mono_s - found[2] > LEASE_S:
                self._released = False
                return Action.PAUSE, 0.0
        return Action(found[0]), found[1]

    def _fields(self) -> tuple[int, float, float] | None:
        if self._map is None:
            self._map = _open(self._path)
            if self._map is None:
                return None
            whole = memoryview(self._map)
            if LAYOUT.unpack_from(self._map)[:2] == (MAGIC, VERSION):
                self._action_at, self._lease_at = whole.cast("I"), whole.cast("d")
        magic, version, action, release, share, lease, _ = LAYOUT.unpack_from(self._map)
        if magic != MAGIC or version != VERSION or action > Action.STOP or not 0.0 <= share < 1.0:
            return None
        leaves = self._leaves()
        self._released = release == 1 or leaves is True
        if leaves is not None:
            action = max(action, int(Action.PAUSE))
        return action, share, lease

    def _leaves(self) -> bool | None:
        """None unless this one trial is held; then whether it is to be released."""
        if self._trial is None or self._action_at is None or not self._action_at[_HELD]:
            return None
        slots = self._action_at[_SLOTS].tolist()
        if self._trial | _LEAVES in slots:
            return True
        return False if self._trial in slots else None

    def _forget(self) -> None:
        # Not closed by hand: a map with views cannot be. The last reference unmaps it.
        self._map = self._action_at = self._lease_at = None

    def close(self) -> None:
        self._forget()


def _open(path: Path) -> mmap.mmap | None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        # Not there yet: its watchdog is starting, or gone.
        return None
    try:
        return mmap.mmap(descriptor, SIZE_BYTES, access=mmap.ACCESS_READ)
    except ValueError:
        # Shorter than the layout: not a flag that we wrote.
        return None
    finally:
        os.close(descriptor)
