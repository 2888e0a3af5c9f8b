"""Says what one supervised search of benchmarks/overhead is to do, for its daemon and its driver."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path

from benchmarks.overhead.timers import Between, Timers, between

VARIABLE = "SWEEP_OVERHEAD"
LEFT_OUT = 5
"""The first trials, which start the worker processes, do not count."""


@dataclass(frozen=True)
class Scenario:
    """The search, passed in the environment as JSON; `timed` says whether the pieces of a trial are timed, too."""

    home: str
    trainable: str
    trials: int
    concurrency: int
    timed: bool = False
    profile: str | None = None
    """The file for a profile of the driver's own thread; None for no profile, which costs time."""

    def to_environment(self) -> dict[str, str]:
        return {VARIABLE: json.dumps(dataclasses.asdict(self))}

    @staticmethod
    def from_environment() -> Scenario:
        return Scenario(**json.loads(os.environ[VARIABLE]))

    def write(self, process: str, found: Between) -> None:
        """Write what a process went through, for each trial."""
        self._file(process).write_text(json.dumps(dataclasses.asdict(found)))

    def write_marked(self, process: str, timers: Timers) -> None:
        """Write what a process went through between the trials that count, if it got so far."""
        marks = timers.marks
        if len(marks) > LEFT_OUT:
            self.write(process, between(marks[LEFT_OUT - 1], marks[-1], len(marks) - LEFT_OUT))

    def read(self, process: str) -> list[Between]:
        """Return what the processes of that name wrote: one driver, one daemon, any number of workers."""
        paths = sorted(Path(self.home).glob(f"overhead-{process}*.json"))
        return [Between(**json.loads(path.read_text())) for path in paths]

    def _file(self, process: str) -> Path:
        return Path(self.home) / f"overhead-{process}.json"
