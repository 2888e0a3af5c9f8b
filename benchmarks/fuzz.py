"""Send ten thousand malformed requests to the control socket, and measure another client's waits meanwhile.

    python -m benchmarks.fuzz [--requests 10000] [--seed 1]

The daemon is the real one, on its real socket, with a driver that only sends heartbeats. Another process asks for
`status` all the time; its waits are the figures. Exit code 1 when an answer was not a clear refusal, a right request
was not answered, or the daemon died.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from benchmarks.machine import machine
from benchmarks.stages.fuzz_requests import Attack, attack, fault_of
from supervisor.control.client import ask
from supervisor.errors import SweepError
from supervisor.home import Home

CHECKOUT = Path(__file__).resolve().parents[1]
ANSWER_WITHIN_S = 20.0
QUIET_S = 5.0
HELD_AT_ONCE = 20
"""Connections with half a request that stay open meanwhile; the daemon accepts 64."""


class Attacker:
    """Sends malformed requests to a home's socket, and keeps the connections of half requests open."""

    def __init__(self, home: Home, seed: int) -> None:
        self._home, self._rng = home, random.Random(seed)
        self._held: list[socket.socket] = []
        self.kinds: Counter[str] = Counter()
        self.faults: list[str] = []

    def send(self) -> None:
        sent = attack(self._rng)
        self.kinds[sent.kind] += 1
        fault = fault_of(sent, self._answer(sent))
        if fault is not None:
            self.faults.append(f"{sent.kind}: {b''.join(sent.pieces)[:300]!r} -> {fault}")

    def _answer(self, sent: Attack) -> bytes:
        """Send the request; return the answer until the daemon closed, or nothing for a half request."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(ANSWER_WITHIN_S)
        for _ in range(1000):
            # Refused while too many clients wait (unix(7)).
            with contextlib.suppress(BlockingIOError):
                connection.connect(str(self._home.socket))
                break
            time.sleep(0.005)
        answer = b""
        # The daemon may close before it has read everything, which is an answer, too.
        with contextlib.suppress(ConnectionError):
            for piece in sent.pieces:
                connection.sendall(piece)
        if sent.answer_kind == "nothing":
            self._hold(connection)
            return b""
        with connection, contextlib.suppress(ConnectionError):
            if sent.answer_kind == "4xx":
                # Bytes that are not HTTP have no end of their own.
                connection.shutdown(socket.SHUT_WR)
            while got := connection.recv(1 << 16):
                answer += got
        return answer

    def _hold(self, connection: socket.socket) -> None:
        self._held.append(connection)
        if len(self._held) > HELD_AT_ONCE:
            self._held.pop(self._rng.randrange(len(self._held))).close()

    def close(self) -> None:
        for connection in self._held:
            connection.close()
        self._held.clear()


def client() -> None:
    """Ask for `status` until the input ends; then print the seconds that each took, as JSON."""
    home, waits = Home(Path(sys.argv[1])), []
    os.set_blocking(0, False)
    while True:
        with contextlib.suppress(BlockingIOError):
            if os.read(0, 1) == b"":
                break
        begun = time.perf_counter()
        ask(home, "status")
        waits.append(time.perf_counter() - begun)
        time.sleep(0.01)
    print(json.dumps(waits))


def _until_it_runs(home: Home, process: subprocess.Popen[bytes]) -> None:
    """Wait until the daemon's experiment runs. Raises RuntimeError with the daemon's output if it does not start."""
    for _ in range(6000):
        with contextlib.suppress(SweepError):
            if ask(home, "status")["experiments"][0]["state"] == "RUNNING":
                return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"the daemon did not come up: {(home.root / 'daemon.out').read_text()}")


@contextlib.contextmanager
def daemon(home: Home) -> Iterator[int]:
    """Run a daemon in `home` and yield its pid; at the end it is asked to shut down."""
    environment = {**os.environ, "SWEEP_HOME": str(home.root), "PYTHONPATH": str(CHECKOUT)}
    with (home.root / "daemon.out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", "import sys; from benchmarks.stages.fuzz_daemon import main; sys.exit(main())"],
            env=environment, cwd=CHECKOUT, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        _until_it_runs(home, process)
        yield process.pid
        if process.poll() is None:
            ask(home, "shutdown", {})
        process.wait(60.0)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def asking(home: Home, meanwhile: Callable[[], object]) -> list[float]:
    """Measure another client's `status` while `meanwhile` runs; return sorted seconds, or none if one failed."""
    with subprocess.Popen(
        [sys.executable, "-c", "from benchmarks.fuzz import client; client()", str(home.root)],
        cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as other:  # fmt: skip
        meanwhile()
        printed, _ = other.communicate(timeout=60.0)
    return sorted(json.loads(printed or b"[]"))


def attack_socket(home: Home, pid: int, requests: int, seed: int) -> tuple[Attacker, list[float]]:
    """Send all requests; return the attacker, and another client's waits meanwhile."""
    attacker = Attacker(home, seed)

    def attack_all() -> None:
        for _ in range(requests):
            attacker.send()
        attacker.close()

    waits = asking(home, attack_all)
    if not psutil.pid_exists(pid):
        attacker.faults.append("the daemon died")
    return attacker, waits


def figures(waits: list[float]) -> str:
    if not waits:
        return "none"
    p50, p99 = (1e3 * waits[int(share * (len(waits) - 1))] for share in (0.5, 0.99))
    return f"{len(waits)} times, p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {waits[-1] * 1e3:.1f} ms"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        home = Home(Path(folder))
        with daemon(home) as pid:
            process = psutil.Process(pid)
            quiet = asking(home, lambda: time.sleep(QUIET_S))
            begun, before, worked = time.monotonic(), process.memory_info().rss, process.cpu_times()
            attacker, waits = attack_socket(home, pid, arguments.requests, arguments.seed)
            took_s = time.monotonic() - begun
            grown, left, ended = process.memory_info().rss - before, process.num_fds(), process.cpu_times()
            worked_s = ended.user + ended.system - worked.user - worked.system
    print(f"{arguments.requests} malformed requests in {took_s:.0f} s; {machine()}")
    print(", ".join(f"{kind} {count}" for kind, count in sorted(attacker.kinds.items())))
    print(f"another client's status meanwhile: {figures(waits)}; in the quiet before: {figures(quiet)}")
    print(f"the daemon took {1e3 * worked_s / arguments.requests:.2f} ms of CPU a request, the other client's included")
    print(f"the daemon's memory grew by {grown / (1 << 20):.1f} MiB; {left} descriptors are open")
    print(*(attacker.faults[:20] or ["each got a clear refusal"]), sep="\n")
    return 1 if attacker.faults or not waits else 0


if __name__ == "__main__":
    sys.exit(main())
