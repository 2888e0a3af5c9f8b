"""Starts and stops the Ray head: a child with its own session, folder, ports and token. The daemon never imports ray.

A minute after its GCS has died, Ray ends the process that it runs in; that must not be the daemon. The daemon notices
the death of a child at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from supervisor.errors import RayStartFailed
from supervisor.filesystem import write_atomically
from supervisor.home import Home, make_private
from supervisor.processes.guardian import end_group
from supervisor.redaction import redact

START_DEADLINE_S = 90.0
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
QUICK_FAILURE_S = 20.0
PORT_TAKEN = "address already in use"
"""strerror(EADDRINUSE) of Linux and macOS, in lower case."""
MACHINE_BUSY = "timed out during startup"
"""Ray's node.py, where its own raylet does not register within 30 s: a busy machine, as a rule."""
TRIED_AGAIN = (PORT_TAKEN, MACHINE_BUSY)
STARTS, BUSY_STARTS = 3, 6
"""Starts at most; more of them where only the machine was too busy, which passes."""
DASHBOARD_GAVE_UP = "Failed to find a valid port for dashboard"
"""Ray's last message (dashboard/http_server_head.py) before the dashboard ends; it tries other ports by itself."""
DASHBOARD_PORT = 8265
"""Ray's default, for a home that has not had another one."""
DASHBOARD_PORTS = 10
"""So many ports, from the home's own on, are tried before any other: a bookmark stays near."""
STOP_GRACE_S = 1.0
"""A Ray session holds nothing that is worth a wait (the store is the truth), and TERM drains it for up to 30 s."""
OBJECT_STORE_BYTES = 128 * 1024 * 1024
"""Trials exchange a few numbers, and checkpoints are files. Ray's default is 30 % of the memory."""


def free_port(*preferred: int) -> int:
    """Return the first of the ports `preferred` that is free on 127.0.0.1, else another free port."""
    for port in (*preferred, 0):
        with contextlib.suppress(OSError, OverflowError), socket.socket() as probe:
            if port:
                # A port whose last connections have not timed out is free for a server (tcp(7)); Ray's own test has it.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise RayStartFailed("no TCP port is free on 127.0.0.1")


def noted_port(home: Home) -> int | None:
    """Return the port that the dashboard of this home had first; None for a new home, or a damaged file."""
    try:
        text = home.dashboard_port.read_text().strip()
    except (OSError, ValueError):
        return None
    return int(text) if re.fullmatch(r"[1-9][0-9]{3,4}", text) and int(text) in range(1024, 65536) else None


def usual_port(home: Home) -> int:
    """Return the port that the dashboard of this home is tried on first."""
    return noted_port(home) or DASHBOARD_PORT


def ports_to_try(usual: int) -> range:
    """Return the ports to try in order, from the usual one on."""
    return range(usual, min(usual + DASHBOARD_PORTS, 65536))


def last_lines(output: str) -> str:
    """Return the last lines of `output`, 2,000 characters at most, without colours; of a longer line, its end."""
    text = COLOUR.sub("", output).rstrip()
    end = text[-2000:]
    return end.partition("\n")[2] or end if len(text) > len(end) else end


def ray_command(home: Home, cpus: int, port: int, dashboard: int) -> list[str]:
    """Return the command that runs a Ray head on these ports."""
    return [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats",
        f"--port={port}", "--node-ip-address=127.0.0.1", "--include-dashboard=true",
        "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--num-cpus={cpus}",
        f"--object-store-memory={OBJECT_STORE_BYTES}", f"--temp-dir={home.ray_temp}",
        f"--ray-client-server-port={free_port()}", f"--dashboard-agent-listen-port={free_port()}",
        # The drivers do not read the workers' output, so its collector would be a useless process.
        "--include-log-monitor=false",
        # Nor is there anything to scale; its monitor would start before the raylet does.
        "--no-monitor",
    ]  # fmt: skip


@dataclass
class RayHead:
    """One Ray session: `start`, wait for `exited`, `stop`. Each start needs a new object."""

    home: Home
    environment: dict[str, str]
    cpus: int
    log: Path
    address: str = ""
    dashboard: str = ""
    pid: int = 0
    port_taken: int | None = None
    """The usual port of this home's dashboard, where another program has it now."""
    _process: asyncio.subprocess.Process | None = field(default=None, repr=False)

    async def start(self) -> None:
        """Start the head and wait until it is up. Raises RayStartFailed with the end of Ray's output.

        A free port can be taken between its choice and its use. Ray then ends within seconds, or, for the dashboard's
        port, after a minute; and on a busy machine Ray gives up after half a minute. It is then started again,
        on other ports; where the machine was only busy, the dashboard keeps its own.
        """
        begun_s, usual = time.monotonic(), usual_port(self.home)
        dashboards: Sequence[int] = ports_to_try(usual)
        for number in range(1, BUSY_STARTS + 1):
            try:
                await self._start(dashboards)
                return self._keep_port(usual)
            except RayStartFailed as failure:
                last, said = failure, str(failure).lower()
                if MACHINE_BUSY not in said:
                    dashboards = ()
                slow = time.monotonic() - begun_s > QUICK_FAILURE_S
                if slow and not any(words in said for words in TRIED_AGAIN):
                    break
                if number >= STARTS and MACHINE_BUSY not in said:
                    break
        raise last

    def _keep_port(self, usual: int) -> None:
        """Note the dashboard's first port for every later start, also for those after one that found it taken."""
        used = int(self.dashboard.rpartition(":")[2])
        self.port_taken = None if used == usual else usual
        if noted_port(self.home) is None:
            with contextlib.suppress(OSError):
                # Without the file the next start tries Ray's default first.
                write_atomically(self.home.dashboard_port, f"{used}\n".encode(), durable=False)

    async def _start(self, preferred_dashboard: Sequence[int]) -> None:
        self._prepare()
        port, dashboard = free_port(), free_port(*preferred_dashboard)
        self.address, self.dashboard = f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}"
        self.log.write_bytes(b"")
        # For appending: the daemon may truncate it later (daemon.upkeep.background).
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "supervisor.processes.guardian", str(STOP_GRACE_S),
                *ray_command(self.home, self.cpus, port, dashboard),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
                env=self.environment, start_new_session=True,
            )  # fmt: skip
        assert self._process.stdout is not None
        with contextlib.suppress(TimeoutError):
            line = await asyncio.wait_for(self._process.stdout.readline(), START_DEADLINE_S)
            self.pid = int(line or 0)
        if not self.pid:
            await self.stop()
            raise self._failure()
        await self._wait_until_up(port)

    def _prepare(self) -> None:
        token = self.home.ray_token
        if not token.exists():
            token.touch(mode=0o600)
            token.write_text(secrets.token_hex(32))
        # Ray never removes an old session. The flags and heartbeats of its nodes end with it, too.
        for stale in (self.home.ray_temp, *self.home.runtime().glob("*.gate.*")):
            if stale.is_dir() and not stale.is_symlink():
                shutil.rmtree(stale, ignore_errors=True)
            else:
                stale.unlink(missing_ok=True)
        make_private(self.home.ray_temp)

    async def _wait_until_up(self, port: int) -> None:
        """Wait until the GCS accepts connections and Ray has said that it runs."""
        assert self._process is not None
        try:
            async with asyncio.timeout(START_DEADLINE_S):
                while self._process.returncode is None:
                    if await _accepts(port) and b"Ray runtime started" in self._output():
                        return
                    if DASHBOARD_GAVE_UP in (output := self._dashboard_output()):
                        # Ray itself waits another minute for a dashboard that has ended.
                        await self.stop()
                        raise RayStartFailed(f"Ray did not start; its dashboard:\n{last_lines(output)}")
                    await asyncio.sleep(0.1)
        except TimeoutError:
            await self.stop()
        raise self._failure()

    def _dashboard_output(self) -> str:
        """Return the dashboard's standard error; it is empty while the dashboard runs."""
        try:
            with (self.home.ray_temp / "session_latest" / "logs" / "dashboard.err").open(errors="replace") as file:
                return redact(file.read(64_000))
        except OSError:
            return ""

    def _failure(self) -> RayStartFailed:
        output = redact(self._output().decode(errors="replace"))
        return RayStartFailed(f"Ray did not start; the end of its output:\n{last_lines(output)}")

    def _output(self) -> bytes:
        with self.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 64_000))
            return log.read()

    async def exited(self) -> int:
        """Wait for the head's end; return its exit status."""
        assert self._process is not None
        return await self._process.wait()

    async def stop(self) -> None:
        """End every process of the session; the guardian kills after its grace."""
        if self._process is None:
            return
        if self._process.returncode is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                await asyncio.wait_for(self._process.wait(), 15.0)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        if self.pid:
            await asyncio.to_thread(end_group, self.pid, 0.2)


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
