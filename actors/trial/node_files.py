"""Keeps the small files of a node: the flags that its watchdog writes for its trials, and their heartbeats' folder.

Each experiment has a flag of its own; the heartbeats of all lie together. Layout of a flag, 256 bytes, little endian:
magic `SWPG` (4), layout version (u32), action (u32, as in domain.command.Action), release (u32, 1 or 0), throttle share
(f64), lease (f64, seconds of CLOCK_MONOTONIC at the last renewal), writer's pid (u32), number of trials that are held
one by one (u32), zeros to byte 64; then 48 slots (u32), each free or the number of a held trial, with the highest bit
set if that trial is to leave its worker. Each field is aligned, is written by itself and has a meaning by itself, so
readers need no lock. A held trial keeps its slot.
"""

from __future__ import annotations

import glob
import mmap
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

from supervisor.domain.command import Action
from supervisor.domain.scope import MAX_HELD_TRIALS

LAYOUT = struct.Struct("<4sIII dd I")
MAGIC, VERSION = b"SWPG", 2
ACTION, RELEASE, HELD, SLOTS = 2, 3, 9, slice(16, 16 + MAX_HELD_TRIALS)
"""Indices into the flag as u32."""
SIZE_BYTES = 4 * SLOTS.stop
SHARE, LEASE = 2, 3
"""Indices into the flag as f64."""
FREE, LEAVES = 0xFFFFFFFF, 1 << 31

FLAG_SUFFIX = ".flag"
MAX_NAME_CHARACTERS = 128
"""A file's name has 255 at most, and a flag's has more than its experiment's in it."""

LEASE_S = 15.0
"""An older flag counts as PAUSE: trials must not run on when their watchdog is dead."""


def node_prefix(prefix: str, node: str) -> str:
    """Return the prefix of a node's files: nodes may share a disk, or even a machine in a simulated cluster."""
    return f"{prefix}.{node[:12]}"


def flag_path(prefix: str, node: str, experiment: str) -> Path:
    """Return the path of an experiment's flag on a node; a long name is cut, and told apart by its checksum."""
    long = len(experiment) > MAX_NAME_CHARACTERS
    name = f"{experiment[: MAX_NAME_CHARACTERS - 9]}-{zlib.crc32(experiment.encode()):08x}" if long else experiment
    return Path(f"{node_prefix(prefix, node)}.{name}{FLAG_SUFFIX}")


def flags_of(prefix: str, node: str) -> list[Path]:
    """Return the flags that lie on a node, those of earlier watchdogs too."""
    start = Path(node_prefix(prefix, node))
    return sorted(start.parent.glob(f"{glob.escape(start.name)}.*{FLAG_SUFFIX}"))


def heartbeats_folder(prefix: str, node: str) -> Path:
    """Return the folder where the workers of a node keep their heartbeat files."""
    return Path(f"{node_prefix(prefix, node)}.heartbeats")


class FlagWriter:
    """Writes a node's flag: the file has mode 0600 and says PAUSE until the first `write`."""

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
        for slot in range(*SLOTS.indices(SIZE_BYTES)):
            self._words[slot] = FREE
        # Readers of an earlier watchdog's file see its lease run out, and then open this one.
        fresh.replace(path)

    def write(
        self, action: Action, throttle_share: float, *, release: bool = False, held: Mapping[int, bool] | None = None
    ) -> None:
        """Write the flag; `held` maps a single held trial to whether it is to leave (at most MAX_HELD_TRIALS)."""
        self._action, self._share, self._release = action, throttle_share, release
        self._held = dict(sorted((held or {}).items())[:MAX_HELD_TRIALS])
        self.renew()

    @property
    def closes_any(self) -> bool:
        """Return whether the flag forbids the work of any trial."""
        return self._action >= Action.PAUSE or bool(self._held)

    def closes(self, number: int) -> bool:
        """Return whether the flag forbids the work of a trial."""
        return self._action >= Action.PAUSE or number in self._held

    @property
    def closed(self) -> tuple[bool, frozenset[int]]:
        """Return whether the flag forbids the work of all trials, and the numbers that it holds one by one."""
        return self._action >= Action.PAUSE, frozenset(self._held)

    @property
    def age_s(self) -> float:
        """Return the seconds since the last renewal."""
        return self._mono_s() - self._renewed_mono_s

    def renew(self) -> None:
        """Renew the lease for LEASE_S; does nothing after `close`."""
        # Called by two threads of the watchdog, and one of them may still use a writer that the other has closed.
        with self._writing:
            if self._map.closed:
                return
            # Field by field: pack_into() clears everything first, so a closed gate would be open for a moment.
            self._words[ACTION], self._words[RELEASE] = int(self._action), int(self._release)
            self._doubles[SHARE] = self._share
            self._write_held()
            self._doubles[LEASE] = self._renewed_mono_s = self._mono_s()

    def _write_held(self) -> None:
        slots = self._words[SLOTS]
        found = {slots[at] & ~LEAVES: at for at in range(len(slots)) if slots[at] != FREE}
        free = [at for at in range(len(slots)) if slots[at] == FREE]
        for number in set(found) - set(self._held):
            slots[found[number]] = FREE
            free.append(found[number])
        for number, leaves in self._held.items():
            at = found[number] if number in found else free.pop()
            slots[at] = number | LEAVES if leaves else number
        self._words[HELD] = len(self._held)

    def close(self) -> None:
        """Release the file; its lease runs out."""
        with self._writing:
            # A map with views cannot be closed.
            self._words.release()
            self._doubles.release()
            self._map.close()


def open_flag(path: Path) -> mmap.mmap | None:
    """Map a flag for reading; None while there is no file of the flag's size."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        # Its watchdog is starting, or gone.
        return None
    try:
        return mmap.mmap(descriptor, SIZE_BYTES, access=mmap.ACCESS_READ)
    except ValueError:
        return None
    finally:
        os.close(descriptor)
