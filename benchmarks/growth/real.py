"""Runs one experiment of so many trials by the real commands, and looks at driver, daemon and status meanwhile."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.chaos.site import Log, Site
from benchmarks.growth.figures import Grown, Sample, grown
from benchmarks.trials import at_once
from supervisor.audit.rotation import all_parts
from supervisor.control.client import ask
from supervisor.errors import SweepError
from supervisor.home import Home
from supervisor.store.database import read_only

PLAN, TRAINABLE = "growth", "growth_at_once"
LOOK_S = 2.0
START_WITHIN_S, TRIAL_WITHIN_S = 300.0, 2.0
"""A run of N trials is given up after START_WITHIN_S and N times TRIAL_WITHIN_S."""
PARAMS = 5


def plan_text(trials: int, sampler: str) -> str:
    """Return the plan as YAML, of which JSON is a part."""
    dimension = {"type": "float", "low": -1.0, "high": 1.0}
    return json.dumps({
        "name": PLAN, "description": "many trials that end at once", "trainable": f"{TRAINABLE}:AtOnce", "seed": 7,
        "metric": "loss", "mode": "min", "matrix": {"budget": [1]}, "max_trials": trials, "max_epochs": 1,
        "space": {f"x{place}": dimension for place in range(PARAMS)}, "concurrency": 1, "resources": {"cpu": 1},
        "sampler": {"kind": sampler}, "checkpoint_every_s": 0, "wake_lock": False,
    })  # fmt: skip


class Place(Site):
    """The folder of one run, with its plan and its trainable; its processes end with it."""

    def __init__(self, trials: int, sampler: str) -> None:
        self.keep, self.no_disk_reason = False, "a run on the machine's own disk"
        self.folder = Path(tempfile.mkdtemp(prefix="swg", dir="/tmp"))
        self.home = Home((self.folder / "home").resolve())
        self.home.root.mkdir(mode=0o700)
        self.plan = self.folder / f"{PLAN}.yaml"
        self.plan.write_text(plan_text(trials, sampler))
        shutil.copy(str(at_once.__file__), self.folder / f"{TRAINABLE}.py")
        self._agents: set[psutil.Process] = set()
        self.log = Log(self.home.audit_log(PLAN))

    def __enter__(self) -> Place:
        return self

    def look(self) -> Sample | None:
        """Return what driver, daemon and status show now; None while one of them is not there."""
        drivers, daemons = self.processes("driver"), self.daemons()
        if not drivers or not daemons:
            return None
        begun_s = time.perf_counter()
        with contextlib.suppress(SweepError, psutil.Error):
            shown = ask(self.home, "status", deadline_s=30.0)
            status_s = time.perf_counter() - begun_s
            ended = int(shown["experiments"][0]["ended"])
            # The next experiment's driver may wait already; the one at work is the larger.
            driver = max(process.memory_info().rss for process in drivers)
            return Sample(ended, driver, daemons[0].memory_info().rss, status_s)
        return None

    def ends(self) -> tuple[list[float], float | None]:
        """Return the wall times at which trials ended, in order, and that of the experiment's end, if it has ended."""
        with read_only(self.home.store) as connection:
            rows = connection.execute(
                "SELECT name, wall FROM event WHERE name IN"
                " ('trial.finished', 'trial.failed', 'experiment.finished', 'experiment.failed') ORDER BY seq"
            ).fetchall()
        over = [float(row["wall"]) for row in rows if row["name"].startswith("experiment")]
        return [float(row["wall"]) for row in rows if row["name"].startswith("trial")], over[0] if over else None

    def files(self) -> tuple[int, int]:
        """Return the bytes of the store, its write-ahead log included, and of all parts of the event log."""
        store = sum(path.stat().st_size for path in self.home.state.glob(f"{self.home.store.name}*"))
        return store, sum(part.stat().st_size for part in all_parts(self.home.audit_log(PLAN)))


def run(trials: int, sampler: str) -> Grown:
    """Return what a whole run shows. Raises TimeoutError past its bound, SystemExit when it does not start."""
    until_s = time.monotonic() + START_WITHIN_S + trials * TRIAL_WITHIN_S
    with Place(trials, sampler) as place:
        done = place.command("supervisord", "start", str(place.plan))
        if done.returncode != 0:
            raise SystemExit(f"the run of {trials} trials did not start: {done.stderr or done.stdout}")
        samples: list[Sample] = []
        over_s: float | None = None
        while over_s is None:
            if time.monotonic() > until_s:
                raise TimeoutError(f"{trials} trials did not end within their bound; {len(samples)} samples")
            if (sample := place.look()) is not None:
                samples.append(sample)
            time.sleep(min(LOOK_S, trials * 1e-3))
            ends_s, over_s = place.ends()
        return grown(trials, ends_s, over_s, samples, *place.files())
