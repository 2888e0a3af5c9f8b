"""Keeps a drill that was asked for until a watchdog can play it."""

from __future__ import annotations

import asyncio

from supervisor.domain.messages import DrillAsked
from supervisor.processes.driver_process import DriverProcess
from supervisor.store.run_writer import RunWriter


class Drills:
    """Holds one drill at most; a newer one replaces it."""

    def __init__(self, writer: RunWriter) -> None:
        self._writer = writer
        self._waiting: DrillAsked | None = None
        self._playing: asyncio.Task[None] | None = None

    def ask(self, drill: DrillAsked) -> None:
        """Keep a drill for the next watchdog."""
        self._waiting = drill

    async def play(self, driver: DriverProcess) -> None:
        """Send the waiting drill to the watchdogs of `driver`."""
        drill, self._waiting = self._waiting, None
        if drill is not None:
            self._writer.record(
                "drill.started", name=drill.name, duration_s=drill.duration_s, node=drill.node, drill=True
            )
            await driver.send(drill)

    def watchdog_up(self, driver: DriverProcess) -> None:
        """Play the waiting drill beside the work."""
        if self._waiting is not None:
            self._playing = asyncio.create_task(self.play(driver))
