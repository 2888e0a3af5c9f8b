"""Make five short real runs, and say of each what the ETA promised at 10, 30 and 60 % and what happened.

    python -m benchmarks.stages.eta_real [--only NAME] [--keep FOLDER]

Real commands, real Ray, a home of its own for each run (eta_plans.py): unequal budgets, pauses, pruning, a failed
trial, killed workers, a killed driver and a killed daemon. The trials sleep, so that the machine's other work decides
little. The log of each run is then replayed through the code of benchmarks/eta.py. A run takes one to four minutes and
at most MAX_RUN_S; everything that a run started is ended with it.
"""

from __future__ import annotations

import argparse
import math
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.chaos.site import Log, Site
from benchmarks.eta import SHARES, Asked, asked, ended_runs, homes_below
from benchmarks.machine import machine
from benchmarks.stages.eta_plans import DAEMON, DRIVER, PAUSE, STORIES, TRAINABLE, WORKER, Act, Story
from benchmarks.trials import sleeping
from supervisor.formatting import table
from supervisor.home import Home

MAX_RUN_S = 420.0
LOOK_S = 0.5
COLUMNS = ("run", "asked at", "promised", "80 % interval", "happened", "held", "factor")


class Place(Site):
    """The folder of one run, with its plan and its trainable, and the processes that it starts."""

    def __init__(self, story: Story) -> None:
        self.keep, self.no_disk_reason = False, "a run on the machine's own disk"
        self.folder = Path(tempfile.mkdtemp(prefix="swe", dir="/tmp"))
        self.home = Home((self.folder / "home").resolve())
        self.home.root.mkdir(mode=0o700)
        self.plan = self.folder / f"{story.name}.yaml"
        self.plan.write_text(story.plan_text())
        shutil.copy(str(sleeping.__file__), self.folder / f"{TRAINABLE}.py")
        self._agents = set()
        self.log = Log(self.home.audit_log(story.name))

    def __enter__(self) -> Place:
        return self

    def start(self) -> None:
        """Start the run, or its next daemon. Raises SystemExit when it does not start."""
        done = self.command("supervisord", "start", str(self.plan))
        if done.returncode != 0:
            raise SystemExit(f"{self.plan.stem} did not start: {done.stderr}")

    def wait(self, what: str, until_s: float, holds: Callable[[], bool]) -> None:
        """Read the log until `holds`. Raises TimeoutError at the moment `until_s`."""
        while not holds():
            if time.monotonic() > until_s:
                raise TimeoutError(f"{self.plan.stem}: expected within {MAX_RUN_S:g} s: {what}")
            time.sleep(LOOK_S)
            self.log.read()

    def count(self, *names: str) -> int:
        """Return how many events of these names the log has."""
        return sum(event["event"] in names for event in self.log.events)

    def over(self) -> bool:
        return self.count("run.finished", "run.failed") > 0

    def has_reported(self, epochs: int) -> bool:
        """Return whether the run has reported so many epochs, or is over."""
        return self.over() or self.count("trial.reported") >= epochs

    def act(self, act: Act) -> None:
        """Do to the run what its story says."""
        if act.what == PAUSE:
            self.command("supervisorctl", "pause", "--now", "--reason", "the story")
            time.sleep(act.lasts_s)
            self.command("supervisorctl", "resume")
            return
        roles = {WORKER: self.workers, DRIVER: lambda: self.processes("driver"), DAEMON: self.daemons}
        for process in roles[act.what]()[:1]:
            process.kill()
        if act.what == DAEMON:
            self.start()


def live(story: Story, keep: Path) -> None:
    """Play one run to its end, and copy its store to `keep`."""
    until_s = time.monotonic() + MAX_RUN_S
    with Place(story) as place:
        place.start()
        for act in story.acts:
            place.wait(f"{act.epochs} epochs", until_s, partial(place.has_reported, act.epochs))
            if not place.over():
                print(f"  {story.name}: {act.what} after {place.count('trial.reported')} epochs", flush=True)
                place.act(act)
        place.wait("the end of the run", until_s, lambda: place.over() and not place.daemons())
        shutil.copytree(place.home.store.parent, keep / story.name / "state", ignore=shutil.ignore_patterns("*.sock"))


def rows(name: str, answers: Sequence[Asked]) -> list[tuple[str, ...]]:
    """Return the table's rows of one run: one for each share, with a "?" where the ETA knew nothing."""
    by_share = {one.share: one for one in answers}
    found: list[tuple[str, ...]] = []
    for share in SHARES:
        one = by_share.get(share)
        if one is None:
            found.append((name, f"{share:.0%}", "?", "?", "?", "-", "-"))
            continue
        interval = f"{one.low_s:.0f} to {one.high_s:.0f} s"
        factor = math.exp(abs(math.log(one.ratio)))
        held = "yes" if one.held else "no"
        found.append((name, f"{share:.0%}", f"{one.median_s:.0f} s", interval, f"{one.true_s:.0f} s", held,
                      f"{factor:.2f}"))  # fmt: skip
    return found


def summary(answers: Sequence[Asked]) -> str:
    """Return how many of the answers held, and how many medians were near."""
    held, near = sum(one.held for one in answers), sum(one.near for one in answers)
    return f"of {len(answers)} answers {held} intervals held the end, {near} medians were within a factor of 1.5"


def judge(homes: Iterable[Home]) -> str:
    """Replay the runs of `homes`; return the table of their promises."""
    found: list[tuple[str, ...]] = [COLUMNS]
    answers: list[Asked] = []
    for home in homes:
        for name, events in ended_runs(home):
            said = asked(events)
            found += rows(name, said)
            answers += said
    return "\n".join([*table(found), "", summary(answers)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="only runs of this name")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the logs of the runs here")
    arguments = parser.parse_args()
    stories = [story for story in STORIES if not arguments.only or story.name in arguments.only]
    if not stories:
        parser.error(f"--only: expected one of {', '.join(story.name for story in STORIES)}")
    # So that SIGTERM cleans up, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(prefix="swe-logs-") as folder:
        keep = Path(folder) if arguments.keep is None else arguments.keep
        missed = [story.name for story in stories if not lived(story, keep)]
        print(f"\n{judge(homes_below(keep))}")
    return 1 if missed else 0


def lived(story: Story, keep: Path) -> bool:
    """Play one run; print its length, or why it did not end."""
    print(f"{story.name}: begins", flush=True)
    began_s = time.monotonic()
    try:
        live(story, keep)
    except OSError as error:  # a TimeoutError is one
        print(f"  {error}", flush=True)
        return False
    print(f"{story.name}: ended after {time.monotonic() - began_s:.0f} s", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
