"""Measure how true the ETA is: how often its interval holds the real end, and how near its median is.

    python -m benchmarks.eta [--runs 200] [--seed SEED] [HOME ...]

The events of a run are applied to a store one by one, as its daemon did, and the ETA is asked at 10, 30 and 60 % of
the way from the run's creation to its end. The runs are simulated ones (benchmarks/stages/eta_runs.py), and the ended
ones of each HOME that is named, or of each home below a folder that is named (benchmarks/stages/eta_real.py makes
such). The simulated runs are printed twice: those that the forecast was built on, and others that nobody looked at
before. The goal: the 80 % interval holds the end in 70 to 90 % of the runs, and the median is within a factor of 1.5
of the truth in 80 %.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.machine import machine
from benchmarks.stages.eta_runs import simulated
from supervisor.clock import Clock
from supervisor.domain.eta.forecast import with_eta
from supervisor.home import Home
from supervisor.preflight.machine import usable_cores
from supervisor.preflight.work_figures import work_figures
from supervisor.store import queries
from supervisor.store.database import Store, read_only
from supervisor.store.event import Event
from supervisor.store.replay import replay
from supervisor.store.status_cache import StatusView
from supervisor.store.steering.retry_writer import seconds_left

SHARES = (0.1, 0.3, 0.6)
WITHIN = 1.5
SEEDS = {"the forecast was built on": 0, "nobody had looked at": 1000}
"""The first seeds of the simulated runs, by what they are."""
AT_WORK = ("RUNNING", "PAUSED")


@dataclass(frozen=True)
class Asked:
    """Holds the ETA's answer at a share of the run, in seconds, and the truth."""

    share: float
    true_s: float
    median_s: float
    low_s: float
    high_s: float

    @property
    def held(self) -> bool:
        return self.low_s <= self.true_s <= self.high_s

    @property
    def ratio(self) -> float:
        return self.median_s / self.true_s

    @property
    def near(self) -> bool:
        return abs(math.log(self.ratio)) <= math.log(WITHIN)


def asked(events: Sequence[Event], shares: Sequence[float] = SHARES) -> list[Asked]:
    """Play the events into a store and ask for the ETA at each share of the time; a share without one is left out."""
    run = str(events[0].run)
    begin = events[0].wall_s
    end = max(event.wall_s for event in events if event.name in ("run.finished", "experiment.finished"))
    moments = [begin + share * (end - begin) for share in shares]
    store = Store(Path(":memory:"), Clock())
    view, found, left = StatusView(store.connection, run), [], list(events)
    for share, moment in zip(shares, moments, strict=True):
        while left and left[0].wall_s <= moment:
            replay(store.connection, left.pop(0))
        now = view.now()
        experiments = [
            {**one, "left_s": seconds_left(store, run, one["name"], one["spec"].get("max_hours"))}
            if one["state"] in AT_WORK else one
            for one in now["experiments"]
        ]  # fmt: skip
        eta = with_eta({**now, "experiments": experiments}, moment)["eta"]
        if eta is not None:
            found.append(Asked(share, end - moment, eta["median_s"], eta["low_s"], eta["high_s"]))
    store.connection.close()
    return found


def ended_runs(home: Home) -> Iterator[tuple[str, list[Event]]]:
    """Yield the ended runs of a home with their events; those of older versions get the figures of the dry run."""
    with read_only(home.store) as connection:
        names = [str(row["id"]) for row in connection.execute("SELECT id FROM run WHERE state = 'EXITED'")]
        runs = [(name, queries.events_of(connection, name)) for name in names]
    for name, events in runs:
        if not any(event.name == "run.estimated" for event in events):
            created = next(event for event in events if event.name == "run.created")
            figures = work_figures(home, created.fields["specs"], usable_cores())
            fields = {"count": len(figures), "basis": "", "experiments": figures}
            made = Event(0, created.wall_s, "run.estimated", name, None, None, None, fields)
            others = [event for event in events if event is not created]
            events = [replace(event, seq=seq) for seq, event in enumerate([created, made, *others], 1)]
        yield name, without_stops(events)


def without_stops(events: Sequence[Event]) -> list[Event]:
    """Return the events up to the run's first end, without the time in which no daemon was there to say an ETA."""
    kept, stopped, left_out_s = [], None, 0.0
    for event in events:
        if event.name == "daemon.started" and stopped is not None:
            left_out_s, stopped = left_out_s + event.wall_s - stopped, None
        kept.append(replace(event, wall_s=event.wall_s - left_out_s))
        if event.name == "daemon.stopped":
            stopped = event.wall_s
        if event.name == "run.finished":
            break
    return kept


def homes_below(folder: Path) -> list[Home]:
    """Return the homes in a folder, or the home that it is."""
    stores = [store for depth in ("", "*/", "*/*/") for store in sorted(folder.glob(f"{depth}state/sweep.db"))]
    return [Home(store.parent.parent) for store in stores]


def tell(found: Sequence[Asked]) -> None:
    """Print a line for each share."""
    print(f"{'asked at':>10}{'runs':>8}{'interval holds':>16}{'within ' + str(WITHIN):>14}{'median of ratios':>18}")
    for share in SHARES:
        at = [one for one in found if one.share == share]
        if at:
            held, near = (sum(values) / len(at) for values in ([one.held for one in at], [one.near for one in at]))
            ratio = sorted(one.ratio for one in at)[len(at) // 2]
            print(f"{share:>10.0%}{len(at):>8}{held:>16.0%}{near:>14.0%}{ratio:>18.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("homes", nargs="*", type=Path, metavar="HOME", help="homes, or a folder of homes")
    parser.add_argument("--runs", type=int, default=200, help="simulated runs")
    parser.add_argument("--seed", type=int, help="the first seed of other runs")
    arguments = parser.parse_args()
    print(machine())
    for home in (home for folder in arguments.homes for home in homes_below(folder)):
        for name, events in ended_runs(home):
            for one in asked(events):
                said = f"{one.median_s:.0f} s ({one.low_s:.0f} to {one.high_s:.0f})"
                print(f"{name} at {one.share:.0%}: {said}, true {one.true_s:.0f} s, {'held' if one.held else 'missed'}")
    for what, first in SEEDS.items() if arguments.seed is None else [("you chose", arguments.seed)]:
        found = [one for seed in range(first, first + arguments.runs) for one in asked(simulated(seed))]
        print(f"\n{arguments.runs} simulated runs from seed {first}, which {what}")
        tell(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
