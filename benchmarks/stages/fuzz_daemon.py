"""Run the daemon of benchmarks/fuzz.py: the real one, with a driver that only sends heartbeats."""

from __future__ import annotations

import asyncio
import os
import sys

from benchmarks.stages.soak_daemon import NoHead
from supervisor.control.handshake import Readiness, StartRequest
from supervisor.daemon import assembly
from supervisor.daemon.__main__ import serve
from supervisor.home import find_home
from supervisor.home_lock import take_lock
from supervisor.processes.driver_process import DriverProcess

DRIVER = """
import argparse, os, select
from supervisor.domain import codec
from supervisor.domain import messages as link
parser = argparse.ArgumentParser()
parser.add_argument("--read-fd", type=int)
parser.add_argument("--write-fd", type=int)
fds = parser.parse_args()
os.write(fds.write_fd, codec.encode(link.Hello()))
heard = b""
while b'"Finish"' not in heard:
    os.write(fds.write_fd, codec.encode(link.Heartbeat()))
    if select.select([fds.read_fd], [], [], 1.0)[0]:
        heard = os.read(fds.read_fd, 1 << 20)
        if not heard:
            break
"""
SPECS = [{"name": "x", "mode": "min", "max_trials": 2, "concurrency": 1, "max_hours": None, "enqueue": []}]


def main() -> int:
    home = find_home()
    assembly.RayHead = NoHead  # type: ignore[misc, assignment]
    assembly.DriverProcess = lambda _, log: DriverProcess(  # type: ignore[misc, assignment]
        dict(os.environ), log, 60.0, (sys.executable, "-c", DRIVER)
    )
    assembly.skip_reason = lambda _: None
    home.prepare()
    lock = take_lock(home)
    try:
        request = StartRequest(
            "fuzz", fingerprint="f", plan_text="name: fuzz\n", hardware={"wake_lock": False}, specs=SPECS
        )
        return asyncio.run(serve(home, request, Readiness(None)))
    finally:
        os.close(lock)
