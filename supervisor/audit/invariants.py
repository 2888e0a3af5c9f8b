"""Checks each promise against the evidence of a run. Pure: evidence in, verdicts out."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from supervisor.audit.evidence import Evidence, Rows
from supervisor.audit.repeated_work import Work, seconds_between
from supervisor.domain import finalists
from supervisor.domain.lifecycle import ENDED, TRIAL_ENDED, ProcessState, TrialState
from supervisor.domain.time_accounting import driven_seconds
from supervisor.store.event import Event

Key = tuple[str, int]
"""A trial: its experiment and its number."""

MAX_FAULTS_SHOWN = 10


@dataclass(frozen=True)
class Verdict:
    """Holds the outcome of one promise: its count, and its faults; without faults it holds."""

    name: str
    claim: str
    counted: str
    faults: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.faults


def check(evidence: Evidence) -> list[Verdict]:
    """Return the verdict on every promise, in the order of docs/reliability.md."""
    return [_checked(one, evidence) for one in _CHECKS]


def _checked(one: Callable[[Evidence], Verdict], evidence: Evidence) -> Verdict:
    try:
        return one(evidence)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        # The daemon records no such event: another program changed the log or the store.
        fault = f"it cannot be checked: an event or a row has a value that no daemon writes ({error!r})"
        return Verdict(one.__name__.removeprefix("_"), "can be checked", "", [fault])


def render(evidence: Evidence, verdicts: Iterable[Verdict]) -> str:
    """Return a table for people, then the faults, at most MAX_FAULTS_SHOWN of each promise."""
    verdicts = list(verdicts)
    lines = [f"audit of {evidence.run}"]
    lines += [f"  {'holds ' if v.holds else 'BROKEN'}  {v.name:<12} {v.claim:<62} {v.counted}" for v in verdicts]
    for verdict in verdicts:
        for fault in verdict.faults[:MAX_FAULTS_SHOWN]:
            lines.append(f"{verdict.name}: {fault}")
        if len(verdict.faults) > MAX_FAULTS_SHOWN:
            lines.append(f"{verdict.name}: and {len(verdict.faults) - MAX_FAULTS_SHOWN} more")
    return "\n".join(lines)


def _chain(evidence: Evidence) -> Verdict:
    return Verdict(
        "chain", "no line of the log was changed, lost or put in", f"{evidence.lines} lines", evidence.chain_faults
    )


def _order(evidence: Evidence) -> Verdict:
    faults = []
    count, first, last = evidence.numbers
    if count and (first, last) != (1, count):
        faults.append(f"the store holds {count} events, numbered from {first} to {last}")
    log = {event.seq: event for event in evidence.logged}
    store = {event.seq: event for event in evidence.committed}
    if len(log) < len(evidence.logged):
        faults.append("the log holds two events of one number")
    missing = sorted(store.keys() - log.keys())
    lag = " yet: `supervisorctl repair --apply` appends it" if missing and missing[0] > max(log, default=0) else ""
    faults += [f"event {seq} ({store[seq].name}) is not in the log{lag}" for seq in missing]
    faults += [f"event {seq} ({log[seq].name}) is not in the store" for seq in sorted(log.keys() - store.keys())]
    faults += [
        f"event {seq}: the log has {log[seq].name}, the store {store[seq].name}, or their fields differ"
        for seq in sorted(log.keys() & store.keys())
        if _comparable(log[seq]) != _comparable(store[seq])
    ]
    return Verdict(
        "events", "store and log hold the same events, numbered without a gap", f"{len(store)} events", faults
    )


def _comparable(event: Event) -> str:
    """Return an event, without number and time, as JSON: then 1 and 1.0 differ."""
    return json.dumps([event.name, event.run, event.experiment, event.trial, event.attempt, event.fields])


def _replay(evidence: Evidence) -> Verdict:
    faults = list(evidence.replay_faults)
    for table, rows in evidence.stored.items():
        faults += _differences(table, rows, evidence.replayed[table])
    count = sum(len(rows) for rows in evidence.stored.values())
    return Verdict("replay", "the log alone gives back every row of the store", f"{count} rows", faults)


def _differences(table: str, stored: list[dict[str, Any]], replayed: list[dict[str, Any]]) -> Iterator[str]:
    keys = {"run": ("id",), "experiment": ("name",), "trial": ("experiment", "number"), "command": ("scope",),
            "attempt": ("experiment", "trial", "attempt"), "result": ("experiment", "trial", "step"),
            "evaluation": ("experiment",)}[table]  # fmt: skip
    left = {tuple(row[key] for key in keys): row for row in stored}
    right = {tuple(row[key] for key in keys): row for row in replayed}
    for key in sorted(left.keys() | right.keys()):
        where = f"{table} {' '.join(map(str, key))}"
        if key not in right:
            yield f"{where} is in the store only"
        elif key not in left:
            yield f"{where} is in the log only"
        elif left[key] != right[key]:
            columns = [name for name in left[key] if left[key][name] != right[key][name]]
            yield f"{where}: {', '.join(columns)} differ"


def _results(evidence: Evidence) -> Verdict:
    log = Counter((*key, one.fields["step"]) for one, key in _that_count(evidence) if one.name == "trial.reported")
    store = Counter((row["experiment"], row["trial"], row["step"]) for row in evidence.stored["result"])
    faults = [f"{_place(key)} was reported {count} times" for key, count in log.items() if count > 1]
    faults += [f"{_place(key)} is in the log and not in the store" for key in log.keys() - store.keys()]
    faults += [f"{_place(key)} is in the store and not in the log" for key in store.keys() - log.keys()]
    return Verdict("results", "each result is in both, and counted once", f"{len(store)} results", sorted(faults))


def _place(key: tuple[Any, ...]) -> str:
    return f"{key[0]} trial {key[1]} epoch {key[2]}"


_OF_AN_ATTEMPT = ("trial.reported", "trial.repeated", "trial.paused", "trial.resumed", "trial.requeued")
_OF_THE_ENDED = ("trial.added", "trial.discarded", "trial.restored")
_AGAIN = ("trial.retried", "trial.extended")
"""After each of these a trial that had ended goes on."""


def _attempts(evidence: Evidence) -> Verdict:
    """Follow the live attempt of each trial, and check that events come from it: the fence, seen from outside."""
    live: dict[Key, int] = {}
    last: dict[Key, int] = defaultdict(int)
    over: set[Key] = set()
    faults, started = [], 0
    for event, key in _of_trials(evidence.logged):
        who = f"event {event.seq}: {key[0]} trial {key[1]} attempt {event.attempt}"
        attempt = event.attempt or 0
        if event.name in _AGAIN:
            over.discard(key)
        elif key in over and event.name not in _OF_THE_ENDED:
            faults.append(f"{who}: {event.name} after the trial had ended")
        if event.name == "trial.started":
            started += 1
            if key in live:
                faults.append(f"{who} began while attempt {live[key]} was live")
            if attempt <= last[key]:
                faults.append(f"{who} began after attempt {last[key]}")
            live[key], last[key] = attempt, max(attempt, last[key])
        elif event.name in _OF_AN_ATTEMPT:
            if live.get(key) != attempt:
                faults.append(f"{who}: {event.name}, but {live.get(key, 'none')} was live")
            if event.name == "trial.requeued":
                live.pop(key, None)
        elif event.name in ("trial.finished", "trial.failed"):
            live.pop(key, None)
            over.add(key)
    faults += [
        f"{row['experiment']} trial {row['trial']} has two live attempts in the store"
        for row, count in _live_in_store(evidence.stored)
        if count > 1
    ]
    return Verdict(
        "attempts", "at most one attempt of a trial lives, and only it reports", f"{started} attempts", faults
    )


def _live_in_store(stored: Rows) -> list[tuple[dict[str, Any], int]]:
    rows = [row for row in stored["attempt"] if row["ended_wall"] is None]
    counts = Counter((row["experiment"], row["trial"]) for row in rows)
    return [(row, counts[row["experiment"], row["trial"]]) for row in rows]


def _of_trials(events: Iterable[Event]) -> Iterator[tuple[Event, Key]]:
    for event in events:
        if event.name.startswith("trial.") and event.experiment is not None and event.trial is not None:
            yield event, (event.experiment, event.trial)


def _that_count(evidence: Evidence) -> list[tuple[Event, Key]]:
    """Return the events of trials that count: of a trial that began anew, those since then."""
    found = list(_of_trials(evidence.logged))
    anew = {key: event.seq for event, key in found if event.name in _AGAIN and event.fields.get("anew", True)}
    return [(event, key) for event, key in found if event.seq > anew.get(key, 0)]


def _ends_that_count(evidence: Evidence) -> Counter[Key]:
    """Count the ends of each trial: of one that went on after an end, those since then."""
    ends: Counter[Key] = Counter()
    for event, key in _of_trials(evidence.logged):
        if event.name in _AGAIN:
            del ends[key]
        ends[key] += event.name in ("trial.finished", "trial.failed")
    return ends


def _ends(evidence: Evidence) -> Verdict:
    ends = _ends_that_count(evidence)
    states = {row["name"]: ProcessState(row["state"]) for row in evidence.stored["experiment"]}
    faults, ended = [], 0
    for trial in evidence.stored["trial"]:
        key = (trial["experiment"], trial["number"])
        over = TrialState(trial["state"]) in TRIAL_ENDED
        ended += over
        if ends[key] != over:
            faults.append(f"{key[0]} trial {key[1]} is {trial['state']} and its end was recorded {ends[key]} times")
        if not over and states[trial["experiment"]] is ProcessState.EXITED:
            faults.append(f"{key[0]} has finished, and its trial {key[1]} is {trial['state']}")
    run = ProcessState(evidence.stored["run"][0]["state"])
    if run is ProcessState.EXITED:
        faults += [
            f"the run has finished, and {name} is {state}" for name, state in states.items() if state not in ENDED
        ]
    return Verdict("ends", "what has ended has ended once, and leaves nothing open", f"{ended} trials", faults)


def _causes(evidence: Evidence) -> Verdict:
    lost = [event for event in evidence.logged if event.name == "trial.requeued"]
    faults = [
        f"event {event.seq}: {event.experiment} trial {event.trial} was requeued without a cause"
        for event in lost
        if not event.fields.get("cause")
    ]
    faults += [
        f"{row['experiment']} trial {row['trial']} attempt {row['attempt']} ended without a cause"
        for row in evidence.stored["attempt"]
        if row["ended_wall"] is not None and not row["cause"]
    ]
    return Verdict("causes", "each attempt that was lost has its cause", f"{len(lost)} lost", faults)


def _counts(evidence: Evidence) -> Verdict:
    faults, total = [], 0
    for experiment in evidence.stored["experiment"]:
        name, spec = experiment["name"], json.loads(experiment["spec"])
        trials = [
            {**row, "params": json.loads(row["params"]), "record": json.loads(row["record"])}
            for row in evidence.stored["trial"]
            if row["experiment"] == name
        ]
        total += len(trials)
        numbers = sorted(trial["number"] for trial in trials)
        if numbers != list(range(len(numbers))):
            faults.append(f"{name}: its trials are numbered {numbers}")
        wanted = finalists.trials_in_all(spec, trials)
        if len(trials) > spec["max_trials"]:
            faults.append(f"{name} has {len(trials)} trials, more than its {spec['max_trials']}")
        fewer = ProcessState(experiment["state"]) is ProcessState.EXITED and len(trials) < wanted
        if fewer and not _out_of_time(evidence, name, spec):
            faults.append(f"{name} has finished with {len(trials)} trials instead of {wanted}")
    return Verdict("counts", "each experiment has its trials, unless its hours were over", f"{total} trials", faults)


def _out_of_time(evidence: Evidence, name: str, spec: dict[str, Any]) -> bool:
    """Return whether the experiment's `max_hours` were used up, less a minute for its driver."""
    if spec.get("max_hours") is None:
        return False
    events = [
        (e.name, e.wall_s, e.fields)
        for e in evidence.logged
        if e.experiment == name or e.name.startswith("daemon.") or e.name in ("machine.slept", "clock.set")
    ]
    return driven_seconds(events) >= float(spec["max_hours"]) * 3600.0 - 60.0


def _checkpoints(evidence: Evidence) -> Verdict:
    return Verdict(
        "checkpoints", "the checkpoint that each waiting trial resumes from is whole",
        f"{evidence.checkpoints} checked", evidence.checkpoint_faults,
    )  # fmt: skip


def _epochs(evidence: Evidence) -> Verdict:
    """Check what attempts train again: it is bounded by the time between checkpoints and one epoch.

    An attempt resumes from the newest checkpoint or the one before it. A function chooses the epochs that it saves, so
    of its work only the checkpoints are checked. Attempts whose newest checkpoint could not be read, and that recorded
    it, are left out.
    """
    unusable = {(e.experiment, e.trial, e.attempt) for e in evidence.logged if e.name == "checkpoint.rejected"}
    every_s = {row["name"]: seconds_between(json.loads(row["spec"])) for row in evidence.stored["experiment"]}
    work: dict[Key, Work] = defaultdict(Work)
    again, faults = 0, []
    for event, key in _that_count(evidence):
        if event.name in ("trial.reported", "trial.repeated"):
            work[key].report(event.fields)
            again += event.name == "trial.repeated"
        elif event.name == "trial.started":
            begins = event.fields["resumed_step"] or 0
            fault = work[key].fault(begins, every_s[key[0]])
            if fault is not None and (*key, event.attempt) not in unusable:
                faults.append(f"event {event.seq}: {key[0]} trial {key[1]} {fault}")
            work[key].begin(begins)
        elif event.name == "trial.extended":
            # A person asked for the epochs after it again: with another end they have other learning rates.
            work[key].begin(event.fields["from_step"] or 0)
    claim = "a fault costs the work since the last checkpoint, no more"
    return Verdict("epochs", claim, f"{again} repeated", faults)


_CHECKS: tuple[Callable[[Evidence], Verdict], ...] = (
    _chain, _order, _replay, _results, _attempts, _ends, _causes, _counts, _checkpoints, _epochs,
)  # fmt: skip
