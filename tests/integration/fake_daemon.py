"""Stand in for the daemon: start a driver, keep and acknowledge its messages."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from supervisor.domain.codec import UNACKNOWLEDGED, decode, encode
from supervisor.domain.lifecycle import SUCCEEDED, EndReason
from supervisor.domain.messages import (
    Ack,
    AttemptLost,
    Begin,
    Commanded,
    DrillAsked,
    ExperimentEnded,
    Finish,
    Hello,
    Message,
    Prepare,
    ResultReported,
    TrialAdded,
    TrialEnded,
    TrialStarted,
)
from tests.waits import NET_S

FAST_POLICY = {
    "period_s": 0.1,
    "fast_period_s": 0.1,
    "soft_dwell_s": 0,
    "pause_dwell_s": 0,
    "hold_min_s": 0,
    "ease_after_s": 0.1,
    "min_off_s": 0,
    "disk_hold_bytes": 2.0,
    "disk_pause_bytes": 1.0,
    "memory_shed_percent": 98.0,
    "memory_pause_percent": 99.0,
    "memory_critical_percent": 100.0,
}


@dataclass(frozen=True)
class RayHead:
    """A running Ray head: its `address`, and the `environment` of drivers that connect to it."""

    address: str
    environment: dict[str, str]
    folder: Path
    metrics_port: int


@dataclass
class Row:
    """A trial as the daemon's store holds it."""

    number: int
    params: dict[str, Any]
    source: str
    state: str = "PENDING"
    end_reason: str | None = None
    value: float | None = None
    attempt: int = 0
    results: list[list[Any]] = field(default_factory=list)
    checkpoint: str | None = None
    error: str | None = None
    record: dict[str, Any] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    memory: dict[str, Any] | None = None

    def for_driver(self) -> dict[str, Any]:
        """Return the trial as a new driver gets it."""
        row = asdict(self)
        for key in ("source", "error", "record"):
            del row[key]
        return row


class Store:
    """Keep trials in memory by the daemon's rules: numbers are contiguous, attempts fence, an end is final."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}

    def take(self, message: Message) -> None:
        if isinstance(message, TrialAdded):
            assert message.number == len(self.rows), f"expected trial {len(self.rows)}, found {message.number}"
            self.rows[message.number] = Row(message.number, message.params, message.source)
        elif isinstance(message, TrialStarted):
            row = self.rows[message.number]
            assert row.end_reason is None, f"trial {message.number} started again after its end"
            assert message.attempt == row.attempt + 1, (message, row)
            row.attempt, row.state = message.attempt, "RUNNING"
        elif isinstance(message, ResultReported):
            row = self.rows[message.number]
            assert message.attempt == row.attempt
            row.results = [kept for kept in row.results if kept[0] != message.step] + [[message.step, message.value]]
            row.checkpoint = message.checkpoint or row.checkpoint
        elif isinstance(message, AttemptLost):
            row = self.rows[message.number]
            assert (row.state, row.attempt) == ("RUNNING", message.attempt), f"no such attempt to lose: {message}"
            row.state = "PENDING"
            row.lost.append(message.cause)
            row.memory = message.memory or row.memory
        elif isinstance(message, TrialEnded):
            self._end(message)

    def _end(self, message: TrialEnded) -> None:
        row = self.rows[message.number]
        assert row.end_reason is None, f"trial {message.number} ended twice"
        good = EndReason(message.end_reason) in SUCCEEDED
        row.state = "TERMINATED" if good else "ERROR"
        row.end_reason, row.value, row.error = message.end_reason, message.value, message.error
        row.record = message.record

    def unfinished(self) -> list[Row]:
        return [row for row in self.rows.values() if row.end_reason is None]

    def driver_is_gone(self) -> Store:
        """Put the trials of a driver that ended back in the queue, as the daemon does."""
        for row in self.unfinished():
            row.state = "PENDING"
        return self


class FakeDaemon:
    """Play the daemon for one driver: start it, keep its messages in `store`, acknowledge them."""

    def __init__(self, head: RayHead, folder: Path, spec: dict[str, Any], store: Store, **begin: Any) -> None:
        self.store, self.seen, self.folder = store, [], folder
        self._arrived: queue.Queue[Message | None] = queue.Queue()
        to_driver, self._write_fd = os.pipe()
        self._read_fd, from_driver = os.pipe()
        self.log = folder / f"driver-{time.monotonic_ns()}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "actors.driver", f"--read-fd={to_driver}", f"--write-fd={from_driver}"],
                env=head.environment, pass_fds=(to_driver, from_driver), stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True, cwd="/",
            )  # fmt: skip
        os.close(to_driver)
        os.close(from_driver)
        # A gate of its own: the governor's state beside it knows sensors of this test only, and none as lost.
        self._workers: int | None = begin.pop("workers_ahead", None)
        """The driver waits for `begin`, and prepares so many workers; None: it begins at once."""
        watchdog = {"gate": str(folder / "gate"), "policy": FAST_POLICY, "script": None, "drill": None}
        self._begin = Begin(
            run_id="run",
            experiment=spec,
            trials=[row.for_driver() for row in store.rows.values()],
            commands=begin.pop("commands", []),
            ray_address=head.address,
            folder=str(folder / "experiment"),
            watchdog={**watchdog, **begin.pop("watchdog", {})},
        )
        self._broken: Exception | None = None
        self._thread = threading.Thread(target=self._serve_or_end, daemon=True)
        self._thread.start()

    def _serve_or_end(self) -> None:
        """Serve the driver; a broken rule of the store ends it, and `wait_for` and `end` raise it."""
        try:
            self._serve()
        except Exception as error:  # noqa: BLE001 - the test raises it again
            self._broken = error
            self.process.kill()
        self._arrived.put(None)

    def _serve(self) -> None:
        with os.fdopen(self._read_fd, "rb") as stream:
            for line in stream:
                message, number = decode(line)
                if isinstance(message, Hello):
                    self._say_hello()
                self.store.take(message)
                self.seen.append(message)
                if number is not None:
                    assert not isinstance(message, UNACKNOWLEDGED)
                    self.send(Ack(number))
                self._arrived.put(message)

    def _say_hello(self) -> None:
        if self._workers is None:
            self.begin()
        else:
            self.send(Prepare(self._begin.ray_address, self._begin.experiment, self._workers))

    def begin(self) -> None:
        self.send(self._begin)

    def send(self, message: Message) -> None:
        try:
            os.write(self._write_fd, encode(message))
        except BrokenPipeError:
            return  # the driver has ended; _serve sees that too

    def command(self, *commands: dict[str, Any]) -> None:
        self.send(Commanded(list(commands)))

    def drill(self, name: str, duration_s: float, node: str | None = None) -> None:
        self.send(DrillAsked(name, duration_s, node))

    def finish(self) -> None:
        self.send(Finish("the test says so"))

    def hang_up(self) -> None:
        os.close(self._write_fd)

    def wait_for(self, kind: type, when=lambda message: True, timeout_s: float = NET_S) -> Any:
        """Return the next message of `kind` after those that were waited for before."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                message = self._arrived.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"no {kind.__name__} within {timeout_s:g} s; the last: {self.seen[-5:]}")
            self._raise_if_broken()
            assert message is not None, f"the driver ended before {kind.__name__}:\n{self.log.read_text()}"
            if isinstance(message, kind) and when(message):
                return message

    def end(self, timeout_s: float = NET_S) -> int:
        """Wait until the driver ends by itself; return its exit status."""
        status = self.process.wait(timeout_s)
        self._thread.join(NET_S)
        self._raise_if_broken()
        return status

    def _raise_if_broken(self) -> None:
        if self._broken is not None:
            raise self._broken

    def kill(self) -> None:
        self.process.kill()
        self.end()

    def succeeds(self) -> None:
        """Wait until the driver ends, with exit status 0."""
        assert self.end() == 0, self.log.read_text()

    def error(self) -> str | None:
        return next(message.error for message in self.seen if isinstance(message, ExperimentEnded))

    def all(self, kind: type) -> list[Any]:
        return [message for message in self.seen if isinstance(message, kind)]
