"""What a person far away is told: which events are worth a message, and the message. Pure; standard library only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from supervisor.domain.command import Action
from supervisor.store.database import Event
from supervisor.store.event_catalog import EVENTS, describe

WELCOME = frozenset({"run.finished", "experiment.finished", "experiment.skipped", "disk.freed", "daemon.recovered"})
"""Worth a message though nothing is wrong, or no longer. Beside these: every error, and a governor that stops work."""

NAMES = tuple(sorted({name for name, kind in EVENTS.items() if kind.level == "error"} | WELCOME | {"action.changed"}))
"""All that can be notable, for the store to choose by; `notable` looks closer."""

MAX_LINES = 20
LINE_SIGNS = 300
RETRY_BASE_S, RETRY_CAP_S = 30.0, 3600.0


@dataclass(frozen=True)
class Notice:
    """One message, up to and with event `seq`."""

    title: str
    body: str
    seq: int
    count: int


def notable(event: Event) -> bool:
    """Whether a person would want to be told. A drill is none's business but its author's."""
    if event.name not in NAMES or event.fields.get("drill"):
        return False
    if event.name == "action.changed":
        return event.fields["action"] in (Action.PAUSE.name, Action.STOP.name)
    return True


def compose(events: Sequence[Event], plan: str, machine: str) -> Notice:
    """One message of all that is notable among `events` (oldest first, at least one): the last MAX_LINES of them."""
    lines = [describe(event.name, {**_place(event), **event.fields})[:LINE_SIGNS] for event in events]
    left_out = len(lines) - MAX_LINES
    shown = ([f"(and {left_out} earlier)"] if left_out > 0 else []) + lines[-MAX_LINES:]
    return Notice(f"{plan} on {machine}: {lines[-1]}"[:LINE_SIGNS], "\n".join(shown), events[-1].seq, len(lines))


def _place(event: Event) -> dict[str, object]:
    return {"experiment": event.experiment, "trial": event.trial, "attempt": event.attempt}


def retry_in_s(failures: int) -> float:
    """Seconds until the next try after so many failures in a row (at least one): doubled each time, an hour at most."""
    return float(min(RETRY_CAP_S, RETRY_BASE_S * 2.0 ** min(failures - 1, 20)))
