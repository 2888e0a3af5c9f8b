"""Puts the schedule's command in force as time, user and battery ask, and lets a person overrule it for a while."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from supervisor.clock import Clock
from supervisor.domain.command import Command
from supervisor.domain.work_schedule import (
    Schedule,
    Surroundings,
    Unknown,
    decide,
    overruling,
    read_schedule,
    unknowns,
)
from supervisor.errors import Conflict, DiskFull
from supervisor.preflight.surroundings import Look
from supervisor.store import lookups
from supervisor.store.run_writer import RunWriter

log = logging.getLogger("supervisor")

TICK_S = 5.0
"""After a sleep of the machine or a jump of its clock the command is right within this time."""
LOOK_PERIOD_S = 30.0
LOOK_WITHIN_S = 10.0
MAX_UNKNOWNS = 2
"""The user and the battery, each said once."""


def schedule_of(writer: RunWriter) -> Schedule | None:
    """Return the schedule of a run as its row has it now; None without one."""
    value = json.loads(lookups.run(writer.store, writer.run_id)["hardware"]).get("schedule")
    return read_schedule(value) if value else None


class ScheduleWatch:
    """Decides every TICK_S. Its last command lies in the store, so a restart of the daemon goes on from it."""

    def __init__(
        self,
        writer: RunWriter,
        clock: Clock,
        schedule: Callable[[], Schedule | None],
        changed: Callable[[], Awaitable[None]],
        look: Look,
    ) -> None:
        """`schedule` returns the run's as it is now; `changed` is awaited once another command is in force."""
        self._writer, self._clock, self._schedule = writer, clock, schedule
        self._changed, self._look = changed, look
        self._looking: asyncio.Task[Surroundings] | None = None
        self._seen, self._seen_mono_s = Surroundings(), float("-inf")
        self._seen_for: Schedule | None = None
        self._said: set[str] | None = None
        """The unknowns that events of this run name already; None before the first."""

    async def run(self) -> None:
        """Decide for ever. Raises DiskFailed."""
        while True:
            try:
                await self.tick()
            except DiskFull as error:
                log.warning("the schedule's command cannot be recorded: %s", error)
            await self._clock.sleep(TICK_S)

    async def tick(self) -> None:
        """Decide once; record the command and put it in force if it is another one."""
        schedule = self._schedule()
        if schedule is None:
            return
        seen = await self._surroundings(schedule)
        if self._schedule() != schedule:
            # A person has changed it during the look. The next tick is soon.
            return
        # The machine's zone may have changed: its owner travels.
        time.tzset()
        self._say(unknowns(schedule, seen))
        now_s = self._clock.wall_s()
        before = self._writer.schedule()
        command = decide(schedule, now_s, seen, before)
        if before is None or _says(command) != _says(before):
            goes_on = before is not None and before.who is None and before.action is command.action
            self._record(replace(command, since_wall=before.since_wall if before and goes_on else now_s))
            await self._changed()

    def overrule(self, for_s: float, who: str) -> None:
        """Let work go on for `for_s` seconds, whatever the schedule says. Raises Conflict without a schedule."""
        schedule = self._schedule()
        if schedule is None:
            raise Conflict(
                "this run's plan has no schedule to overrule", remedy="`supervisorctl resume` lifts your own pause"
            )
        self._record(overruling(schedule, self._clock.wall_s(), for_s, who))

    def _say(self, found: list[tuple[str, str]]) -> None:
        """Record each unknown, once in a run: an earlier daemon may have said it."""
        if found and self._said is None:
            earlier = lookups.newest_events(
                self._writer.store, ["schedule.uninformed"], MAX_UNKNOWNS, run=self._writer.run_id
            )
            self._said = {str(event.fields["what"]) for event in earlier}
        for what, why in found:
            if self._said is not None and what not in self._said:
                self._writer.record("schedule.uninformed", what=what, why=why)
                self._said.add(what)

    def _record(self, command: Command) -> None:
        self._writer.record(
            "schedule.changed", action=command.action.name, reason=command.reason, until_wall=command.until_wall,
            who=command.who, command=command.to_json(),
        )  # fmt: skip

    async def _surroundings(self, schedule: Schedule) -> Surroundings:
        """Return the surroundings, at most LOOK_PERIOD_S old; unknown while a look hangs."""
        if schedule.while_active is None and schedule.on_battery is None:
            return self._seen
        if self._looking is None:
            if self._clock.mono_s() - self._seen_mono_s < LOOK_PERIOD_S and self._seen_for == schedule:
                return self._seen
            self._seen_for = schedule
            self._looking = asyncio.create_task(asyncio.to_thread(self._look, schedule))
        done, _ = await asyncio.wait({self._looking}, timeout=LOOK_WITHIN_S)
        if not done:
            hangs = Unknown(f"the look at it takes longer than {LOOK_WITHIN_S:.0f} s")
            return Surroundings(hangs, hangs)
        looked, self._looking = self._looking, None
        if self._seen_for != schedule:
            # It hung meanwhile, and has answered for an earlier schedule.
            return await self._surroundings(schedule)
        self._seen_mono_s = self._clock.mono_s()
        self._seen = looked.result()
        return self._seen


def _says(command: Command) -> tuple[object, ...]:
    """Return all that a command says but since when."""
    return command.step, command.until_wall, command.who, command.reason
