"""Starts a driver before its turn: it prepares itself while Ray, or an experiment, still needs the time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from supervisor.domain.messages import Prepare
from supervisor.processes.driver_process import DriverProcess

log = logging.getLogger("supervisor")


class DriverAhead:
    """Keeps at most one driver that waits for its turn. It may have joined Ray, and no event tells of it.

    One that cannot start, dies, or waits for another experiment costs only its head start: a driver is then started
    when its turn comes.
    """

    def __init__(self, new_driver: Callable[[str], DriverProcess]) -> None:
        self._new_driver = new_driver
        self._kept: tuple[str, DriverProcess] | None = None
        self._joined: str | None = None
        """The address of the Ray that the kept driver was told to join; None without one."""

    @property
    def experiment(self) -> str | None:
        """The experiment whose driver waits; None without one."""
        return None if self._kept is None else self._kept[0]

    async def start(self, experiment: str, folder: Path, prepare: Prepare | None = None) -> None:
        """Start the driver of an experiment with that `folder`, instead of one that waits for another.

        With `prepare` it also joins Ray, and starts workers there.
        """
        if self.experiment == experiment:
            return
        await self.end()
        driver = self._new_driver(experiment)
        self._kept, self._joined = (experiment, driver), None if prepare is None else prepare.ray_address
        try:
            folder.mkdir(parents=True, exist_ok=True)
            await driver.spawn()
        except OSError as error:
            log.warning("the driver of %s cannot be started before its turn: %s", experiment, error)
            self._kept = self._joined = None
            return
        if prepare is not None and self._kept == (experiment, driver):
            await driver.send(prepare)

    async def take(self, experiment: str, ray_address: str | None) -> DriverProcess | None:
        """Return the driver that waits for this experiment; None without a living one. Another one is killed.

        So is one that was to join a Ray with another address.
        """
        if self._kept is None:
            return None
        name, driver = self._kept
        if name == experiment and driver.lives and self._joined in (None, ray_address):
            self._kept = self._joined = None
            return driver
        await self.end()
        return None

    async def end(self) -> None:
        """Kill the driver that waits, if there is one."""
        kept, self._kept = self._kept, None
        self._joined = None
        if kept is not None:
            await kept[1].kill()

    async def ray_ended(self) -> None:
        """Kill the driver that waits, if it was to join the Ray that has ended: it cannot join another one."""
        if self._joined is not None:
            await self.end()
