"""Start one Ray head for all tests of actors/, and give them drivers, specs and trainables."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from supervisor.processes.ray_head import MACHINE_BUSY
from tests import waits
from tests.integration.fake_daemon import FakeDaemon, RayHead, Store
from training.data.dataset_files import build_dataset
from training.data.imports import import_sample
from training.data.manifest import dataset_path

ROOT = Path(__file__).resolve().parents[2]
RAY_STARTS = 12
"""The most starts of Ray, each of which Ray itself gives up after about a minute; the daemon would wait in BACKOFF."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(folder: Path) -> dict[str, str]:
    """Return the environment that the daemon gives to Ray's head and to drivers."""
    token = folder / "token"
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
        "RAY_preload_python_modules": "actors.trial.preload",
        "RAY_prestart_worker_first_driver": "0",
        "SWEEP_WARM_WORKERS": str(folder / "warm"),
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)]),
    }


def ray_runs(process: subprocess.Popen[bytes], log: Path) -> bool:
    """Wait until a `ray start` says in its `log` that it runs; return False if it ended as the machine is too busy."""

    def known() -> bool:
        if process.poll() is not None:
            assert MACHINE_BUSY in log.read_text(), log.read_text()
        return process.returncode is not None or b"Ray runtime started" in log.read_bytes()

    waits.until("Ray runs", known, log.read_text, period_s=0.1)
    return process.returncode is None


@contextlib.contextmanager
def ray_process(command: list[str], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `ray start` until it is up; start it again, as the daemon does, where Ray gives up on a busy machine."""
    for left in reversed(range(RAY_STARTS)):
        with (
            log.open("wb") as out,
            subprocess.Popen(
                command, env=env, stdin=subprocess.PIPE, stdout=out, stderr=out, start_new_session=True
            ) as head,
        ):
            if ray_runs(head, log):
                yield head
                return
        assert left, log.read_text()


@pytest.fixture(scope="session")
def ray_head() -> Iterator[RayHead]:
    """Run `ray start --head --block` in a session and a short folder of its own; all tests of a process share it."""
    folder = Path(tempfile.mkdtemp(prefix="swr", dir="/tmp"))
    port, metrics_port = free_port(), free_port()
    env = environment(folder)
    command = [
        # The guardian ends the head also if this process is killed.
        sys.executable, "-P", "-m", "supervisor.processes.guardian", "3",
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}",
        "--node-ip-address=127.0.0.1", "--include-dashboard=false", f"--metrics-export-port={metrics_port}",
        "--num-cpus=2", "--object-store-memory=100000000", f"--temp-dir={folder}", "--disable-usage-stats",
    ]  # fmt: skip
    with ray_process(command, env, folder / "head.log"):
        yield RayHead(f"127.0.0.1:{port}", env, folder, metrics_port)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def drive(ray_head: RayHead, tmp_path: Path) -> Iterator[Callable[..., FakeDaemon]]:
    """Start drivers on the shared head: drive(spec, store=..., commands=..., watchdog=...)."""
    started: list[FakeDaemon] = []

    def start(spec: dict[str, Any], store: Store | None = None, **begin: Any) -> FakeDaemon:
        started.append(FakeDaemon(ray_head, tmp_path, spec, store or Store(), **begin))
        return started[-1]

    yield start
    for daemon in started:
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()


@pytest.fixture
def spec() -> Callable[..., dict[str, Any]]:
    """Make the spec of an experiment with a user's trainable; keywords replace its keys."""

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
            "checkpoint_every_s": 0.0,
            **changes,
        }

    return make


@dataclass
class Steps:
    """Experiments with the class that logs each of its batches."""

    spec: Callable[..., dict[str, Any]]
    log: Path
    goes_on: Path
    """As long as this file exists no trial ends."""

    def make(self, **changes: Any) -> dict[str, Any]:
        files = {"log": str(self.log), "goes_on": str(self.goes_on)}
        config = {"batches": 5, "batch_s": 0.02, "steps": 6, **files, **changes.pop("config", {})}
        return self.spec(trainable="actors_trainables:Steps", config=config, **changes)

    def batches(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def stand(self) -> int:
        """Wait until no batch is at work any more; return the number of batches so far."""
        counts = [-1]

        def stand_still() -> bool:
            counts.append(len(self.batches()))
            return counts[-1] == counts[-2]

        waits.until("no batch is at work", stand_still, period_s=1.0)
        return counts[-1]

    def assert_each_once(self, batches: list[dict[str, Any]] | None = None) -> None:
        """Assert that no batch of a trial is lost or doubled."""
        by_trial: dict[float, list[int]] = {}
        for line in self.batches() if batches is None else batches:
            by_trial.setdefault(line["x"], []).append(line["batch"])
        assert by_trial
        for numbers in by_trial.values():
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@pytest.fixture
def steps(spec: Callable[..., dict[str, Any]], tmp_path: Path) -> Steps:
    return Steps(spec, tmp_path / "batches.jsonl", tmp_path / "goes-on")


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Process the sample S&P 500 data; return the dataset's path."""
    folder = tmp_path_factory.mktemp("data")
    import_sample(folder)
    build_dataset("SP500", "a25", folder)
    return str(dataset_path(folder, "SP500"))


@pytest.fixture
def patchtst(spec: Callable[..., dict[str, Any]], dataset: str) -> Callable[..., dict[str, Any]]:
    """Make the spec of an experiment with the built-in model, tiny; `config` is added to its config."""

    def make(max_epochs: int, config: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
        return spec(
            trainable=changes.pop("trainable", "patchtst"),
            metric="val_loss",
            max_epochs=max_epochs,
            cell={"budget": "20k", "horizon": 1},
            config={
                "budget": "20k",
                "horizon": 1,
                "grid": {"d_model": [8, 16, 32], "n_layers": [1, 2, 3], "n_heads": [2, 4]},
                "dataset": dataset,
                "device": "cpu",
                "threads": 1,
                "max_epochs": max_epochs,
                "patience": max_epochs,
                **(config or {}),
            },
            space={
                "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
                "shape_rank": {"type": "int", "low": 0, "high": 1, "log": False, "step": 1},
                "heads_log2": {"type": "int", "low": 1, "high": 1, "log": False, "step": 1},
            },
            **changes,
        )

    return make
