"""Provide a home in which a daemon's writing half lives, dies and starts again.

A kill is one of the process: what it had in memory is gone, what it had written is there.
"""

from __future__ import annotations

import errno
import sqlite3
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine

from supervisor import failpoints
from supervisor.audit.log import AuditLog, head_key, open_audit_log
from supervisor.audit.rebuild import UNREPORTED, Rebuilt, open_or_rebuild
from supervisor.audit.rotation import Limits
from supervisor.clock import Clock
from supervisor.control.handshake import StartRequest
from supervisor.daemon.cluster import ClusterView
from supervisor.daemon.commands_in_force import CommandsInForce
from supervisor.daemon.experiments.experiment_state import ExperimentState
from supervisor.daemon.run_selection import choose_run
from supervisor.domain.lifecycle import ProcessState, TrialState
from supervisor.errors import Conflict, DiskFailed, DiskFull, NotFound
from supervisor.home import Home
from supervisor.store.event import Event
from supervisor.store.run_writer import RunWriter
from supervisor.store.schema import SCHEMA
from supervisor.store.trial_writer import TrialWriter
from tests.unit.lifecycle.run_facts import EXPERIMENTS, FINAL, MAX_TRIALS
from tests.unit.lifecycle.stored_world import read_world
from tests.unit.lifecycle.world import World

MAX_HOURS = 1e6
"""The hours of each experiment: no life uses them up, and the rest goes to the next."""
SPECS = [
    {
        "name": name, "mode": "min", "max_trials": MAX_TRIALS + FINAL, "concurrency": 1, "max_hours": MAX_HOURS,
        "enqueue": [], "seed": 1, "trainable": "own.code:train", "finalize": {"top": 1, "seeds": 1},
    }
    for name in EXPERIMENTS
]  # fmt: skip
LIMITS = Limits(max_bytes=6000, parts=90)
"""Small, so that a log is rotated in the middle of everything; enough parts that none is lost."""
ERRORS = {"enospc": errno.ENOSPC, "eio": errno.EIO}


class Killed(BaseException):
    """kill -9: nothing catches it."""


class HandSetClock(Clock):
    """Advance at each look by a third of a second, which no float holds exactly."""

    now = 1_700_000_000.0

    def wall_s(self) -> float:
        self.now += 1.0 / 3.0
        return self.now


class OneHome(RuleBasedStateMachine):
    """A home; a daemon's writing half lives in it, dies and is started again. Its rules are its heirs'."""

    def __init__(self) -> None:
        super().__init__()
        # Memory where there is: the fsync calls are made all the same, and cost nothing.
        where = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
        self.folder = Path(tempfile.mkdtemp(prefix="lives-", dir=where))
        self.home = Home(self.folder)
        for each in (self.home.state, self.home.logs, self.home.runs):
            each.mkdir()
        self.clock = HandSetClock()
        self.worlds = [World()]
        """Return the worlds that the store may hold: several only after an action that was killed halfway."""
        self.acknowledged: dict[tuple[Any, ...], tuple[int, float | None]] = {}
        """(run, experiment, trial, epoch): the last attempt that reported it, and its value."""
        self.bomb: tuple[str, str, int] | None = None
        self.log_full = self.alive = self.damaged = False
        self.state: ExperimentState | None = None
        """The experiment at work."""
        self.waiting = False
        """Return True if the experiment waits for an operator, after the governor's STOP."""
        self.governor = "RUN"
        """The governor's action, as the node's watchdog last sent it."""
        self.sent: deque[Any] = deque(maxlen=100)
        self.looked_at = self.promised_seq = 0
        self.states: dict[tuple[Any, ...], Any] = {}
        self.beside = sqlite3.connect(":memory:")
        """The store's tables, made from its events alone."""
        self.copy: Path | None = None
        self._hit, failpoints.hit = failpoints.hit, self.hit

    # Lives and deaths

    def hit(self, point: str) -> None:
        """Replace failpoints.hit: end this life instead of this process."""
        if self.log_full and point == "audit.write":
            raise OSError(errno.ENOSPC, "full")
        if self.bomb is None or self.bomb[0] != point:
            return
        point, fault, left = self.bomb
        self.bomb = (point, fault, left - 1) if left > 1 else None
        if left > 1:
            return
        if fault == "kill":
            raise Killed
        raise OSError(ERRORS[fault], "failpoint")

    def start(self, how: str = "named") -> None:
        """Start a daemon; start it again as often as it dies on the way.

        `how`: with the plan's name, without, with --new (anew), or with --retry.
        """
        self.log_full = False
        for _ in range(10):
            before = [world.copy() for world in self.worlds]
            going_on = [world.start(how, self.queued) for world in self.worlds]
            try:
                self._start(how)
            except (NotFound, Conflict):
                self.worlds = [world for world, goes_on in zip(before, going_on, strict=True) if not goes_on]
                assert self.worlds, "there was a run to continue"
                self.alive = False
            except (Killed, DiskFailed, DiskFull, OSError):
                self._halfway(before)
                self._dead()
                how = "named"
                continue
            else:
                self.worlds = [world for world, goes_on in zip(self.worlds, going_on, strict=True) if goes_on]
                self._narrow()
                self.alive, self.damaged, self.promised_seq = True, False, self.last_seq()
            return
        raise AssertionError("it never started")

    @property
    def queued(self) -> list[str]:
        """The entries of the queue that can begin, the next one first."""
        return []

    def _start(self, how: str) -> None:
        request = StartRequest(
            None if how == "unnamed" else "p", fingerprint="f", plan_text="name: p\n", specs=SPECS, new=how == "anew",
            retry=how == "retry",
        )  # fmt: skip
        self.store, rebuilt = open_or_rebuild(self.home, self.clock)
        self.audit: AuditLog | None = None
        try:
            self.work_on(request, rebuilt)
        except BaseException:
            self._forget()
            raise

    def work_on(self, request: StartRequest, rebuilt: Rebuilt | None) -> None:
        """Begin or resume the run that `request` means, as a daemon does."""
        self.writer = RunWriter(self.store, choose_run(self.store, request, self.clock))
        self.audit, replaced = open_audit_log(self.home.audit_log("p"), self.store, LIMITS)
        assert replaced is None, "the log was taken for another store's"
        self.store.after_each_change(lambda events: [self.told(event) for event in events])
        lines = self.audit.catch_up(self.store, "p")
        self._note_head()
        if self.audit.lost_from is not None:
            self.writer.record("audit.restored", lines=lines, after=self.audit.lost_from)
        if rebuilt is not None:
            with self.store.change(self.writer.run_id) as change:
                change.forget(UNREPORTED)
                change.record("store.rebuilt", **rebuilt.to_json())
            assert rebuilt.problems == []
        if self.audit.torn_bytes:
            self.writer.record("audit.repaired", bytes=self.audit.torn_bytes)
        self.writer.recover()
        self.writer.record("daemon.started", pid=1, version="0", socket="s", boot_id=None)
        self.writer.move_run(ProcessState.STARTING)
        self.writer.record("run.started")
        self.trial_writer = TrialWriter(self.store, self.writer.run_id)
        self.cluster = ClusterView(self.writer, self.clock)
        self.commands = CommandsInForce(self.writer, self.clock, self.cluster)
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Forget the experiment at work and its states: a recovery may make any move."""
        self.state: ExperimentState | None = None
        self.waiting = False
        self.governor = "RUN"
        self.sent.clear()
        self.looked_at = self.last_seq()
        for row in self.store.rows("SELECT * FROM experiment"):
            self.states[row["run"], row["name"]] = ProcessState(row["state"])
        for row in self.store.rows("SELECT * FROM trial"):
            self.states[row["run"], row["experiment"], row["number"]] = TrialState(row["state"])
        self.beside.close()
        self.beside = sqlite3.connect(":memory:", isolation_level=None)
        self.beside.row_factory = sqlite3.Row
        self.beside.executescript(SCHEMA)
        self.replayed = 0

    def last_seq(self) -> int:
        return int(self.store.rows("SELECT coalesce(max(seq), 0) AS n FROM event")[0]["n"])

    def told(self, event: Event) -> None:
        assert self.audit is not None
        self.audit.append_committed(event, self.store, "p")
        self._note_head()

    def _note_head(self) -> None:
        assert self.audit is not None
        self.store.note(head_key(self.audit.path), self.audit.head.to_json())

    def _forget(self) -> None:
        """Close all files, as the end of a process does."""
        self.store.close()
        if self.audit is not None:
            self.audit.close()
            self.audit = None

    def run_is_over(self) -> None:
        """End the daemon of a run that has ended."""
        self._dead()

    def _dead(self) -> None:
        if self.alive:
            self._forget()
        self.alive, self.state = False, None

    def _halfway(self, before: list[World]) -> None:
        """The outcome of the last step is not known: the store may hold its result, or any state on the way."""
        self.worlds = unlike([*before, *(World(runs) for world in self.worlds for runs in world.trail)])

    def _narrow(self) -> None:
        found = read_world(self.store.connection)
        self.worlds = [world for world in self.worlds if world == found]
        assert self.worlds, f"no history leads to what the store holds: {found}"
        self.worlds = [self.worlds[0].copy()]
        self._forget_retried()

    def _forget_retried(self) -> None:
        """Expect no result of a trial that begins anew; that it has none, the model says too."""
        run = len(self.world.runs)
        anew = {place for place, trial in self.world.run.trials.items() if not trial.results} if run else set()
        self.acknowledged = {
            key: counts for key, counts in self.acknowledged.items() if key[0] != run or (key[1], key[2]) not in anew
        }

    @property
    def world(self) -> World:
        return self.worlds[0]

    def do(self, action: Callable[[], object], model: Callable[[World], object]) -> None:
        """Do the same to the store and to the model. After a kill the next start shows the outcome."""
        before = [world.copy() for world in self.worlds]
        for world in self.worlds:
            model(world)
        try:
            try:
                action()
            except DiskFull:
                # A full disk changes nothing, and what was asked is asked again.
                assert read_world(self.store.connection) == before[0]
                action()
        except (Killed, DiskFailed):
            self._halfway(before)
            self._dead()
        else:
            self.worlds, self.promised_seq = [self.worlds[0].copy()], self.last_seq()

    def conduct(self, action: Callable[[], object], model: Callable[[World], object]) -> None:
        """The same, for the steps of the orchestrator: after a full disk it recovers and begins anew."""
        before = [world.copy() for world in self.worlds]
        for world in self.worlds:
            model(world)
        try:
            action()
        except DiskFull:
            self._halfway(before)
            self._recover()
        except (Killed, DiskFailed):
            self._halfway(before)
            self._dead()
        else:
            self.worlds, self.promised_seq = [self.worlds[0].copy()], self.last_seq()

    def _recover(self) -> None:
        """Continue as Daemon does once there is space again."""
        before = [world.copy() for world in self.worlds]
        for world in self.worlds:
            world.begin()
        try:
            self.writer.recover()
            self.writer.move_run(ProcessState.STARTING)
            self.writer.record("run.started")
        except (Killed, DiskFailed):
            self._halfway(before)
            self._dead()
        else:
            for name in EXPERIMENTS:
                self.cluster.driver_gone(name)
            self._narrow()
            self._begin_anew()


def unlike(worlds: list[World]) -> list[World]:
    found: list[World] = []
    for world in worlds:
        if world not in found:
            found.append(world.copy())
    return found
