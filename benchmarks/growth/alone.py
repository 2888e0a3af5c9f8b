"""Writes so many trials into a real store and log without Ray, and measures what reads and rebuilds them."""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.growth.figures import LEFT_OUT, MIB, tenths
from supervisor.audit import evidence, invariants
from supervisor.audit.log import AuditLog, open_audit_log
from supervisor.audit.rebuild import rebuild
from supervisor.audit.rotation import all_parts
from supervisor.clock import Clock
from supervisor.domain import messages
from supervisor.domain.codec import encode
from supervisor.domain.finalists import known_to_the_search
from supervisor.domain.lifecycle import ProcessState
from supervisor.domain.trials.begin_parts import in_parts
from supervisor.home import Home
from supervisor.store import queries
from supervisor.store.database import Store, read_only
from supervisor.store.run_writer import RunWriter, create_run
from supervisor.store.status_cache import StatusView
from supervisor.store.trial_writer import TrialWriter

RUN, PLAN, EXPERIMENT = "growth-1", "growth", "e"
PARAMS = 5
ASKS = 5
DRIVER_WITHIN_S = 1800.0

COLUMNS = (
    "trials", "ms a trial's messages", "store, MiB", "log, MiB", "status, first, ms", "status after a trial, ms",
    "audit, s", "rebuild, s", "begin, MiB", "begin, s", "driver: read, s", "study, s", "pruner, s", "a draw, ms",
    "driver, MiB more",
)  # fmt: skip


def spec(trials: int) -> dict[str, Any]:
    """Return the experiment: five params, ASHA and TPE."""
    dimension = {"type": "float", "low": -1.0, "high": 1.0, "log": False}
    return {
        "name": EXPERIMENT, "cell": {}, "trainable": "mine:objective", "config": {}, "mode": "min", "metric": "loss",
        "max_trials": 2 * trials, "max_epochs": 9, "max_hours": None, "concurrency": 2, "seed": 1, "enqueue": [],
        "resources": {"cpu": 1.0, "gpu": 0.0}, "finalize": None,
        "space": {f"x{place}": dimension for place in range(PARAMS)},
        "sampler": {"kind": "tpe", "startup_trials": 10},
        "pruner": {"kind": "asha", "max_t": 9, "grace_period": 1, "reduction_factor": 3},
    }  # fmt: skip


@dataclass
class Writing:
    """A store and a log that take the messages of trials as a daemon's do."""

    store: Store
    log: AuditLog
    chance: random.Random

    def trial(self, number: int) -> None:
        """Write one trial: added, started, one epoch, its end; each its own transaction and its own line."""
        trials = TrialWriter(self.store, RUN)
        params = {f"x{place}": self.chance.uniform(-1.0, 1.0) for place in range(PARAMS)}
        value = sum(x * x for x in params.values())
        told = (
            messages.TrialAdded(number, params, "sampled"),
            messages.TrialStarted(number, 1, f"{number:08x}", "node", 1000, None),
            messages.ResultReported(number, 1, 1, value, {"loss": value, "time_this_iter_s": 1.5}, None),
            messages.TrialEnded(number, 1, "finished", value, None, {}),
        )
        for message in told:
            if not trials.handle(EXPERIMENT, message):
                raise SystemExit(f"trial {number}: a {type(message).__name__} was refused")


def opened(home: Home, trials: int) -> Writing:
    home.prepare()
    store = Store(home.store, Clock())
    log, _ = open_audit_log(home.audit_log(PLAN), store)
    store.after_each_change(log.append_all)
    create_run(
        store, RUN, plan=PLAN, fingerprint="f", source="built-in", plan_text="", hardware={}, data={},
        specs=[spec(trials)],
    )  # fmt: skip
    writer = RunWriter(store, RUN)
    writer.move_run(ProcessState.STARTING)
    writer.move_experiment(EXPERIMENT, ProcessState.STARTING)
    writer.move_experiment(EXPERIMENT, ProcessState.RUNNING)
    return Writing(store, log, random.Random(1))


def seconds(act: Callable[[], object]) -> float:
    begun_s = time.perf_counter()
    act()
    return time.perf_counter() - begun_s


def status_s(writing: Writing, trials: int) -> tuple[float, float]:
    """Return the seconds of the first status of a daemon, and of one after a trial has run."""
    view = StatusView(writing.store.connection, RUN)
    first = seconds(view.now)
    later = []
    for number in range(trials, trials + ASKS):
        writing.trial(number)
        later.append(seconds(view.now))
    return first, statistics.median(later)


def begin_lines(writing: Writing, folder: Path) -> bytes:
    """Return the lines of the begin of the next driver."""
    own = spec(1)
    known = known_to_the_search(own, queries.for_begin(writing.store.connection, RUN, EXPERIMENT))
    begin = messages.Begin(RUN, own, known, [], "127.0.0.1:1", str(folder), {})
    return b"".join(map(encode, in_parts(begin)))


def driver_start(lines: Path, folder: Path) -> dict[str, float]:
    """Return what benchmarks.growth.driver_start measures. Raises CalledProcessError, TimeoutExpired."""
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.growth.driver_start", str(lines), str(folder)],
        capture_output=True, text=True, timeout=DRIVER_WITHIN_S, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def audit(home: Home) -> None:
    """Check the run. Raises SystemExit for a broken promise."""
    with read_only(home.store) as connection:
        verdicts = invariants.check(evidence.gather(home, connection, RUN))
    broken = [fault for verdict in verdicts for fault in verdict.faults]
    if broken:
        raise SystemExit(f"the audit finds broken: {'; '.join(broken[:3])}")


def row(folder: Path, trials: int) -> tuple[str, ...]:
    """Return the row of so many trials, in a home below `folder`."""
    home = Home(folder.resolve() / "home")
    home.root.mkdir(mode=0o700)
    writing = opened(home, trials)
    with closing(writing.store):
        ends_s = []
        for number in range(trials):
            writing.trial(number)
            ends_s.append(time.perf_counter())
        early, late = tenths(ends_s) if trials >= 20 + LEFT_OUT else (0.0, 0.0)
        first, later = status_s(writing, trials)
        lines = folder / "begin.jsonl"
        begin_s = seconds(lambda: lines.write_bytes(begin_lines(writing, folder)))
        writing.log.close()
    sizes = home.store.stat().st_size, sum(part.stat().st_size for part in all_parts(home.audit_log(PLAN)))
    audit_s = seconds(lambda: audit(home))
    rebuild_s = seconds(lambda: rebuild(home, Clock(), "a benchmark asks for it"))
    start = driver_start(lines, folder / "study")
    return (
        f"{trials:,}", f"{early * 1e3:.2f} → {late * 1e3:.2f}", f"{sizes[0] / MIB:.1f}", f"{sizes[1] / MIB:.1f}",
        f"{first * 1e3:.0f}", f"{later * 1e3:.1f}", f"{audit_s:.1f}", f"{rebuild_s:.1f}",
        f"{lines.stat().st_size / MIB:.1f}", f"{begin_s:.2f}", f"{start['read_s']:.2f}", f"{start['study_s']:.1f}",
        f"{start['pruner_s']:.1f}", f"{start['draw_s'] * 1e3:.0f}", f"{start['bytes'] / MIB:.0f}",
    )  # fmt: skip
