"""Answers the page's questions from the store and the daemon: status, trials, temperatures, events, metrics."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from supervisor.domain import finalists
from supervisor.domain.lifecycle import EndReason
from supervisor.errors import DiskFailed
from supervisor.page import charts, document
from supervisor.page.metrics import Rising, metrics_text
from supervisor.page.reader import StoreReader
from supervisor.sensors.reading import Kind
from supervisor.store import page_queries
from supervisor.store.event import Event
from supervisor.store.event_catalog import kind_of
from supervisor.store.event_words import describe

MAX_EVENTS = 150
MAX_HOURS = 24 * 14


class Live(Protocol):
    """Knows what only the daemon knows, and carries out the page's two verbs; the daemon implements it."""

    def completed(self, view: dict[str, Any]) -> dict[str, Any]: ...
    async def pause(self, target: str | None, now: bool, reason: str, who: str) -> dict[str, Any]: ...
    async def resume(self, target: str | None, who: str) -> dict[str, Any]: ...
    def disk_failed(self, error: DiskFailed) -> None: ...


class Figures:
    """Reads one run. Each coroutine raises StoreError where the store cannot be read."""

    def __init__(self, reader: StoreReader, run_id: str, live: Live) -> None:
        self._reader, self._run_id, self.live = reader, run_id, live
        self._pauses = charts.PauseBands()
        """Used in the reader's thread only."""
        self._rising = Rising()
        self._counting = asyncio.Lock()

    async def status(self) -> dict[str, Any]:
        """Return document.status_document of now."""
        return document.status_document(await self._view())

    async def _view(self) -> dict[str, Any]:
        return self.live.completed(await self._reader.view())

    async def events(self, after: int) -> list[dict[str, Any]]:
        """Return the newest events with a larger number than `after`, oldest first."""
        found = await self._reader.read(
            lambda connection: page_queries.newest_events(connection, self._run_id, after, MAX_EVENTS)
        )
        return [event_document(event) for event in found]

    async def trials(self, name: str) -> dict[str, Any]:
        """Return charts.trials_document of an experiment, without discarded and set-aside trials. Raises NotFound."""

        def read(connection: sqlite3.Connection) -> dict[str, Any]:
            spec = page_queries.experiment_spec(connection, self._run_id, name)
            known = page_queries.trial_rows(connection, self._run_id, name)
            counting = [row for row in known if row["end_reason"] != EndReason.SET_ASIDE]
            rows = [row for row in counting if not finalists.is_discarded(spec, row["number"])]
            found = page_queries.curves(connection, self._run_id, name, charts.curve_numbers(rows))
            return charts.trials_document(name, spec, rows, found)

        return await self._reader.read(read)

    async def temperatures(self, hours: float) -> dict[str, Any]:
        """Return the temperatures and pauses of the last `hours`, with the sensors' limits."""
        view = await self._view()
        now_s, margins = view["daemon"]["now_wall"], _sensors(view, Kind.MARGIN)
        begin_minute, end_minute = int((now_s - hours * 3600.0) // 60), int(now_s // 60)

        def read(connection: sqlite3.Connection) -> dict[str, Any]:
            rows = _temperatures(connection, self._run_id, begin_minute)
            upto = page_queries.last_seq(connection)
            for event in page_queries.pause_events(connection, self._run_id, self._pauses.seq, upto):
                self._pauses.add(event)
            self._pauses.seq = upto
            # A margin is in degrees, too, and is no temperature.
            own = (row for row in rows if (row["node"], row["sensor"]) not in margins)
            return {
                "begin": begin_minute * 60,
                "end": now_s,
                "series": charts.series(own, begin_minute, end_minute),
                "pauses": self._pauses.since(begin_minute * 60),
            }

        return await self._reader.read(read) | {"limits": document.temperatures(view)}

    async def metrics(self) -> str:
        """Return the run's figures for Prometheus."""
        async with self._counting:
            return await self._metrics()

    async def _metrics(self) -> str:
        view = await self._view()
        epochs = await self._reader.read(lambda connection: page_queries.epochs(connection, self._run_id))
        # In a thread: the first call imports the package.
        return await asyncio.to_thread(metrics_text, view, epochs, document.temperatures(view), self._rising)


def _temperatures(connection: sqlite3.Connection, run_id: str, begin_minute: int) -> Iterator[dict[str, Any]]:
    """Yield page_queries.temperatures, as many of its answers as the time has; a minute may come twice."""
    while True:
        rows = page_queries.temperatures(connection, run_id, begin_minute)
        yield from rows
        if len(rows) < page_queries.MAX_READINGS or rows[-1]["minute"] == begin_minute:
            return
        begin_minute = rows[-1]["minute"]


def _sensors(view: Mapping[str, Any], kind: Kind) -> set[tuple[str, str]]:
    return {
        (name, reading["sensor_id"])
        for name, node in view["nodes"].items()
        for reading in node["readings"]
        if reading["kind"] == kind
    }


def event_document(event: Event) -> dict[str, Any]:
    """Return an event as the page lists it: number, wall time, level, name, where, and its sentence."""
    where = {"experiment": event.experiment, "trial": event.trial, "attempt": event.attempt}
    return {
        "seq": event.seq,
        "wall": event.wall_s,
        "level": kind_of(event.name).level,
        "event": event.name,
        "experiment": event.experiment,
        "text": describe(event.name, {**event.fields, **where}),
    }
