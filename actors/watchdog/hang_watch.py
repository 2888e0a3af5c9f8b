"""Ends the trials of a node that hang, knows how workers died, and sees which trials wait: all by the heartbeats.

It has a thread of its own: a sensor that hangs must not delay it, nor must a worker that dies slowly delay the sensors.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from actors.trial.heartbeat import STACKS_SUFFIX, Attempt, Phase, Progress, Worker, heartbeats, read_heartbeat
from actors.trial.worker_exit import HUNG, OOM_KILLED, Death, MemoryKills
from actors.trial.worker_process import end_process, stacks_file, stacks_of
from actors.watchdog.hang_detection import Attention, Hang, hang_of
from supervisor.clock import Clock
from supervisor.governor.policy import Policy
from supervisor.processes.identity import started_at
from supervisor.sensors.cgroup import kill_count, kill_counter

WAIT_PERIOD_S, QUIET_WAIT_PERIOD_S, OPEN_WAIT_PERIOD_S = 0.2, 1.0, 30.0
QUIET_AFTER_S = 10.0
"""Most trials wait, or work again, within so much time after their flag has changed."""
MAX_PERIOD_S, MIN_PERIOD_S = 5.0, 0.1
PERIODS_PER_ALLOWANCE = 10.0
"""A hang is noticed at most a tenth late."""

MAX_DEATHS = 256
WRITE_WITHIN_S = 5.0
LOG = logging.getLogger("hang-watch")

_Kept = TypeVar("_Kept")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_text(text)


@dataclass(frozen=True)
class ProcessCalls:
    """The calls by which the watch acts on processes; tests replace them."""

    started_at: Callable[[int], str | None] = started_at
    stacks_of: Callable[[Path, int], str | None] = stacks_of
    end: Callable[[int, str], bool] = end_process
    write: Callable[[Path, str], None] = _write
    kill_counter: Callable[[int], Path | None] = kill_counter
    kill_count: Callable[[Path], int | None] = kill_count


class HangWatch:
    """`note(kind, facts)` sends a note to the daemon. `how_died` may be called from any thread."""

    def __init__(
        self,
        folder: Path,
        policy: Policy,
        note: Callable[[str, dict[str, Any]], None],
        clock: Clock | None = None,
        calls: ProcessCalls | None = None,
    ) -> None:
        self._folder, self._policy, self._note = folder, policy, note
        self._clock, self._calls = clock or Clock(), calls or ProcessCalls()
        now = self._clock.mono_s()
        self._attention = Attention(now, now)
        self._unkillable: set[tuple[int, str | None]] = set()
        self._lock = threading.Lock()
        self._deaths: dict[Attempt, Death] = {}
        self._buried: dict[Attempt, tuple[int, Path | None]] = {}
        self._kills = MemoryKills()
        self._counters: dict[Worker, Path | None] = {}
        # A worker that died before the first look was likely in the same control group as this process.
        self._own_counter = self._calls.kill_counter(os.getpid())
        self._count(self._own_counter)

    @property
    def period_s(self) -> float:
        shortest_s = min(self._policy.hung_min_s, self._policy.hung_first_s)
        return min(MAX_PERIOD_S, max(MIN_PERIOD_S, shortest_s / PERIODS_PER_ALLOWANCE))

    def look(self) -> None:
        """Look at all workers once. Ending one that hangs takes up to 20 s."""
        now = self._clock.mono_s()
        self._attention = self._attention.looking(now, self.period_s)
        workers = list(heartbeats(self._folder))
        with self._lock:
            self._counters = {worker: self._counter_of(worker) for _, worker, _ in workers}
            for counter in {*self._counters.values(), self._own_counter}:
                self._count(counter)
        for path, worker, progress in workers:
            if self._is_dead(worker):
                with self._lock:
                    self._bury(path, worker)
            elif hang := hang_of(progress, self._policy, now, self._attention.watched_from_mono_s):
                self._end(path, worker, progress, hang)
        self._sweep({worker.pid for _, worker, _ in workers})
        # The time of a slow end is no gap: the watch was not stopped.
        self._attention = replace(self._attention, looked_mono_s=self._clock.mono_s())

    def how_died(self, experiment: str, number: int, attempt: int) -> Death | None:
        """Return the death of an attempt's worker, once; None if it lives or is not of this node.

        Once: the number of an attempt that died before its start was reported may be used again.
        """
        key = (experiment, number, attempt)
        with self._lock:
            for path, worker, _ in heartbeats(self._folder):
                if worker.key == key and self._is_dead(worker):
                    self._bury(path, worker)
            dead = self._buried.pop(key, None)
            death = self._deaths.pop(key, None)
            if death is None and dead is not None:
                death = self._death_of(*dead)
            return death

    def _is_dead(self, worker: Worker) -> bool:
        return self._calls.started_at(worker.pid) != worker.started

    def _death_of(self, pid: int, counter: Path | None) -> Death:
        """Return a worker's death. The kernel counts before it kills, so a kill of a dead worker was counted."""
        claimed = False
        if counter is not None:
            self._count(counter)
            self._kills, claimed = self._kills.claimed(counter)
        if claimed:
            return Death(OOM_KILLED, "the kernel killed its worker process: memory had run out", pid=pid)
        return Death(pid=pid)

    def _counter_of(self, worker: Worker) -> Path | None:
        return self._counters.get(worker) if self._is_dead(worker) else self._calls.kill_counter(worker.pid)

    def _count(self, counter: Path | None) -> None:
        count = None if counter is None else self._calls.kill_count(counter)
        if counter is not None and count is not None:
            self._kills = self._kills.seen({counter: count}, self._clock.mono_s())

    def _bury(self, path: Path, worker: Worker) -> None:
        """Keep a dead worker's counter and delete its files; called with the lock held.

        The cause is found later, if it is asked for: a worker without a trial simply ends.
        """
        _keep(self._buried, worker.key, (worker.pid, self._counters.get(worker, self._own_counter)))
        self._unkillable.discard((worker.pid, worker.started))
        path.unlink(missing_ok=True)
        stacks_file(self._folder, worker.pid).unlink(missing_ok=True)

    def _sweep(self, noted: set[int]) -> None:
        """Delete the stacks of workers that ended without a trial: they have no heartbeat to be deleted with."""
        for file in self._folder.glob(f"[1-9]*{STACKS_SUFFIX}"):
            pid = int(file.stem) if file.stem.isdecimal() else None
            if pid is not None and pid not in noted and self._calls.started_at(pid) is None:
                file.unlink(missing_ok=True)

    def _end(self, path: Path, worker: Worker, progress: Progress, hang: Hang) -> None:
        if worker.started is None or (worker.pid, worker.started) in self._unkillable:
            return
        stacks = self._stacks(worker)
        if not self._is_silent_still(path, worker, progress):
            return
        dump = self._write_dump(worker, hang, stacks)
        # Again: the cause may have been a slow disk, which is fast again once it takes the dump.
        if not self._is_silent_still(path, worker, progress):
            return
        text = f"{sentence(hang)}; its stacks: {dump}" if dump else f"{sentence(hang)}; its stacks could not be read"
        death = Death(HUNG, text, "", worker.pid, hang.silent_s, hang.median_s, dump)
        with self._lock:
            # Before it is ended: Tune asks for the cause within milliseconds.
            _keep(self._deaths, worker.key, death)
        if not self._calls.end(worker.pid, worker.started):
            self._unkillable.add((worker.pid, worker.started))
            self._note("worker.stuck", {**asdict(worker), "why": text})

    def _is_silent_still(self, path: Path, worker: Worker, progress: Progress) -> bool:
        """Return False if the worker moved meanwhile, or died by itself."""
        try:
            again = read_heartbeat(path)
        except OSError:
            return False
        same = again is not None and again[0] == worker and again[1].since_mono_s == progress.since_mono_s
        return same and not self._is_dead(worker)

    def _stacks(self, worker: Worker) -> str | None:
        try:
            return self._calls.stacks_of(self._folder, worker.pid)
        except OSError as error:
            LOG.warning("no stacks of worker %s: %s", worker.pid, error)
            return None

    def _write_dump(self, worker: Worker, hang: Hang, stacks: str | None) -> str | None:
        if stacks is None:
            return None
        path = Path(worker.folder) / f"hung-attempt-{worker.attempt}.txt"
        head = f"{worker.experiment} trial {worker.number}, attempt {worker.attempt}, process {worker.pid}: "
        written = threading.Event()

        def write() -> None:
            try:
                self._calls.write(path, f"{head}{sentence(hang)}\n\n{stacks}")
            except OSError as error:
                LOG.warning("the stacks of worker %s cannot be kept: %s", worker.pid, error)
            else:
                written.set()

        # In a thread: a full or lost disk, perhaps the cause of the hang, must not delay the worker's end.
        writer = threading.Thread(target=write, name="stacks", daemon=True)
        writer.start()
        writer.join(WRITE_WITHIN_S)
        return str(path) if written.is_set() else None


def sentence(hang: Hang) -> str:
    """Return the hang as a sentence."""
    median = "before its first batch or step" if hang.median_s is None else f"median {hang.median_s:.3g} s"
    return f"silent for {hang.silent_s:.0f} s where {hang.allowed_s:.0f} s are allowed ({median})"


def _keep(kept: dict[Attempt, _Kept], key: Attempt, value: _Kept) -> None:
    kept[key] = value
    while len(kept) > MAX_DEATHS:
        del kept[next(iter(kept))]


def waiting(
    before: Mapping[Attempt, float], found: Iterable[tuple[Worker, Progress]], closed: Callable[[str, int], bool]
) -> dict[Attempt, float]:
    """Return the attempts that wait at a closed gate, each with the time since when.

    `closed` says whether the flag of its experiment forbids a trial's work. An attempt that waited `before` does so
    until its heartbeat moves, even if the flag is open by then. A THROTTLE rest alone does not count.
    """
    return {
        worker.key: progress.since_mono_s
        for worker, progress in found
        if progress.phase is Phase.WAITING
        and (closed(worker.experiment, worker.number) or before.get(worker.key) == progress.since_mono_s)
    }


def wait_period_s(*, closed: bool, quiet_s: float) -> float:
    """Return the seconds to the next look at the trials that wait; a change of the flag comes before it.

    `closed` says that the flag forbids the work of a trial, or that one still waits; `quiet_s` is the time since the
    flag, or the attempts that wait, have changed.
    """
    if not closed:
        return OPEN_WAIT_PERIOD_S
    return WAIT_PERIOD_S if quiet_s < QUIET_AFTER_S else QUIET_WAIT_PERIOD_S


class WaitWatch:
    """Keeps the attempts that wait at a closed gate: only then has a pause taken effect.

    `look` is for one thread, `attempts` for any.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: dict[Attempt, float] = {}

    @property
    def attempts(self) -> list[Attempt]:
        return list(self._waiting)

    def look(self, closed: Callable[[str, int], bool]) -> bool:
        """Read the heartbeats; return whether other attempts wait than before."""
        before = self._waiting
        found = ((worker, progress) for _, worker, progress in heartbeats(self._folder))
        self._waiting = waiting(before, found, closed)
        return self._waiting.keys() != before.keys()
