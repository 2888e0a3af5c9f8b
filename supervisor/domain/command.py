"""Defines the commands that restrain work, and which of them is in force. Standard library only.

One vocabulary, three origins: the operator, the governor and the schedule. The strictest in force wins, and none lifts
another's: cooling down never ends an operator's pause, and an operator's resume never ends a governor's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from supervisor.domain.scope import ALL_NODES, trial_of
from supervisor.typed_json import Record


class Action(IntEnum):
    """The steps of the ladder, strictest last (docs/architecture.md says what each does to trials)."""

    RUN = 0
    HOLD = 1
    SHED = 2
    THROTTLE = 3
    PAUSE = 4
    STOP = 5


class Origin(StrEnum):
    OPERATOR = "operator"
    GOVERNOR = "governor"
    SCHEDULE = "schedule"


@dataclass(frozen=True)
class Command(Record):
    """An action in force. `throttle_share` is the share of time (0 to 1) that trials rest on THROTTLE.

    `shed_trials` is how many concurrent trials fewer than the plan's may run, from SHED on; one always may.

    An operator's pause without --now is a HOLD: no new trials start, running ones finish; a HOLD of one trial stops
    it at its next report. With --now it is a PAUSE: gates close at the next batch. `since_wall` and `until_wall` are
    seconds since the epoch; only the schedule knows an end.
    """

    action: Action
    origin: Origin
    reason: str
    scope: str = ALL_NODES
    since_wall: float | None = None
    throttle_share: float = 0.0
    who: str | None = None
    drill: bool = False
    shed_trials: int = 0
    until_wall: float | None = None

    @property
    def step(self) -> tuple[Action, float, int]:
        """The command's place on the ladder, within its action too; a larger one restrains more."""
        return self.action, self.throttle_share, self.shed_trials

    @property
    def trial(self) -> tuple[str, int] | None:
        """The experiment and number of the trial that the command is for; None for a wider scope."""
        return trial_of(self.scope)


def run(origin: Origin, reason: str = "nothing to hold for", scope: str = ALL_NODES) -> Command:
    """Return a command that restrains nothing."""
    return Command(Action.RUN, origin, reason, scope)


def strictest(commands: Iterable[Command]) -> Command:
    """Return the command that wins. Raises ValueError without commands.

    On a tie of steps the operator's wins, then the governor's: the end of the schedule's time would not lift theirs.
    """
    return max(commands, key=_strictness)


_RANK = {Origin.SCHEDULE: 0, Origin.GOVERNOR: 1, Origin.OPERATOR: 2}


def _strictness(command: Command) -> tuple[tuple[Action, float, int], int]:
    return command.step, _RANK[command.origin]


def in_force_on(
    node: str, operator: Iterable[Command], governor: Command | None = None, trial: str | None = None
) -> Command:
    """Return the strictest command on `node`, or on the trial of scope `trial` there.

    Of the operator's commands those count whose scope is all nodes, this node or this trial. The governor's command
    counts whatever its scope: it is this node's.
    """
    scopes = {ALL_NODES, node, trial}
    own = run(Origin.GOVERNOR) if governor is None else governor
    return strictest([own, *(command for command in operator if command.scope in scopes)])


def in_force_for_all(operator: Iterable[Command], governors: Mapping[str, Command]) -> Command:
    """Return the command on the freest of the nodes of `governors`: all other nodes forbid at least as much.

    It decides whether a new trial may start anywhere, and whether an experiment stands as a whole. Without any node
    only the operator's commands for all nodes count.
    """
    operator = tuple(operator)
    if not governors:
        return in_force_on(ALL_NODES, operator)
    return min((in_force_on(node, operator, governor) for node, governor in governors.items()), key=_strictness)


def pauses_all(operator: Iterable[Command], governors: Mapping[str, Command]) -> Command | None:
    """Return the command that pauses the run on its freest node; None while a node is not paused.

    A node is paused by a PAUSE of any origin, and by a HOLD of the operator or the schedule. A governor's
    SHED or THROTTLE is stricter on the trials that run, but does not lift such a HOLD: both are in force then.
    """
    operator = tuple(operator)
    on_nodes = [_pause_on(node, operator, governors.get(node)) for node in governors or (ALL_NODES,)]
    pauses = [pause for pause in on_nodes if pause is not None]
    return min(pauses, key=_strictness) if len(pauses) == len(on_nodes) else None


def _pause_on(node: str, operator: Iterable[Command], governor: Command | None) -> Command | None:
    strict = in_force_on(node, operator, governor)
    if strict.action >= Action.PAUSE:
        return strict
    held = in_force_on(node, (command for command in operator if command.origin is not Origin.GOVERNOR))
    return held if held.action >= Action.HOLD else None
