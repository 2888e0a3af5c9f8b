"""Defines the states and the moves between them that are allowed. Pure; standard library only.

Process states are Supervisor's, with PAUSED and SKIPPED added; trial states are Ray's. A move that is not in the
table is a bug in the caller, not bad input: it raises.
"""

from __future__ import annotations

from enum import StrEnum


class ProcessState(StrEnum):
    """The states of a run, and of an experiment in it."""

    STOPPED = "STOPPED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    BACKOFF = "BACKOFF"
    STOPPING = "STOPPING"
    EXITED = "EXITED"
    FATAL = "FATAL"
    SKIPPED = "SKIPPED"


class TrialState(StrEnum):
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    TERMINATED = "TERMINATED"
    ERROR = "ERROR"


class EndReason(StrEnum):
    """The reasons of a trial that is TERMINATED or in ERROR."""

    FINISHED = "finished"
    PRUNED = "pruned"
    EARLY_STOPPED = "early_stopped"
    DIVERGED = "diverged"
    OOM = "oom"
    HUNG = "hung"
    ERROR = "error"
    OPERATOR = "operator"
    SET_ASIDE = "set_aside"


class Desired(StrEnum):
    """The operator's last wish for a run; committed before anything acts on it."""

    RUN = "run"
    STOP = "stop"


AT_WORK = (
    ProcessState.STARTING, ProcessState.RUNNING, ProcessState.PAUSED, ProcessState.BACKOFF, ProcessState.STOPPING,
)  # fmt: skip
"""The states of a run or an experiment that need a daemon: a start without one finds them out of date."""

ENDED = frozenset({ProcessState.EXITED, ProcessState.FATAL, ProcessState.SKIPPED})
"""States of an experiment that will not run again in this run."""

TRIAL_ENDED = frozenset({TrialState.TERMINATED, TrialState.ERROR})

SUCCEEDED = frozenset({EndReason.FINISHED, EndReason.EARLY_STOPPED, EndReason.PRUNED})
"""End reasons that leave a value; the others leave a failed trial."""

FAILED = frozenset(EndReason) - SUCCEEDED - {EndReason.OPERATOR, EndReason.SET_ASIDE}
"""End reasons of a failed trial; one that an operator or `max_hours` ended, or that was set aside, has not failed."""
MAY_BE_RETRIED = frozenset({EndReason.OOM, EndReason.HUNG, EndReason.ERROR})
"""End reasons that another try may change: not that of a configuration that diverges."""

_S, _T = ProcessState, TrialState
PROCESS_MOVES: dict[ProcessState, frozenset[ProcessState]] = {
    _S.STOPPED: frozenset({_S.STARTING, _S.SKIPPED, _S.FATAL}),
    # PAUSED without a driver: the governor's STOP ended it, and an operator's resume starts the next one.
    _S.STARTING: frozenset({_S.RUNNING, _S.PAUSED, _S.BACKOFF, _S.STOPPING, _S.FATAL, _S.EXITED}),
    # RUNNING to STARTING: its driver has ended, and trials that a person asked for again wait for the next one.
    _S.RUNNING: frozenset({_S.STARTING, _S.PAUSED, _S.BACKOFF, _S.STOPPING, _S.EXITED, _S.FATAL}),
    _S.PAUSED: frozenset({_S.RUNNING, _S.PAUSED, _S.STARTING, _S.BACKOFF, _S.STOPPING, _S.EXITED, _S.FATAL}),
    _S.BACKOFF: frozenset({_S.STARTING, _S.STOPPING, _S.FATAL}),
    _S.STOPPING: frozenset({_S.STOPPED, _S.EXITED, _S.FATAL}),
    # A run that has ended may be opened again, for what failed in it; a person may start a FATAL experiment again.
    _S.EXITED: frozenset({_S.STOPPED}),
    _S.FATAL: frozenset({_S.STOPPED}),
    _S.SKIPPED: frozenset({_S.STOPPED}),
}
TRIAL_MOVES: dict[TrialState, frozenset[TrialState]] = {
    # PENDING to an end: an operator's stop, or a trial that cannot be built.
    _T.PENDING: frozenset({_T.RUNNING, _T.TERMINATED, _T.ERROR}),
    # RUNNING to PENDING: its driver or worker died, it waits for its next attempt.
    _T.RUNNING: frozenset({_T.PAUSED, _T.PENDING, _T.TERMINATED, _T.ERROR}),
    _T.PAUSED: frozenset({_T.RUNNING, _T.PENDING, _T.TERMINATED, _T.ERROR}),
    # A person extends it.
    _T.TERMINATED: frozenset({_T.PENDING}),
    # A person asks for another try, or extends a trial that an operator ended.
    _T.ERROR: frozenset({_T.PENDING}),
}


def check_process_move(old: ProcessState, new: ProcessState) -> None:
    """Raise ValueError unless a run or experiment in `old` may go to `new`."""
    if new not in PROCESS_MOVES[old]:
        raise ValueError(f"a process cannot go from {old} to {new}")


def check_trial_move(old: TrialState, new: TrialState) -> None:
    """Raise ValueError unless a trial in `old` may go to `new`."""
    if new not in TRIAL_MOVES[old]:
        raise ValueError(f"a trial cannot go from {old} to {new}")


HOURS, FINISH, VALUE, PLATEAU, ALL = "hours", "finish", "value", "plateau", "all"
"""The reasons of a search's end: no further trial fits, a person asked, its plan's `stop` (a value that is good enough,
nothing better for many trials), or it has had all its trials."""
EARLY = (HOURS, FINISH, VALUE, PLATEAU)
"""Those of a search that ends before its last trial."""
