"""Ray's dashboard has one port per home: the same is tried first at every start, and another is said."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.home import Home
from supervisor.preflight import start as start_checks
from supervisor.preflight.machine import Level
from supervisor.processes import ray_head
from supervisor.processes.ray_head import (
    DASHBOARD_PORT,
    DASHBOARD_PORTS,
    RayHead,
    free_port,
    noted_port,
    ports_to_try,
    usual_port,
)

RAY = """
import socket, sys, time
gcs, dashboard = (socket.create_server(("127.0.0.1", int(port))) for port in sys.argv[1:])
print("Ray runtime started", flush=True)
time.sleep(600)
"""
"""Stands in for Ray: it listens on both ports."""

BUSY = """
import pathlib, sys
tried = pathlib.Path({tried!r})
if not tried.exists():
    tried.touch()
    sys.exit("Exception: The current node timed out during startup.")
"""
"""Comes before RAY: the first start fails as on a busy machine."""


def started(home: Home) -> RayHead:
    """Start a head and end it; return it."""
    head = RayHead(home, dict(os.environ), 1, home.root / "ray.log")

    async def life() -> None:
        await head.start()
        await head.stop()

    asyncio.run(life())
    return head


def port_of(head: RayHead) -> int:
    return int(head.dashboard.rpartition(":")[2])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    found = Home(tmp_path)
    found.state.mkdir()
    monkeypatch.setattr(Home, "runtime", lambda self: tmp_path)
    monkeypatch.setattr(
        ray_head, "ray_command",
        lambda _, __, port, dashboard: [sys.executable, "-c", RAY, str(port), str(dashboard)],
    )  # fmt: skip
    monkeypatch.setattr(ray_head, "DASHBOARD_PORT", free_port())
    return found


def test_the_port_stays_over_restarts_and_another_is_named_while_it_is_taken(home: Home) -> None:
    first = started(home)
    assert (port_of(first), first.port_taken) == (ray_head.DASHBOARD_PORT, None)
    assert port_of(started(home)) == port_of(first)
    with socket.create_server(("127.0.0.1", port_of(first))):
        moved = started(home)
        assert moved.port_taken == port_of(first) != port_of(moved)
    back = started(home)
    assert (port_of(back), back.port_taken) == (port_of(first), None), "it returns to its own port"


def test_a_home_that_began_beside_another_keeps_its_own_port(home: Home) -> None:
    with socket.create_server(("127.0.0.1", ray_head.DASHBOARD_PORT)):
        first = started(home)
    assert first.port_taken == ray_head.DASHBOARD_PORT
    again = started(home)
    assert (port_of(again), again.port_taken) == (port_of(first), None)


def test_a_start_that_a_busy_machine_delays_does_not_move_the_dashboard(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = BUSY.format(tried=str(home.root / "tried")) + RAY
    monkeypatch.setattr(
        ray_head, "ray_command",
        lambda _, __, port, dashboard: [sys.executable, "-c", script, str(port), str(dashboard)],
    )  # fmt: skip
    head = started(home)
    assert (home.root / "tried").exists()
    assert (port_of(head), head.port_taken) == (ray_head.DASHBOARD_PORT, None)


@pytest.mark.parametrize("content", ["", "x", "80\n", "99999", "08265", "-8265", "8265 8266", "\N{SUPERSCRIPT TWO}000"])
def test_a_damaged_note_of_the_port_is_no_port(content: str, tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.state.mkdir()
    home.dashboard_port.write_text(content)
    assert noted_port(home) is None
    assert usual_port(home) == DASHBOARD_PORT


@given(st.integers(1024, 65535))
def test_the_ports_to_try_begin_with_the_usual_one_and_are_ports(usual: int) -> None:
    ports = ports_to_try(usual)
    assert ports[0] == usual
    assert 1 <= len(ports) <= DASHBOARD_PORTS
    assert max(ports) <= 65535


def test_a_port_whose_last_connection_has_not_timed_out_is_free() -> None:
    """After a daemon's end with an open page the kernel keeps the connection for a minute."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as page:
            server.accept()[0].close()  # the server's side ends first, so it waits
            assert page.recv(1) == b""
    assert free_port(port) == port


def test_the_check_names_the_homes_own_port_when_it_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = start_checks.check_port(port)
        assert (found.level, f"port {port} is taken" in found.detail) == (Level.WARNING, True)
    assert start_checks.check_port(port).level is Level.OK
