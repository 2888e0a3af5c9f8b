"""Logs the hardware while no watchdog does: between drivers, while the daemon waits to start again, under STOP."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from supervisor.clock import Clock
from supervisor.daemon.cluster import HARDWARE_EVENT_PERIOD_S, SILENT_AFTER_S, NodeView, summarise
from supervisor.errors import DiskFull, WorkerFailed
from supervisor.home import Home
from supervisor.processes.environment import OWNER, passed_environment
from supervisor.processes.json_worker import JsonWorker, python_module
from supervisor.store.run_writer import RunWriter

log = logging.getLogger("supervisor")

LOOK_PERIOD_S = 15.0
SAMPLE_WITHIN_S = 60.0
"""A broken driver may hang; a pass takes half a second."""
MACHINE = "machine"
"""Stands in the event for the node's id, which only Ray knows."""

Sample = Callable[[], Awaitable[dict[str, Any]]]
"""Reads every sensor once: what `sensors.survey.collect` returns. Raises WorkerFailed."""


def sampler(home: Home) -> Sample:
    """Return a function that reads the sensors in a process of its own: the daemon must not wait for a driver."""
    worker = JsonWorker(
        python_module("supervisor.sensors.survey"), passed_environment() | {OWNER: home.key}, SAMPLE_WITHIN_S
    )
    return lambda: worker.ask([str(home.state)])


class HardwareLog:
    """Records the hardware each HARDWARE_EVENT_PERIOD_S, unless a watchdog's sample was an event meanwhile."""

    def __init__(
        self, writer: RunWriter, clock: Clock, nodes: Callable[[], Mapping[str, NodeView]], sample: Sample
    ) -> None:
        """`nodes` returns the nodes as their watchdogs last described them."""
        self._writer, self._clock, self._nodes, self._sample = writer, clock, nodes, sample
        # The start has checked the sensors, and its first watchdog logs within a minute.
        self._last_s = clock.mono_s() - HARDWARE_EVENT_PERIOD_S + 2 * LOOK_PERIOD_S

    async def run(self) -> None:
        """Look for ever. Raises DiskFailed."""
        while True:
            await self._clock.sleep(LOOK_PERIOD_S)
            try:
                await self.look()
            except (DiskFull, WorkerFailed) as error:
                log.warning("the hardware cannot be logged: %s", error)

    async def look(self) -> None:
        """Record a sample when it is time and no watchdog is at work."""
        now_s = self._clock.mono_s()
        nodes = self._nodes().values()
        self._last_s = max(
            [self._last_s, *(node.recorded_mono_s for node in nodes if node.recorded_mono_s is not None)]
        )
        watched = any(
            node.message_mono_s is not None and now_s - node.message_mono_s <= SILENT_AFTER_S for node in nodes
        )
        if watched or now_s - self._last_s < HARDWARE_EVENT_PERIOD_S:
            return
        # Also where it fails: a sensor that hangs must not be asked each time.
        self._last_s = now_s
        found = await self._sample()
        missing = {one["name"]: one["reason"] for one in found["providers"] if not one["ok"]}
        self._writer.record(
            "hardware.sampled", node=MACHINE, summary=summarise(found["readings"], found["protected"]),
            readings=found["readings"], protected=found["protected"], missing=missing,
        )  # fmt: skip
