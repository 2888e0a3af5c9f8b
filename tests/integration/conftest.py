"""A Ray head and a stand-in for the daemon: what the tests of actors/ need besides actors/ itself."""

from __future__ import annotations

import os
import queue
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from supervisor.domain.lifecycle import SUCCEEDED, EndReason
from supervisor.domain.messages import (
    UNACKNOWLEDGED,
    Ack,
    AttemptLost,
    Begin,
    Commanded,
    DrillAsked,
    ExperimentEnded,
    Finish,
    Hello,
    Message,
    ResultReported,
    TrialAdded,
    TrialEnded,
    TrialStarted,
    decode,
    encode,
)

ROOT = Path(__file__).resolve().parents[2]
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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(folder: Path) -> dict[str, str]:
    """What the daemon gives to Ray's head and to drivers."""
    token = folder / "token"
    if not token.exists():
        token.write_text(secrets.token_hex(16))
        token.chmod(0o600)
    return {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_memory_monitor_refresh_ms": "0",
        "RAY_worker_oom_score_adjustment": "0",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)]),
    }


@dataclass(frozen=True)
class RayHead:
    address: str
    environment: dict[str, str]
    folder: Path
    metrics_port: int


@pytest.fixture(scope="module")
def ray_head():
    """`ray start --head --block` as a child in its own session, in a short folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="swr", dir="/tmp"))
    port, metrics_port = free_port(), free_port()
    env = environment(folder)
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}",
        "--node-ip-address=127.0.0.1", "--include-dashboard=false", f"--metrics-export-port={metrics_port}",
        "--num-cpus=2", "--object-store-memory=100000000", f"--temp-dir={folder}", "--disable-usage-stats",
    ]  # fmt: skip
    with (folder / "head.log").open("wb") as log:
        head = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 60
        while b"Ray runtime started" not in (folder / "head.log").read_bytes():
            assert head.poll() is None, (folder / "head.log").read_text()
            assert time.monotonic() < deadline, "Ray's head did not start within 60 s"
            time.sleep(0.1)
        yield RayHead(f"127.0.0.1:{port}", env, folder, metrics_port)
    finally:
        os.killpg(head.pid, signal.SIGTERM)
        try:
            head.wait(3)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)
            head.wait()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Row:
    """A trial as the daemon's store has it."""

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

    def truth(self) -> dict[str, Any]:
        row = asdict(self)
        for key in ("source", "error", "record"):
            del row[key]
        return row


class Store:
    """The daemon's rules, in memory: numbers follow on, attempts fence, an end is final."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}

    def take(self, message: Message) -> None:
        if isinstance(message, TrialAdded):
            assert message.number == len(self.rows), f"trial {message.number} was added out of turn"
            self.rows[message.number] = Row(message.number, message.params, message.source)
        elif isinstance(message, TrialStarted):
            row = self.rows[message.number]
            assert row.end_reason is None, f"trial {message.number} was started again after its end"
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
            row = self.rows[message.number]
            assert row.end_reason is None, f"trial {message.number} ended twice"
            good = EndReason(message.end_reason) in SUCCEEDED
            row.state = "TERMINATED" if good else "ERROR"
            row.end_reason, row.value, row.error = message.end_reason, message.value, message.error
            row.record = message.record


class FakeDaemon:
    """The daemon's end of one driver: spawns it, commits what it says to a Store, acknowledges."""

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
        watchdog = {"gate": str(head.folder / "gate"), "policy": FAST_POLICY, "script": None, "drill": None}
        self._begin = Begin(
            run_id="run",
            experiment=spec,
            trials=[row.truth() for row in store.rows.values()],
            commands=begin.pop("commands", []),
            ray_address=head.address,
            folder=str(folder / "experiment"),
            watchdog={**watchdog, **begin.pop("watchdog", {})},
        )
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with os.fdopen(self._read_fd, "rb") as stream:
            for line in stream:
                message, number = decode(line)
                if isinstance(message, Hello):
                    self.send(self._begin)
                self.store.take(message)
                self.seen.append(message)
                if number is not None:
                    assert not isinstance(message, UNACKNOWLEDGED)
                    self.send(Ack(number))
                self._arrived.put(message)
        self._arrived.put(None)

    def send(self, message: Message) -> None:
        try:
            os.write(self._write_fd, encode(message))
        except BrokenPipeError:
            # The driver is gone; the reader sees that too.
            return

    def command(self, *commands: dict[str, Any]) -> None:
        self.send(Commanded(list(commands)))

    def drill(self, name: str, duration_s: float, node: str | None = None) -> None:
        self.send(DrillAsked(name, duration_s, node))

    def finish(self) -> None:
        self.send(Finish("the test says so"))

    def hang_up(self) -> None:
        os.close(self._write_fd)

    def wait_for(self, kind: type, when=lambda message: True, timeout_s: float = 60.0) -> Any:
        """The next message of a kind that has not been waited past yet."""
        deadline = time.monotonic() + timeout_s
        while True:
            message = self._arrived.get(timeout=max(0.01, deadline - time.monotonic()))
            assert message is not None, f"the driver ended before {kind.__name__}:\n{self.log.read_text()}"
            if isinstance(message, kind) and when(message):
                return message

    def end(self, timeout_s: float = 120.0) -> int:
        """Wait for the driver's own end; its exit status."""
        status = self.process.wait(timeout_s)
        self._thread.join(10)
        return status

    def kill(self) -> None:
        self.process.kill()
        self.end(10)

    def error(self) -> str | None:
        return next(message.error for message in self.seen if isinstance(message, ExperimentEnded))

    def all(self, kind: type) -> list[Any]:
        return [message for message in self.seen if isinstance(message, kind)]


@pytest.fixture
def drive(ray_head, tmp_path):
    """Starts a driver on the module's head: drive(spec, store=..., commands=..., watchdog=...)."""
    started = []

    def start(spec: dict[str, Any], store: Store | None = None, **begin: Any) -> FakeDaemon:
        started.append(FakeDaemon(ray_head, tmp_path, spec, store or Store(), **begin))
        return started[-1]

    yield start
    for daemon in started:
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()


@pytest.fixture
def spec():
    """An experiment's spec with a user trainable; keywords replace its keys."""

    def make(**changes: Any) -> dict[str, Any]:
        return {
            "name": "one",
            "cell": {},
            "trainable": "actors_trainables:quadratic",
            "config": {},
            "space": {"x": {"type": "float", "low": -1.0, "high": 1.0, "log": False}},
            "metric": "loss",
            "mode": "min",
            "max_trials": 6,
            "max_epochs": None,
            "max_hours": None,
            "concurrency": 1,
            "resources": {"cpu": 1.0, "gpu": 0.0},
            "sampler": {"kind": "tpe", "startup_trials": 2},
            "enqueue": [],
            "pruner": {"kind": "none"},
            "seed": 7,
            "max_failures": 3,
            **changes,
        }

    return make
