"""Starts a driver before its turn: it imports its libraries while Ray, or an experiment, still needs the time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from supervisor.processes.driver_process import DriverProcess

log = logging.getLogger("supervisor")


class DriverAhead:
    """Keeps at most one driver that waits for its turn. It takes no part in Ray, and no event tells of it.

    One that cannot start, dies, or waits for another experiment costs only its head start: a driver is then started
    when its turn comes.
    """

    def __init__(self, new_driver: Callable[[str], DriverProcess]) -> None:
        self._new_driver = new_driver
        self._kept: tuple[str, DriverProcess] | None = None

    @property
    def experiment(self) -> str | None:
        """The experiment whose driver waits; None without one."""
        return None if self._kept is None else self._kept[0]

    async def start(self, experiment: str, folder: Path) -> None:
        """Start the driver of an experiment with that `folder`, instead of one that waits for another."""
        if self.experiment == experiment:
            return
        await self.end()
        driver = self._new_driver(experiment)
        self._kept = experiment, driver
        try:
            folder.mkdir(parents=True, exist_ok=True)
            await driver.spawn()
        except OSError as error:
            log.warning("the driver of %s cannot be started before its turn: %s", experiment, error)
            self._kept = None

    async def take(self, experiment: str) -> DriverProcess | None:
        """Return the driver that waits for this experiment; None without a living one. Another one is killed."""
        if self._kept is None:
            return None
        name, driver = self._kept
        if name == experiment and driver.lives:
            self._kept = None
            return driver
        await self.end()
        return None

    async def end(self) -> None:
        """Kill the driver that waits, if there is one."""
        kept, self._kept = self._kept, None
        if kept is not None:
            await kept[1].kill()
