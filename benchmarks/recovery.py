"""Measure how long a search stands still after a kill of worker, driver, raylet, gcs_server or daemon.

    python -m benchmarks.recovery [--rounds 3]

A real search (two trials at a time, epochs of 0.6 s, a checkpoint each) in a home of its own; each process in turn gets
SIGKILL while a trial with a checkpoint runs. The figures are the seconds from the kill to its event in the log, to the
next `trial.started`, and to the first committed epoch of that attempt, by the events' own times. A killed daemon is
started again at once, like by a service manager; the duration of `supervisord start` is included.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from benchmarks.chaos.site import Site
from benchmarks.machine import machine

ROLES = ("worker", "driver", "raylet", "gcs", "daemon")
TRIALS = 400
"""More than fit into the benchmark's time."""
WITHIN_S = 180.0
SEEN = {
    "worker": "trial.requeued",
    "driver": "driver.exited",
    "raylet": "ray.exited",
    "gcs": "ray.exited",
    "daemon": "daemon.recovered",
}
"""The event by which each death is logged."""


@dataclass(frozen=True)
class Recovery:
    """The seconds from a kill to its event, to the next attempt, and to that attempt's first epoch."""

    role: str
    seen_s: float
    started_s: float
    reported_s: float


def at(event: dict[str, Any]) -> float:
    """Return an event's wall time, in seconds since the epoch."""
    return datetime.fromisoformat(event["ts"]).timestamp()


def following(site: Site) -> Iterator[list[dict[str, Any]]]:
    """Yield all events so far, every tenth of a second. Raises TimeoutError after WITHIN_S."""
    end = time.monotonic() + WITHIN_S
    while time.monotonic() < end:
        site.log.read()
        yield site.log.events
        time.sleep(0.1)
    raise TimeoutError(f"the expected events did not come within {WITHIN_S:g} s")


def until_at_work(site: Site) -> None:
    """Wait until two attempts are live and one of them has reported since it began."""
    for events in following(site):
        live = site.log.live_workers()
        reported = {(e["experiment"], e["trial"], e["attempt"]) for e in events if e["event"] == "trial.reported"}
        starts = {(e["experiment"], e["trial"]): e["attempt"] for e in events if e["event"] == "trial.started"}
        if len(live) == 2 and any((*key, starts[key]) in reported for key in live):
            return


def recover(site: Site, role: str) -> Recovery:
    until_at_work(site)
    victim = (site.workers() if role == "worker" else site.processes(role))[0]
    before, killed_s = len(site.log.events), time.time()
    victim.kill()
    if role == "daemon":
        begin(site)
    for events in following(site):
        after = events[before:]
        seen = [e for e in after if e["event"] == SEEN[role]]
        # A trial that happens to begin in the moment of the kill is not a recovery.
        starts = [e for e in after if e["event"] == "trial.started" and seen and e["seq"] > seen[0]["seq"]]
        if not starts:
            continue
        who = [starts[0][key] for key in ("experiment", "trial", "attempt")]
        epochs = [
            e
            for e in after
            if e["event"] in ("trial.reported", "trial.repeated")
            and [e[key] for key in ("experiment", "trial", "attempt")] == who
        ]
        if epochs:
            return Recovery(role, at(seen[0]) - killed_s, at(starts[0]) - killed_s, at(epochs[0]) - killed_s)
    raise AssertionError("following() ends by itself")


def begin(site: Site) -> None:
    done = site.command("supervisord", "start", str(site.plan))
    if done.returncode != 0:
        raise SystemExit(done.stderr)


def table(found: list[Recovery]) -> str:
    lines = [
        "killed    times   seen, s       next trial started, s   its epoch kept, s   (median, worst)",
        "------    -----   -----------   ---------------------   -----------------",
    ]
    for role in ROLES:
        of_role = [each for each in found if each.role == role]
        columns = [[each.seen_s for each in of_role], [each.started_s for each in of_role],
                   [each.reported_s for each in of_role]]  # fmt: skip
        texts = [f"{statistics.median(column):.1f}, {max(column):.1f}" for column in columns if column]
        if texts:
            lines.append(f"{role:<10}{len(of_role):<8}{texts[0]:<14}{texts[1]:<24}{texts[2]}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    found = []
    with Site(seed=1, trials=TRIALS, keep=False) as site:
        begin(site)
        for _ in range(rounds):
            for role in ROLES:
                found.append(recover(site, role))
                print(f"{role}: {found[-1].started_s:.1f} s", file=sys.stderr)
        site.command("supervisorctl", "stop")
    print(machine())
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
