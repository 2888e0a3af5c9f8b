"""Starts what follows an experiment while its last trials run: the test's process, the next driver, the report's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from supervisor.daemon.experiments.driver_ahead import DriverAhead
from supervisor.daemon.experiments.evaluation import Evaluator
from supervisor.daemon.experiments.experiment_state import ExperimentState
from supervisor.daemon.run_end import read_beside
from supervisor.domain.command import Action, Command
from supervisor.domain.messages import Prepare
from supervisor.errors import SweepError
from supervisor.report.process import ReportAhead
from supervisor.store import lookups, queries
from supervisor.store.run_writer import RunWriter

log = logging.getLogger("supervisor")

ROOM_BYTES = 2 * 2**30
"""The free memory without which nothing is started early: each loads its libraries, and trials come first."""
WORKER_BYTES = 2**29
"""The memory of a trial's worker that has imported Ray Tune and torch, and has no trial yet, with some room."""


def workers_ahead(concurrency: int, free_bytes: int) -> int:
    """Return how many workers of the next experiment may wait: one for each of its first trials, where there is room.

    ROOM_BYTES stay for what else is started, and for the trials at work.
    """
    return max(0, min(concurrency, (free_bytes - ROOM_BYTES) // WORKER_BYTES))


class WhatFollows:
    """Decides what waits. While a command holds work back nothing does: its memory may be what is short."""

    def __init__(
        self,
        writer: RunWriter,
        drivers: DriverAhead,
        evaluator: Evaluator,
        report: ReportAhead,
        left: Callable[[], list[str]],
        run_folder: Path,
        free_bytes: Callable[[], int],
        ray_address: Callable[[], str | None],
    ) -> None:
        """`left` returns the experiments that have not ended, in order; `ray_address` None while Ray is down."""
        self._writer, self._left, self._run_folder, self._free_bytes = writer, left, run_folder, free_bytes
        self._drivers, self._evaluator, self._report = drivers, evaluator, report
        self._ray_address = ray_address
        self._after: str | None = None
        """The experiment after which all that waits is to come."""
        self._changing = asyncio.Lock()
        self._changes: set[asyncio.Task[None]] = set()

    def look(self, state: ExperimentState, command: Command) -> None:
        """Start what follows when an experiment's last trials run; end it when `command` holds work back."""
        if command.action >= Action.HOLD:
            self._want_after(None)
        elif state.in_last_trials:
            self._want_after(state.name)

    def obey(self, command: Command) -> None:
        """End what waits when `command` holds work back."""
        if command.action >= Action.HOLD:
            self._want_after(None)

    def _want_after(self, experiment: str | None) -> None:
        if experiment != self._after:
            self._after = experiment
            change = asyncio.create_task(self._change())
            self._changes.add(change)
            change.add_done_callback(self._changes.discard)

    async def _change(self) -> None:
        try:
            async with self._changing:
                if self._after is None:
                    await self._end_all()
                elif self._free_bytes() >= ROOM_BYTES:
                    await self._start_after(self._after)
        except (SweepError, OSError) as error:
            # A full disk, for example: what follows then starts at its turn.
            log.warning("nothing is started before its turn: %s", error)

    async def _start_after(self, experiment: str) -> None:
        await self._evaluator.start_ahead(experiment)
        following = next((name for name in self._left() if name != experiment), None)
        if following is not None:
            await self._drivers.start(following, self._run_folder / following, self._prepare(following))
        else:
            run_id = self._writer.run_id
            await self._report.start(
                await read_beside(self._writer, lambda connection: queries.run_snapshot(connection, run_id))
            )

    def _prepare(self, experiment: str) -> Prepare | None:
        """Return what the driver of an experiment does before its turn; None while Ray is down."""
        address = self._ray_address()
        if address is None:
            return None
        spec = lookups.spec(self._writer.store, self._writer.run_id, experiment)
        return Prepare(address, spec, workers_ahead(int(spec["concurrency"]), self._free_bytes()))

    async def _end_all(self) -> None:
        await self._drivers.end()
        await self._evaluator.end_ahead()
        await self._report.end()

    async def run_ends(self) -> None:
        """End all that waits for more work; the report's process waits on."""
        for change in tuple(self._changes):
            change.cancel()
        await asyncio.gather(*self._changes, return_exceptions=True)
        await self._drivers.end()
        await self._evaluator.end_ahead()
