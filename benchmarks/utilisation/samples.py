"""Sample each second how many cores are busy: with a run's processes, and on the whole machine."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable

import psutil

from benchmarks.utilisation.stages import Sample

EVERY_S = 1.0
END_WITHIN_S = 10.0

Key = tuple[int, float]
"""A process: its pid and the time of its start."""


def used_since(before: dict[Key, float], now: dict[Key, float]) -> float:
    """Return the CPU seconds that processes used between two looks; a new process used all that it has.

    What a process used between the last look and its end is not known, and is left out.
    """
    return sum(max(0.0, seconds - before.get(key, 0.0)) for key, seconds in now.items())


def cpu_seconds(roots: Iterable[int]) -> dict[Key, float]:
    """Return the CPU seconds of the descendants of `roots`, and of the roots other than this process."""
    found: dict[Key, float] = {}
    for root in roots:
        try:
            process = psutil.Process(root)
            family = [process, *process.children(recursive=True)]
        except psutil.Error:
            continue
        for one in family:
            try:
                times = one.cpu_times()
                found[one.pid, one.create_time()] = times.user + times.system
            except psutil.Error:
                # It has ended, or is a zombie.
                continue
    own = psutil.Process()
    found.pop((own.pid, own.create_time()), None)
    return found


class Sampler:
    """Samples in a thread, as a context: this process's children, and the daemon's once `daemon` knows its pid."""

    def __init__(self, daemon: Callable[[], int | None]) -> None:
        self.samples: list[Sample] = []
        self._daemon, self._stop = daemon, threading.Event()
        self._thread = threading.Thread(target=self._sample, name="samples", daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(END_WITHIN_S)

    def _sample(self) -> None:
        pid: int | None = None
        psutil.cpu_percent()
        last_s, last = time.time(), cpu_seconds([os.getpid()])
        cores = psutil.cpu_count() or 1
        while not self._stop.wait(EVERY_S):
            pid = self._daemon() if pid is None else pid
            now = cpu_seconds([os.getpid()] if pid is None else [os.getpid(), pid])
            now_s, machine = time.time(), psutil.cpu_percent() / 100.0 * cores
            if now_s > last_s:
                self.samples.append(Sample(last_s, now_s, used_since(last, now) / (now_s - last_s), machine))
            last_s, last = now_s, now
