"""Lists the topics of news: which events are worth a message, how urgent each is, and what to type next. Pure.

Every event of the level error is a topic of its own, unless it is listed here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from supervisor.domain import work_schedule
from supervisor.domain.command import Action
from supervisor.domain.lifecycle import MAY_BE_RETRIED
from supervisor.store.event import Event
from supervisor.store.event_catalog import EVENTS

ALARM, ENDED, WORTH_KNOWING, REGULAR = range(4)
"""The ranks, most urgent first: the first topic of a message is its title."""
GATHER_S = 600.0
"""News that need no person wait so long for others, to go in one message."""
LOOK = "supervisorctl status"


@dataclass(frozen=True)
class Topic:
    """Holds what the messages of one topic have in common.

    `many` names several events at once, `next` is the command to type; words in braces are filled in. A later event of
    the topic `ended_by` says that the cause is over. `once`: each driver or daemon finds the same again, so it is told
    once in a run.
    """

    key: str
    rank: int = ALARM
    next: str = LOOK
    many: str = "{last} (and {more} more)"
    ended_by: str | None = None
    once: bool = False

    @property
    def gather_s(self) -> float:
        """Return the seconds that the topic's first event waits for others."""
        return GATHER_S if self.rank == WORTH_KNOWING else 0.0


TRIALS_FAILED = Topic(
    "trials failed", ALARM, "supervisorctl tail --event trial.failed", "{count} trials failed: {last}"
)
EXPERIMENT_FAILED = Topic("experiment failed", ALARM, "supervisorctl retry {experiment}")
RUN_FAILED = Topic("run failed", ALARM, "supervisord start")
STOPPED = Topic("stopped by the governor", ALARM, "supervisorctl resume --force", ended_by="resumed")
PAUSED = Topic("paused", ALARM, LOOK, "paused {count} times: {last}", ended_by="resumed")
RESUMED = Topic("resumed", WORTH_KNOWING, LOOK, "{last}")
BY_SCHEDULE = Topic("paused by schedule", WORTH_KNOWING, LOOK, "{last}", once=True)
ON_BATTERY = Topic("on battery", ALARM, LOOK, "on battery {count} times: {last}", ended_by="off battery")
OFF_BATTERY = Topic("off battery", WORTH_KNOWING, LOOK, "{last}")
UNINFORMED = Topic("schedule uninformed", ALARM, LOOK, once=True)
STALLED = Topic("stalled", ALARM, LOOK, ended_by="went on")
WENT_ON = Topic("went on", WORTH_KNOWING, LOOK, "{last}")
DISK_LOW = Topic("disk low", ALARM, "supervisorctl gc", ended_by="disk freed")
DISK_FULL = Topic("disk full", ALARM, "supervisorctl gc", ended_by="disk freed")
DISK_FREED = Topic("disk freed", WORTH_KNOWING, LOOK, "{last}")
UNPROTECTED = Topic("unprotected", ALARM, "supervisorctl sensors", once=True)
SENSOR_LOST = Topic("sensor lost", ALARM, "supervisorctl sensors", ended_by="sensor back")
SENSOR_BACK = Topic("sensor back", WORTH_KNOWING, "supervisorctl sensors", "{last}")
MAY_SLEEP = Topic("may fall asleep", ALARM, LOOK, once=True)
PING_FAILED = Topic("ping failed", WORTH_KNOWING, "supervisorctl notify test")
WAITS = Topic("waits for resources", ALARM, LOOK, ended_by="went on")
NO_ANSWER = Topic("test failed", ALARM, "supervisorctl retry {experiment}")
CRASHED = Topic("daemon recovered", ALARM, "supervisorctl tail -n 30")
CRASH_LOOP = Topic("crash loop", ALARM, "supervisord start")
UNDERUSED = Topic("underused", WORTH_KNOWING, LOOK)
FINISHED = Topic("run finished", ENDED, "supervisorctl report")
EXPERIMENT_ENDED = Topic("experiment ended", ENDED, LOOK, "{count} experiments ended: {last}")
IMPROVED = Topic("best improved", WORTH_KNOWING, LOOK, "best improved {count} times: {last}")
DIGEST = Topic("digest", REGULAR, LOOK, "{last}")

Choice = Callable[[Mapping[str, Any]], Topic | None]


def _action(fields: Mapping[str, Any]) -> Topic | None:
    names = (Action.PAUSE.name, Action.STOP.name)
    if fields["action"] in names:
        return STOPPED if fields["action"] == Action.STOP.name else PAUSED
    return RESUMED if fields.get("previous") in names else None


def _schedule(fields: Mapping[str, Any]) -> Topic | None:
    """Return the topic of a schedule's hold or pause; None for its other commands.

    A person has planned it, twice a day: the first is told, the digest tells of the others. No person plans to lose
    the mains, so a battery is told each time.
    """
    if fields["action"] == Action.RUN.name:
        return None
    return ON_BATTERY if work_schedule.ON_BATTERY in fields["reason"] else BY_SCHEDULE


def always(topic: Topic) -> Choice:
    """Return a choice of `topic` whatever the event says."""
    return lambda _: topic


SCHEDULED = "schedule.changed"
RESCHEDULED = "plan.changed"
"""By both the battery may hold the work no longer, which is news, too (reader.py)."""
CHOICES: dict[str, Choice] = {
    **{name: always(Topic(name)) for name, kind in EVENTS.items() if kind.level == "error"},
    "trial.failed": lambda fields: TRIALS_FAILED if fields["end_reason"] in MAY_BE_RETRIED else None,
    "experiment.failed": always(EXPERIMENT_FAILED),
    "experiment.finished": always(EXPERIMENT_ENDED),
    "experiment.skipped": always(EXPERIMENT_ENDED),
    "experiment.stalled": always(STALLED),
    "experiment.stall_ended": always(WENT_ON),
    "action.changed": _action,
    "run.paused": always(PAUSED),
    "run.resumed": always(RESUMED),
    SCHEDULED: _schedule,
    "schedule.uninformed": always(UNINFORMED),
    "run.failed": always(RUN_FAILED),
    "run.finished": always(FINISHED),
    "disk.nearly_filled": always(DISK_LOW),
    "disk.filled": always(DISK_FULL),
    "disk.freed": always(DISK_FREED),
    "watchdog.unprotected": always(UNPROTECTED),
    "sensor.lost": always(SENSOR_LOST),
    "sensor.recovered": always(SENSOR_BACK),
    "wake_lock.refused": always(MAY_SLEEP),
    "ping.failed": always(PING_FAILED),
    "resources.lacked": always(WAITS),
    "resources.found": always(WENT_ON),
    "test.failed": always(NO_ANSWER),
    "daemon.recovered": always(CRASHED),
    "daemon.crash_looped": always(CRASH_LOOP),
    "machine.underused": always(UNDERUSED),
}
"""The topic of each event that can be news. A message about messages would never end, so no notice.* is here.

Pauses are told by the event of their origin: action.changed, run.paused, disk.filled, schedule.changed.
"""
FINISHED_TRIAL = "trial.finished"
"""This event is news where it improves the best (reader.py)."""
NAMES = tuple(sorted({*CHOICES, FINISHED_TRIAL}))


def topic_of(event: Event) -> Topic | None:
    """Return the topic of an event by itself; None if it is worth no message. A drill concerns only its starter."""
    choice = CHOICES.get(event.name)
    return None if choice is None or event.fields.get("drill") else choice(event.fields)
