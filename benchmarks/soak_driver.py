"""The driver of the soak (benchmarks/soak.py): tells the story of one experiment, and measures its daemon on the way.

Two simulated hours in ticks of TICK_S: each beat of the driver's heart lets the daemon's clock go on by one. Trials in
fours, some lost and begun again, heat that comes and goes, readings, a drill and an operator's pause an hour.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from supervisor.audit import rotation
from supervisor.control import client
from supervisor.domain import messages as link
from supervisor.domain.command import Action, Command, Origin
from supervisor.home import Home
from supervisor.sensors.reading import Kind, Reading
from supervisor.store.database import read_only

TICK_S = 2.0
MEASURE_EVERY_S = 1800.0
ASKS = 20
NODE = "f" * 56
AT_ONCE = 4
SENSORS = 20
TOLD_BY_ENVIRONMENT = "SWEEP_SOAK"


@dataclass(frozen=True)
class Tale:
    """What the driver's environment tells it, as JSON. The whole day's `hours` are shared out among `experiments`."""

    home: str
    table: str
    """The CSV file that each measurement goes into."""
    hours: float
    experiments: int
    trials: int
    epochs: int

    @property
    def ticks(self) -> int:
        """Of one experiment."""
        return round(self.hours * 3600.0 / TICK_S / self.experiments)


@dataclass(frozen=True)
class Look:
    """One measurement. Sizes in bytes, times in seconds; the commit's is from a message to its acknowledgement."""

    hour: float
    events: int
    rss_bytes: int
    descriptors: int
    threads: int
    store_bytes: int
    wal_bytes: int
    log_bytes: int
    log_parts_bytes: int
    readings: int
    status_p50_s: float
    status_p99_s: float
    full_status_s: float | None
    """With every trial: it is as long as the run, so it is asked for once, at the end."""
    commit_p50_s: float
    commit_p99_s: float


FIELDS = [field.name for field in dataclasses.fields(Look)]


class Teller:
    """The driver's end of the link: what is told is acknowledged before the next."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._inbox, self._outbox = os.fdopen(read_fd, "rb"), os.fdopen(write_fd, "wb", 0)
        self._count = 0
        self.waits_s: list[float] = []

    def hear(self) -> link.Message:
        line = self._inbox.readline()
        if not line:
            raise SystemExit(70)
        return link.decode(line)[0]

    def say(self, message: link.Message) -> None:
        self._outbox.write(link.encode(message))

    def tell(self, message: link.Message) -> None:
        self._count += 1
        begun = time.perf_counter()
        self._outbox.write(link.encode(message, self._count))
        while self.hear() != link.Ack(self._count):
            pass
        self.waits_s.append(time.perf_counter() - begun)


def story(trials: int, epochs: int, folder: str) -> Iterator[link.Message]:
    """What happens in one experiment. Four trials at once; every tenth loses its worker halfway."""
    for first in range(0, trials, AT_ONCE):
        wave = range(first, min(first + AT_ONCE, trials))
        for number in wave:
            yield link.TrialAdded(number, {"lr": 0.001 * (number + 1), "layers": 4, "seed": number}, "sampled")
            yield link.TrialStarted(number, 1, f"ray{number:08x}", NODE, 4000 + number, None)
        for step in range(1, epochs + 1):
            for number in wave:
                if number % 10 == 0 and step == epochs // 2:
                    yield link.AttemptLost(number, 1, "worker_died", "SIGKILL")
                    yield link.TrialStarted(number, 2, f"ray{number:08x}", NODE, 4000 + number, step - 1)
                yield _epoch(number, step, 2 if number % 10 == 0 and step >= epochs // 2 else 1, folder)
            if step % 20 == 0:
                attempt = 2 if wave[0] % 10 == 0 and step >= epochs // 2 else 1
                yield link.TrialHeld(wave[0], attempt, "PAUSED", "heat: cpu")
                yield link.TrialHeld(wave[0], attempt, "RUNNING", "heat: cpu")
        for number in wave:
            attempt, reason = 2 if number % 10 == 0 else 1, "pruned" if number % 3 else "finished"
            yield link.TrialEnded(number, attempt, reason, 0.7 - 0.001 * number, None, {"param_count": 2_000_000})


def _epoch(number: int, step: int, attempt: int, folder: str) -> link.ResultReported:
    value = 0.7 + 0.1 / (step + number % 7)
    metrics = {
        "val_loss": value, "train_loss": value - 0.01, "lr": 0.001 / step, "time_this_iter_s": 3.25, "grad_norm": 1.5,
        "samples_per_s": 812.5, "epoch": step, "micro_batch": 64,
    }  # fmt: skip
    return link.ResultReported(number, attempt, step, value, metrics, f"{folder}/{number}/checkpoint-{step}.pt")


def readings(tick: int) -> list[dict[str, Any]]:
    return [
        Reading(
            f"host/sensor{place}", Kind.TEMPERATURE, "cpu", 50.0 + (tick + place) % 30, "celsius", tick * TICK_S,
            1.7e9 + tick * TICK_S, "fake",
        ).to_json()
        for place in range(SENSORS)
    ]  # fmt: skip


def weather(tick: int) -> Iterator[link.Message]:
    """What the node's watchdog has to say."""
    if tick % 150 in (0, 75):
        action = Action.HOLD if tick % 150 == 0 else Action.RUN
        yield link.ActionChanged(NODE, Command(action, Origin.GOVERNOR, f"cpu at {80 + tick % 9} C").to_json())
    if tick % 900 in (300, 400):
        kind = "sensor.lost" if tick % 900 == 300 else "sensor.recovered"
        yield link.SensorNoted(NODE, kind, {"sensor": "host/sensor3"})


def operate(home: Home, tick: int) -> None:
    """A person, once an hour: a pause, its end, a drill."""
    match tick % 1800:
        case 600:
            client.ask(home, "pause", {"now": True, "reason": "a call"})
        case 630:
            client.ask(home, "resume", {})
        case 1200:
            client.ask(home, "drill", {"name": "heat", "duration_s": 3.0})


def look(home: Home, pid: int, hour: float, waits_s: list[float], *, last: bool) -> Look:
    """The daemon as it is now. It has nothing to do meanwhile: all that was told is acknowledged."""
    process = psutil.Process(pid)
    asks = sorted(_timed(home, "") for _ in range(ASKS))
    commits = sorted(waits_s) or [0.0]
    parts = rotation.all_parts(home.audit_log("soak"))
    with read_only(home.store) as connection:
        events, kept = (connection.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("event", "reading"))
    with process.oneshot():
        return Look(
            hour=round(hour, 3), events=events, rss_bytes=process.memory_info().rss, descriptors=process.num_fds(),
            threads=process.num_threads(), store_bytes=home.store.stat().st_size,
            wal_bytes=home.store.with_name(home.store.name + "-wal").stat().st_size,
            log_bytes=home.audit_log("soak").stat().st_size, log_parts_bytes=sum(p.stat().st_size for p in parts),
            readings=kept, status_p50_s=statistics.median(asks), status_p99_s=asks[-1],
            full_status_s=_timed(home, "?trials=1") if last else None, commit_p50_s=statistics.median(commits),
            commit_p99_s=commits[int(0.99 * (len(commits) - 1))],
        )  # fmt: skip


def _timed(home: Home, query: str) -> float:
    begun = time.perf_counter()
    client.ask(home, "status", query=query, deadline_s=60.0)
    return time.perf_counter() - begun


def live(tale: Tale, teller: Teller) -> None:
    home, pid = Home(Path(tale.home)), os.getppid()
    teller.say(link.Hello(os.getpid(), {}))
    begin = teller.hear()
    assert isinstance(begin, link.Begin)
    place = int(begin.experiment["name"].removeprefix("x"))
    messages = list(story(tale.trials, tale.epochs, begin.folder))
    teller.tell(link.WatchdogUp(NODE, os.getpid(), True, {}))
    for tick in range(tale.ticks):
        teller.say(link.Heartbeat(AT_ONCE))
        teller.say(link.Sampled(NODE, readings(tick), True))
        for message in [
            *weather(tick),
            *messages[len(messages) * tick // tale.ticks : len(messages) * (tick + 1) // tale.ticks],
        ]:
            teller.tell(message)
        operate(home, tick)
        passed_s = (place * tale.ticks + tick + 1) * TICK_S
        if passed_s % MEASURE_EVERY_S == 0:
            last = place == tale.experiments - 1 and tick == tale.ticks - 1
            write(Path(tale.table), look(home, pid, passed_s / 3600.0, teller.waits_s, last=last))
            teller.waits_s.clear()
    teller.tell(link.ExperimentEnded(None))


def write(table: Path, row: Look) -> None:
    fresh = not table.exists()
    with table.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        if fresh:
            writer.writeheader()
        writer.writerow(dataclasses.asdict(row))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--read-fd", type=int, required=True)
    parser.add_argument("--write-fd", type=int, required=True)
    arguments = parser.parse_args()
    live(Tale(**json.loads(os.environ[TOLD_BY_ENVIRONMENT])), Teller(arguments.read_fd, arguments.write_fd))
