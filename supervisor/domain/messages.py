"""Defines the messages between the daemon and a driver; codec writes them as lines. Standard library only.

Both sides end when the other's pipe closes: end of file means that the other died. A message that must not be lost has
an `id`; the daemon sends an Ack of that id once it has committed the message, and the driver keeps it until then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from supervisor.domain.lifecycle import EndReason, TrialState


@dataclass(frozen=True)
class Hello:
    """Driver: I am up."""


@dataclass(frozen=True)
class WatchdogUp:
    """Driver: a node's watchdog answers. `missing` maps a provider to why it cannot work there."""

    node: str
    pid: int
    protected: bool
    missing: dict[str, str]


@dataclass(frozen=True)
class TrialAdded:
    """Driver: the searcher chose a configuration. `source` is sampled or enqueued."""

    number: int
    params: dict[str, Any]
    source: str


@dataclass(frozen=True)
class TrialDuplicated:
    """Driver: the searcher chose the params of trial `of` again; it has the end of that one and is not trained."""

    number: int
    params: dict[str, Any]
    source: str
    of: int


@dataclass(frozen=True)
class TrialStarted:
    """Driver: an attempt runs. `resumed_step` is the epoch of its checkpoint, None from scratch."""

    number: int
    attempt: int
    ray_trial_id: str
    node: str
    worker_pid: int | None
    resumed_step: int | None


@dataclass(frozen=True)
class ResultReported:
    """Driver: an epoch is done. `value` is the metric, None when it is missing or not finite."""

    number: int
    attempt: int
    step: int
    value: float | None
    metrics: dict[str, Any]
    checkpoint: str | None


@dataclass(frozen=True)
class TrialHeld:
    """Driver: a trial's state changed between RUNNING and PAUSED (`state`)."""

    number: int
    attempt: int
    state: str
    reason: str
    drill: bool = False

    def __post_init__(self) -> None:
        if self.state not in (TrialState.RUNNING, TrialState.PAUSED):
            raise ValueError(f"a trial is not held in state {self.state!r}")


@dataclass(frozen=True)
class TrialEnded:
    """Driver: a trial is over. `end_reason` is one of lifecycle.EndReason; `error` its text (4,000 characters).

    `printed` are the last lines that a failed attempt printed; the daemon adds them.
    """

    number: int
    attempt: int
    end_reason: str
    value: float | None
    error: str | None
    record: dict[str, Any] = field(default_factory=dict)
    printed: str | None = None

    def __post_init__(self) -> None:
        EndReason(self.end_reason)


@dataclass(frozen=True)
class TrialHung:
    """Driver: an attempt made no progress for `silent_s` and its worker was ended; its end or loss follows.

    `median_s` is what its batch or step usually takes, None before the first; `dump` a file with its stacks.
    """

    number: int
    attempt: int
    silent_s: float
    median_s: float | None
    dump: str | None


@dataclass(frozen=True)
class ReportTrimmed:
    """Driver: values of a report are left out: they are neither numbers nor texts. `left_out` says what they were."""

    number: int
    attempt: int
    left_out: dict[str, str]


@dataclass(frozen=True)
class CheckpointUnusable:
    """Driver: a live attempt could not read a checkpoint, and continues from an older one or from scratch."""

    number: int
    attempt: int
    path: str


@dataclass(frozen=True)
class DeviceRefused:
    """Driver: a trial works on the CPU, since an accelerator computes something else than the CPU, as `why` says."""

    number: int
    attempt: int
    why: str


@dataclass(frozen=True)
class WorkerStuck:
    """Driver: the worker of an attempt that hangs cannot be killed: it waits for a disk or a device."""

    number: int
    attempt: int
    node: str
    pid: int
    why: str


@dataclass(frozen=True)
class AttemptLost:
    """Driver: an attempt is over and its trial is not: it is tried again.

    `cause` is one of worker_exit's, released, oom (an allocation failed) or memory (asked back by the governor);
    `memory` is what the next attempt is given to take less of it, None when that does not change. `printed` are the
    last lines that an attempt with an error printed; the daemon adds them.
    """

    number: int
    attempt: int
    cause: str
    error: str | None
    drill: bool = False
    memory: dict[str, Any] | None = None
    printed: str | None = None


@dataclass(frozen=True)
class ActionChanged:
    """Driver: the command of a node's governor changed. `command` is Command.to_json()."""

    node: str
    command: dict[str, Any]


@dataclass(frozen=True)
class Sampled:
    """Driver: a node's latest readings (Reading.to_json() each). Not acknowledged."""

    node: str
    readings: list[dict[str, Any]]
    protected: bool


@dataclass(frozen=True)
class SensorNoted:
    """Driver: a sensor's state changed, as the governor noticed. `kind` is an event's name.

    Each driver passes on what the watchdog of process `pid` notes; `serial` is the note's number there. Both are None
    for what the driver itself notes of a watchdog.
    """

    node: str
    kind: str
    facts: dict[str, Any]
    pid: int | None = None
    serial: int | None = None


@dataclass(frozen=True)
class ResourcesCompared:
    """Driver: no node can run a trial of the experiment, as `shortage` says; None: one can."""

    shortage: str | None


@dataclass(frozen=True)
class ConcurrencyMoved:
    """Driver: `trials` run at once from now on, `before` until now; `reason` has the throughput of each."""

    trials: int
    before: int
    reason: str


@dataclass(frozen=True)
class SearchEnded:
    """Driver: the search ends after `trials` trials, for `reason` (one of lifecycle.EARLY, or ALL).

    `top` and `seeds` are those of the finalisation that follows; None without one.
    """

    reason: str
    trials: int
    top: int | None
    seeds: int | None


@dataclass(frozen=True)
class Heartbeat:
    """Driver: still here. Not acknowledged."""


@dataclass(frozen=True)
class ExperimentEnded:
    """Driver: nothing is left to do. `error` is None when all went well.

    `final` False: the error is not the plan's fault, and another driver may try. `trial` is the number of the trial
    that the driver handled when the error came.
    """

    error: str | None
    final: bool = True
    trial: int | None = None


@dataclass(frozen=True)
class TrialsBefore:
    """Daemon: the next trials of the Begin that follows, where they are too many for one line (trials.begin_parts)."""

    trials: list[dict[str, Any]]


@dataclass(frozen=True)
class Prepare:
    """Daemon: your turn comes later. Join Ray, and let `workers` workers import what the trials need.

    `experiment` is as in Begin, by the plan as it stands now: the Begin that follows may have another one.
    """

    ray_address: str
    experiment: dict[str, Any]
    workers: int


@dataclass(frozen=True)
class Begin:
    """Daemon: run this experiment, from the state that the store holds.

    `experiment` is plan.ExperimentSpec as JSON. Each of `trials` has number, state, end_reason, params, source,
    value, attempt (the last one used, 0 for none), results ([[step, value], ...]), checkpoint (a path or None), lost
    (the causes of its earlier attempts' ends, oldest first) and memory (the last one of AttemptLost, or None); one that
    was not trained also has duplicate_of.
    `commands` are the operator's commands in force. `watchdog` has gate (path), state (path), policy, script, folders,
    and `forced_s` when the operator has just overruled a STOP.
    """

    run_id: str
    experiment: dict[str, Any]
    trials: list[dict[str, Any]]
    commands: list[dict[str, Any]]
    ray_address: str
    folder: str
    watchdog: dict[str, Any]


@dataclass(frozen=True)
class Ack:
    """Daemon: committed."""

    of: int


@dataclass(frozen=True)
class Commanded:
    """Daemon: the operator's commands now in force, all of them."""

    commands: list[dict[str, Any]]


@dataclass(frozen=True)
class TimeLeft:
    """Daemon: what is left of the experiment's hours, as search_time.SearchTime describes it."""

    left_s: float
    trial_s: float | None
    reserve_s: float
    top: int | None
    seeds: int | None


@dataclass(frozen=True)
class FinishAsked:
    """Daemon: a person ends the search: its running trials stop at their next epoch, and the trials after it follow."""


@dataclass(frozen=True)
class SpecChanged:
    """Daemon: a person changed the experiment; `spec` is as in Begin. The driver takes what changes while it works.

    `policy` is the hardware policy from now on; None when that did not change.
    """

    spec: dict[str, Any]
    policy: dict[str, Any] | None = None


@dataclass(frozen=True)
class TrialsRetried:
    """Daemon: trials that had ended wait for the next driver. End after the search, before the finalisation."""


@dataclass(frozen=True)
class DrillAsked:
    """Daemon: play a named drill through the scripted provider of a node (None: of all)."""

    name: str
    duration_s: float
    node: str | None


@dataclass(frozen=True)
class ForceAsked:
    """Daemon: the operator lets work go on for `for_s` seconds although the governor of a node (None: all) pauses."""

    node: str | None
    for_s: float


@dataclass(frozen=True)
class Finish:
    """Daemon: checkpoint, end, exit 0."""

    reason: str


Message = (
    Hello | WatchdogUp | TrialAdded | TrialDuplicated | TrialStarted | ResultReported | TrialHeld | TrialEnded
    | AttemptLost | TrialHung | ReportTrimmed | CheckpointUnusable | DeviceRefused | WorkerStuck | ActionChanged
    | Sampled | SensorNoted | Heartbeat | ExperimentEnded | ResourcesCompared | ConcurrencyMoved | SearchEnded
    | Prepare | TrialsBefore | Begin | Ack | Commanded | TimeLeft | FinishAsked | SpecChanged | TrialsRetried
    | DrillAsked | ForceAsked | Finish
)  # fmt: skip
