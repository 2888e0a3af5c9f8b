"""Start, kill and damage a home: rules of the machine."""

from __future__ import annotations

import json
import os
import shutil

from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    precondition,
    rule,
)

from supervisor import failpoints
from supervisor.audit import rotation
from tests.unit.lifecycle.conducted_home import ConductedHome

MAX_RUNS = 3
NODE = "n" * 56
POINTS = [
    (point, fault)
    for point, faults in failpoints.POINTS.items()
    for fault in faults
    if point.split(".")[0] in ("store", "audit", "rotate", "rebuild")
]
HOUR_S = 3600.0


class DeathRules(ConductedHome):
    """The rules of starts, deaths and damage."""

    # Rules: starting

    @initialize()
    def first_start(self) -> None:
        self.start()

    @precondition(lambda self: not self.alive)
    @rule(how=st.sampled_from(["named", "unnamed", "named", "unnamed", "anew", "retry"]), hours=st.floats(-48.0, 48.0))
    def start_again(self, how: str, hours: float) -> None:
        """Let time pass: the clock may be set, or the machine may sleep."""
        self.clock.now += hours * HOUR_S
        full = how == "anew" and len(self.world.runs) >= MAX_RUNS
        # The run before the last is not this machine's business.
        given_up = how == "retry" and any(world.run.given_up for world in self.worlds if world.runs)
        self.start("named" if full or given_up else how)

    # Rules: deaths and damage

    @precondition(lambda self: self.alive)
    @rule(where=st.sampled_from(POINTS), hit=st.integers(1, 4))
    def arm(self, where: tuple[str, str], hit: int) -> None:
        self.bomb = (*where, hit)

    @precondition(lambda self: self.alive)
    @rule(full=st.booleans())
    def disk_of_the_log(self, full: bool) -> None:
        self.log_full = full

    @precondition(lambda self: self.alive)
    @rule()
    def kill(self) -> None:
        self._dead()

    @precondition(lambda self: not self.alive and not self.damaged)
    @rule(
        how=st.sampled_from(["torn line", "shorter log", "store gone", "no store", "cut store", "old store"]),
        data=st.binary(min_size=1, max_size=80),
        lines=st.integers(1, 5),
    )
    def damage(self, how: str, data: bytes, lines: int) -> None:
        """Damage a file of a dead daemon, as a power cut may; never both copies of one result."""
        path = self.home.audit_log("p")
        if not path.exists():
            return  # its daemon died while it rotated the log
        self.damaged = True
        if how == "torn line":
            path.write_bytes(path.read_bytes() + data.replace(b"\n", b"-"))
        elif how == "shorter log":
            path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-lines]))
        elif self._log_is_complete():
            self._lose_store(how)

    @precondition(lambda self: self.alive and not self.log_full)
    @rule()
    def copy_the_store(self) -> None:
        self.copy = self.folder / "copy.db"
        self.copy.unlink(missing_ok=True)
        self.store.back_up(self.copy)

    # Damage

    def _lose_store(self, how: str) -> None:
        store = self.home.store
        for suffix in ("-wal", "-shm"):
            store.with_name(store.name + suffix).unlink(missing_ok=True)
        if how == "store gone":
            store.unlink()
        elif how == "old store" and self.copy is not None:
            shutil.copyfile(self.copy, store)
        elif how == "cut store":
            os.truncate(store, store.stat().st_size // 3)
        else:
            store.write_bytes(b"no database" * 1000)

    def _log_is_complete(self) -> bool:
        """Return whether the log holds all that was acknowledged: without either witness nothing can give it back.

        It lags behind while its disk is full, or has lost its end.
        """
        parts = rotation.all_parts(self.home.audit_log("p"))
        lines = [line for part in parts for line in rotation.lines_of(part)]
        return bool(lines) and int(json.loads(lines[-1])["seq"]) >= self.promised_seq
