"""Reads news from the events in the store, in order; an ended trial is news where it improves its search's best."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from supervisor.daemon.news import digest
from supervisor.daemon.news.tally import Item
from supervisor.daemon.news.topics import (
    FINISHED,
    FINISHED_TRIAL,
    IMPROVED,
    NAMES,
    OFF_BATTERY,
    ON_BATTERY,
    RESCHEDULED,
    SCHEDULED,
    topic_of,
)
from supervisor.domain import finalists
from supervisor.domain.command import Action
from supervisor.domain.lifecycle import SUCCEEDED
from supervisor.domain.spec_changes import SPEC_CHANGES
from supervisor.errors import StoreError
from supervisor.formatting import duration
from supervisor.page.reader import StoreReader
from supervisor.store import lookups, queries
from supervisor.store.database import Store
from supervisor.store.event import Event
from supervisor.store.event_words import describe

log = logging.getLogger("supervisor")

BATCH = 500
"""The daemon's loop reads so many events at a time."""
OTHER_SPEC = frozenset({*SPEC_CHANGES, RESCHEDULED})
"""After these events other trials may count for the best: discarded ones, those after the search."""
READ = tuple(sorted({*NAMES, *OTHER_SPEC}))
MAX_CHANGES = 20
"""So many of a plan's changes since a hold are looked through for one that took the schedule away."""


@dataclass
class Best:
    """Holds the best value of one search so far; None before the first."""

    spec: dict[str, Any]
    value: float | None

    def improved_by(self, trial: int, value: object) -> bool:
        """Take a trial's value; return whether it is better. Trials after the search do not compare."""
        if not isinstance(value, int | float) or not math.isfinite(value) or finalists.is_final(self.spec, trial):
            return False
        sign = 1.0 if self.spec["mode"] == "min" else -1.0
        if self.value is not None and sign * value >= sign * self.value:
            return False
        self.value = float(value)
        return True


class NewsReader:
    """Turns the events after `up_to` into items of news."""

    def __init__(self, store: Store, up_to: int) -> None:
        self._store, self.up_to = store, up_to
        self._best: dict[tuple[str, str], Best] = {}
        """The best of each search that was met."""

    def skip(self) -> None:
        """Pass over all events so far: no person wants them."""
        newest = lookups.last_seq(self._store)
        if newest != self.up_to:
            self.up_to = newest
            self._best.clear()

    async def read(self) -> tuple[list[Item], bool]:
        """Return the next items, and whether there may be more."""
        newest = lookups.last_seq(self._store)
        events = lookups.events_named(self._store, READ, BATCH, after=self.up_to)
        more = len(events) == BATCH
        self.up_to = events[-1].seq if more else newest
        return [item for event in events if (item := await self._item(event)) is not None], more

    async def _item(self, event: Event) -> Item | None:
        if event.name in OTHER_SPEC:
            self._best.clear()
        if event.name == FINISHED_TRIAL:
            return self._improvement(event)
        topic = topic_of(event)
        after_battery = topic is not ON_BATTERY and self._ends_battery(event)
        # What comes after it is told even where its own topic was told before: the alarm has its end.
        topic = OFF_BATTERY if after_battery else topic
        if topic is None:
            return None
        sentence = _SECONDS.sub(_duration, describe(event.name, {**_place(event), **_whole_seconds(event.fields)}))
        if after_battery and event.fields.get("action", Action.RUN.name) != Action.RUN.name:
            sentence = f"now {sentence}; before, it was on battery"
        details = await self._summary(event) if topic is FINISHED else ()
        return Item(event.seq, event.wall_s, topic, sentence, event.experiment, details)

    def _ends_battery(self, event: Event) -> bool:
        """Return whether an event takes the place of a hold for the battery, or takes the schedule away."""
        taken_away = event.name == RESCHEDULED and event.fields.get("schedule") == {}
        if event.name != SCHEDULED and not taken_away:
            return False
        before = lookups.newest_events(self._store, [SCHEDULED], 1, run=event.run, before=event.seq)
        if not before or topic_of(before[0]) is not ON_BATTERY:
            return False
        # A plan that changes again, without a schedule then, ends nothing a second time.
        between = lookups.newest_events(
            self._store, [RESCHEDULED], MAX_CHANGES, run=event.run, after=before[0].seq, before=event.seq
        )
        return not any(one.fields.get("schedule") == {} for one in between)

    def _improvement(self, event: Event) -> Item | None:
        if event.run is None or event.experiment is None or event.trial is None:
            return None
        if event.fields["end_reason"] not in SUCCEEDED:
            return None
        key = (event.run, event.experiment)
        if key not in self._best:
            self._best[key] = self._best_before(event, *key)
        best = self._best[key]
        before, value = best.value, event.fields["value"]
        if not best.improved_by(event.trial, value):
            return None
        was = "the first" if before is None else f"{before:.4g} before"
        sentence = f"best of {event.experiment} is {value:.4g} ({was}), trial {event.trial}"
        return Item(event.seq, event.wall_s, IMPROVED, sentence, event.experiment)

    def _best_before(self, event: Event, run: str, experiment: str) -> Best:
        """Return the best of the trials that had ended before `event`."""
        spec = lookups.spec(self._store, run, experiment)
        later = lookups.trials_finished_after(self._store, run, experiment, event.seq - 1)
        values = [
            row["value"]
            for row in lookups.trials(self._store, run, experiment)
            if row["value"] is not None
            and row["end_reason"] in SUCCEEDED
            and row["number"] not in later
            and not finalists.is_discarded(spec, row["number"])
            and not finalists.is_final(spec, row["number"])
        ]
        return Best(spec, None if not values else (min if spec["mode"] == "min" else max)(values))

    async def _summary(self, event: Event) -> tuple[str, ...]:
        """Return a line for each experiment of the run that has ended, read in a thread; none where that fails."""
        if event.run is None or queries.latest_run(self._store.connection, event.run) is None:
            return ()
        try:
            with closing(StoreReader(self._store.path, event.run)) as reader:
                view = await reader.view()
        except StoreError as error:
            log.warning("the last message has no line for each experiment: %s", error.message)
            return ()
        return digest.experiment_lines(view)


_SECONDS = re.compile(r"\b(\d{2,}(?:\.\d+)?) s\b")


def _duration(found: re.Match[str]) -> str:
    """Return seconds in a sentence as people say them: after 150 hours they are a long number."""
    return duration(float(found[1]))


def _whole_seconds(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields with seconds in whole numbers: a run of two weeks would have an exponent."""
    return {
        name: round(value) if isinstance(value, float) and (name == "seconds" or name.endswith("_s")) else value
        for name, value in fields.items()
    }


def _place(event: Event) -> dict[str, object]:
    return {"experiment": event.experiment, "trial": event.trial, "attempt": event.attempt}
