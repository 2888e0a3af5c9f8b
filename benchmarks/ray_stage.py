"""Start a Ray head, and a driver without a daemon, for benchmarks."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def start_head(folder: Path) -> tuple[subprocess.Popen[bytes], str, dict[str, str]]:
    """Start a Ray head; return it, its address, and the environment for processes that connect to it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = folder / "token"
    token.touch(0o600)
    token.write_text(secrets.token_hex(16))
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_memory_monitor_refresh_ms": "0",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "PYTHONPATH": str(ROOT),
    }
    # Benchmarks of plain Ray connect from this process.
    os.environ.update(environment)
    log = folder / "head.log"
    with log.open("wb") as stream:
        head = subprocess.Popen(
            [
                sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}",
                "--node-ip-address=127.0.0.1", "--include-dashboard=false", "--num-cpus=2",
                "--object-store-memory=100000000", f"--temp-dir={folder}",
            ],
            env=environment, stdout=stream, stderr=stream, start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + 60
    while b"Ray runtime started" not in log.read_bytes():
        if head.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(log.read_text())
        time.sleep(0.1)
    return head, f"127.0.0.1:{port}", environment


def start_driver(folder: Path, environment: dict[str, str]) -> tuple[subprocess.Popen[bytes], int, int]:
    """Start a driver; return it, the descriptor of its messages, and the descriptor for messages to it."""
    to_driver, write_fd = os.pipe()
    read_fd, from_driver = os.pipe()
    with (folder / "driver.log").open("wb") as log:
        driver = subprocess.Popen(
            [sys.executable, "-P", "-m", "actors.driver", f"--read-fd={to_driver}", f"--write-fd={from_driver}"],
            env=environment, pass_fds=(to_driver, from_driver), stdout=log, stderr=log,
        )  # fmt: skip
    os.close(to_driver)
    os.close(from_driver)
    return driver, read_fd, write_fd


def experiment(name: str, trainable: str, **changes: Any) -> dict[str, Any]:
    """Return the resolved experiment that a driver is given, with one float parameter."""
    return {
        "name": name, "cell": {}, "trainable": trainable, "config": {}, "metric": "loss", "mode": "min",
        "space": {"x": {"type": "float", "low": -1.0, "high": 1.0, "log": False}}, "max_epochs": None,
        "max_hours": None, "concurrency": 1, "finalize": None, "resources": {"cpu": 1.0, "gpu": 0.0},
        "sampler": {"kind": "tpe", "startup_trials": 10}, "enqueue": [], "pruner": {"kind": "none"}, "seed": 1,
        "max_failures": 3, **changes,
    }  # fmt: skip


def watchdog(folder: Path, **policy: Any) -> dict[str, Any]:
    """Return the settings of the node's watchdog that a driver is given."""
    return {"gate": str(folder / "gate"), "policy": policy, "script": None}
