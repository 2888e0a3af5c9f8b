"""Play one experiment as the driver of benchmarks/soak.py, and measure the daemon meanwhile.

Two simulated hours in ticks of TICK_S: each heartbeat moves the daemon's clock by one tick. Four trials at a time, some
lost and started again, hardware commands, readings, and in each hour a drill and an operator's pause.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from supervisor.audit import rotation
from supervisor.control import client
from supervisor.domain import codec
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
SCENARIO_VARIABLE = "SWEEP_SOAK"


@dataclass(frozen=True)
class Scenario:
    """The scenario, passed to the driver in its environment as JSON; `experiments` share the day's `hours`."""

    home: str
    table: str
    """The CSV file of the measurements."""
    hours: float
    experiments: int
    trials: int
    epochs: int

    @property
    def ticks(self) -> int:
        """Return the number of ticks of one experiment."""
        return round(self.hours * 3600.0 / TICK_S / self.experiments)


@dataclass(frozen=True)
class Measurement:
    """One measurement: sizes in bytes, times in seconds; `commit` is from a message to its acknowledgement."""

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
    """With every trial: its answer is as long as the run, so it is asked for once, at the end."""
    commit_p50_s: float
    commit_p99_s: float


FIELDS = [field.name for field in dataclasses.fields(Measurement)]


class DaemonLink:
    """The driver's end of the pipes: each message is acknowledged before the next."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._inbox, self._outbox = os.fdopen(read_fd, "rb"), os.fdopen(write_fd, "wb", 0)
        self._count = 0
        self.waits_s: list[float] = []

    def receive(self) -> link.Message:
        line = self._inbox.readline()
        if not line:
            raise SystemExit(70)
        return codec.decode(line)[0]

    def send(self, message: link.Message) -> None:
        self._outbox.write(codec.encode(message))

    def send_acknowledged(self, message: link.Message) -> None:
        self._count += 1
        begun = time.perf_counter()
        self._outbox.write(codec.encode(message, self._count))
        while self.receive() != link.Ack(self._count):
            pass
        self.waits_s.append(time.perf_counter() - begun)


def scenario_messages(trials: int, epochs: int, folder: str) -> Iterator[link.Message]:
    """Yield the messages of one experiment: four trials at once, every tenth loses its worker halfway."""
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


def hardware_messages(tick: int) -> Iterator[link.Message]:
    """Yield the messages of the node's watchdog."""
    if tick % 150 in (0, 75):
        action = Action.HOLD if tick % 150 == 0 else Action.RUN
        yield link.ActionChanged(NODE, Command(action, Origin.GOVERNOR, f"cpu at {80 + tick % 9} C").to_json())
    if tick % 900 in (300, 400):
        kind = "sensor.lost" if tick % 900 == 300 else "sensor.recovered"
        yield link.SensorNoted(NODE, kind, {"sensor": "host/sensor3"})


def operate(home: Home, tick: int) -> None:
    """Act as an operator, once an hour: pause, resume, drill."""
    match tick % 1800:
        case 600:
            client.ask(home, "pause", {"now": True, "reason": "a call"})
        case 630:
            client.ask(home, "resume", {})
        case 1200:
            client.ask(home, "drill", {"name": "heat", "duration_s": 3.0})


def measure(home: Home, pid: int, hour: float, waits_s: list[float], *, last: bool) -> Measurement:
    """Measure the daemon now, while it is idle: each message has been acknowledged."""
    process = psutil.Process(pid)
    asks = sorted(_timed(home, "") for _ in range(ASKS))
    commits = sorted(waits_s) or [0.0]
    parts = rotation.all_parts(home.audit_log("soak"))
    with read_only(home.store) as connection:
        events, kept = (connection.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("event", "reading"))
    with process.oneshot():
        return Measurement(
            hour=round(hour, 3), events=events, rss_bytes=process.memory_info().rss,
            descriptors=own_descriptors(process),
            threads=process.num_threads(), store_bytes=home.store.stat().st_size,
            wal_bytes=home.store.with_name(home.store.name + "-wal").stat().st_size,
            log_bytes=home.audit_log("soak").stat().st_size, log_parts_bytes=sum(p.stat().st_size for p in parts),
            readings=kept, status_p50_s=statistics.median(asks), status_p99_s=asks[-1],
            full_status_s=_timed(home, "?trials=1") if last else None, commit_p50_s=statistics.median(commits),
            commit_p99_s=commits[int(0.99 * (len(commits) - 1))],
        )  # fmt: skip


def own_descriptors(process: psutil.Process) -> int:
    """Return how many descriptors a process has open, without its ends of the pipes to its living children.

    How many wait for their turn differs from moment to moment. A pipe whose child has gone counts.
    """
    if not sys.platform.startswith("linux"):
        return int(process.num_fds())
    shared = {link for child in process.children() for link in _open_in(child.pid)}
    return sum(not (link.startswith("pipe:") and link in shared) for link in _open_in(process.pid))


def _open_in(pid: int) -> list[str]:
    found = []
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            # It may be closed meanwhile, as the process may end.
            with contextlib.suppress(OSError):
                found.append(str(descriptor.readlink()))
    return found


def _timed(home: Home, query: str) -> float:
    begun = time.perf_counter()
    client.ask(home, "status", query=query, deadline_s=60.0)
    return time.perf_counter() - begun


def live(scenario: Scenario, daemon: DaemonLink) -> None:
    home, pid = Home(Path(scenario.home)), os.getppid()
    daemon.send(link.Hello())
    begin = daemon.receive()
    assert isinstance(begin, link.Begin)
    place = int(begin.experiment["name"].removeprefix("x"))
    messages = list(scenario_messages(scenario.trials, scenario.epochs, begin.folder))
    daemon.send_acknowledged(link.WatchdogUp(NODE, os.getpid(), True, {}))
    for tick in range(scenario.ticks):
        daemon.send(link.Heartbeat())
        daemon.send(link.Sampled(NODE, readings(tick), True))
        for message in [
            *hardware_messages(tick),
            *messages[len(messages) * tick // scenario.ticks : len(messages) * (tick + 1) // scenario.ticks],
        ]:
            daemon.send_acknowledged(message)
        operate(home, tick)
        passed_s = (place * scenario.ticks + tick + 1) * TICK_S
        if passed_s % MEASURE_EVERY_S == 0:
            last = place == scenario.experiments - 1 and tick == scenario.ticks - 1
            write(Path(scenario.table), measure(home, pid, passed_s / 3600.0, daemon.waits_s, last=last))
            daemon.waits_s.clear()
    daemon.send_acknowledged(link.ExperimentEnded(None))


def write(table: Path, row: Measurement) -> None:
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
    live(Scenario(**json.loads(os.environ[SCENARIO_VARIABLE])), DaemonLink(arguments.read_fd, arguments.write_fd))
