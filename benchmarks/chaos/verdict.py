"""Judge the chaos test by its observations, the remaining files and the trials' diary. Pure.

`supervisorctl audit` checks the product's own evidence; these checks use evidence that the product did not write.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from benchmarks.chaos.trainable import BATCHES, EPOCHS, EPOCHS_BETWEEN, expected_losses

Key = tuple[int, int]
"""A trial: its experiment's part and its number."""

MAX_LOSS_EPOCHS = EPOCHS_BETWEEN + 1.0
MAX_DESCRIPTORS_MORE = 16
MAX_CHECKPOINTS_OF_A_TRIAL = 3
"""The newest two, and a half-written one of a kill."""
MAX_FAULTS_SHOWN = 5


@dataclass(frozen=True)
class Line:
    """A line of the diary: a batch (from 0) began in this process, or an epoch (from 1) ended."""

    mono_s: float
    pid: int
    part: int
    number: int
    batch: int | None = None
    epoch: int | None = None

    @property
    def key(self) -> Key:
        return self.part, self.number


@dataclass(frozen=True)
class Trial:
    """A trial of the store at the end; `results` are (step, value)."""

    experiment: str
    part: int
    number: int
    x: float
    end_reason: str | None
    results: tuple[tuple[int, float | None], ...]


@dataclass
class Evidence:
    """The evidence of a run.

    `seen` are the log's events as read during the faults, `logged` those at the end. `quiet` are spans of monotonic
    seconds in which no batch may run. `descriptors` are counts of each daemon, by its pid.
    """

    wanted: dict[int, int] = field(default_factory=dict)
    """The number of trials of each part."""
    trials: list[Trial] = field(default_factory=list)
    seen: list[dict[str, Any]] = field(default_factory=list)
    logged: list[dict[str, Any]] = field(default_factory=list)
    diary: list[Line] = field(default_factory=list)
    kills: int = 0
    quiet: list[tuple[float, float]] = field(default_factory=list)
    descriptors: dict[int, list[int]] = field(default_factory=dict)
    checkpoints: dict[str, int] = field(default_factory=dict)
    """Checkpoints on the disk, by the trial's folder."""
    left: list[str] = field(default_factory=list)
    """Processes with the run's mark that live after its end."""
    troubles: list[str] = field(default_factory=list)
    """Problems during the faults: work that did not resume, a daemon that ended by itself."""
    audit: str | None = None
    """The output of `supervisorctl audit`, if it found a broken promise."""


@dataclass(frozen=True)
class Verdict:
    """One promise, a figure, and each case that broke it."""

    claim: str
    figure: str
    faults: list[str]


def parse_diary(lines: Iterable[str]) -> list[Line]:
    """Parse the diary; leave out a last line that a kill cut short."""
    found = []
    for line in lines:
        parts = line.split()
        if len(parts) == 6 and line.endswith("\n"):
            moment, pid, part, number, what, count = parts
            found.append(Line(float(moment), int(pid), int(part), int(number), **{what: int(count)}))
    return found


def judge(evidence: Evidence) -> list[Verdict]:
    return [one(evidence) for one in _CHECKS]


def _results(events: Iterable[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    for event in events:
        if event["event"] == "trial.reported":
            yield event["experiment"], event["trial"], event["step"], event["value"]


def _ends(events: Iterable[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    for event in events:
        if event["event"] in ("trial.finished", "trial.failed"):
            yield event["experiment"], event["trial"], "its end", event["end_reason"]


def _lost(evidence: Evidence) -> Verdict:
    logged = {*_results(evidence.logged), *_ends(evidence.logged)}
    stored = {
        (trial.experiment, trial.number, step, value)
        for trial in evidence.trials
        for step, value in (*trial.results, ("its end", trial.end_reason))
    }
    seen = [*_results(evidence.seen), *_ends(evidence.seen)]
    faults = [f"{fact} was committed, and is not in the log" for fact in seen if fact not in logged]
    faults += [f"{fact} was committed, and is not in the store" for fact in seen if fact not in stored]
    return Verdict("no committed result is lost", f"{len(faults)} lost of {len(seen)}", faults)


def _twice(evidence: Evidence) -> Verdict:
    keys = [fact[:3] for fact in (*_results(evidence.logged), *_ends(evidence.logged))]
    faults = [f"{key} was counted {count} times" for key, count in Counter(keys).items() if count > 1]
    return Verdict("no result is counted twice", f"{len(faults)} twice of {len(keys)}", faults)


def _true(evidence: Evidence) -> Verdict:
    faults, count = [], 0
    for trial in evidence.trials:
        count += len(trial.results)
        wanted = list(expected_losses(trial.part, trial.number, trial.x))[: len(trial.results)]
        steps = [step for step, _ in trial.results]
        if steps != list(range(1, len(steps) + 1)):
            faults.append(f"part {trial.part} trial {trial.number} has the epochs {steps}")
        elif [value for _, value in trial.results] != wanted:
            faults.append(f"part {trial.part} trial {trial.number} has other losses than its parameters give")
    return Verdict("each loss equals an undisturbed trial's, to the bit", f"{count} losses", faults)


def _complete(evidence: Evidence) -> Verdict:
    counts = Counter(trial.part for trial in evidence.trials)
    faults = [
        f"part {part} has {counts[part]} trials of {n}" for part, n in evidence.wanted.items() if counts[part] != n
    ]
    for trial in evidence.trials:
        whole = trial.end_reason == "finished" and len(trial.results) == EPOCHS
        if not whole and not (trial.end_reason == "pruned" and trial.results):
            faults.append(
                f"part {trial.part} trial {trial.number} ended as {trial.end_reason} after {len(trial.results)} epochs"
            )
    return Verdict("each trial ends, finished or pruned", f"{len(evidence.trials)} trials", faults)


def _of_each_trial(diary: Iterable[Line]) -> dict[Key, list[Line]]:
    found: dict[Key, list[Line]] = defaultdict(list)
    for line in sorted(diary, key=lambda line: line.mono_s):
        found[line.key].append(line)
    return found


def _alone(evidence: Evidence) -> Verdict:
    """Find processes that continue a trial after another process began it: two attempts were live."""
    faults, attempts = [], 0
    for key, lines in _of_each_trial(evidence.diary).items():
        runs = [lines[0].pid, *(after.pid for before, after in pairwise(lines) if after.pid != before.pid)]
        attempts += len(runs)
        if len(set(runs)) < len(runs):
            faults.append(f"part {key[0]} trial {key[1]} was trained by the processes {runs}, in turns")
    return Verdict("at most one attempt of a trial is live", f"{attempts} spans of work", faults)


def losses_in_epochs(diary: Iterable[Line]) -> list[float]:
    """List the epochs that each restart of a trial trained again, without restarts that lost nothing."""
    found = []
    for lines in _of_each_trial(diary).values():
        batches = [line.batch for line in lines if line.batch is not None]
        found += [(before + 1 - after) / BATCHES for before, after in pairwise(batches) if after <= before]
    return found


def whole_epochs_again(diary: Iterable[Line]) -> int:
    """Count the repetitions of epochs that were trained to their end more than once."""
    ends = Counter((line.key, line.epoch) for line in diary if line.epoch is not None)
    return sum(count - 1 for count in ends.values())


def _wasted(evidence: Evidence) -> Verdict:
    losses = losses_in_epochs(evidence.diary)
    whole = whole_epochs_again(evidence.diary)
    faults = []
    if whole > EPOCHS_BETWEEN * evidence.kills:
        faults.append(f"{whole} epochs were trained again from end to end, after {evidence.kills} kills")
    figure = f"{whole} whole epochs again after {evidence.kills} kills, with parts of epochs {sum(losses):.1f}"
    return Verdict("wasted epochs are not more than those between checkpoints", figure, faults)


def _cheap(evidence: Evidence) -> Verdict:
    """Find restarts that repeat more than the epochs since a checkpoint and the one in progress.

    A trial works for a moment after the death of its daemon, so the epoch in progress counts, too.
    """
    losses = losses_in_epochs(evidence.diary)
    faults = [f"{loss:.2f} epochs were trained again at once" for loss in losses if loss > MAX_LOSS_EPOCHS]
    figure = f"at most {max(losses, default=0.0):.2f} epochs at once"
    return Verdict("a fault costs the work since the last checkpoint, no more", figure, faults)


def _obeyed(evidence: Evidence) -> Verdict:
    faults = []
    for begin_s, end_s in evidence.quiet:
        late = [line for line in evidence.diary if line.batch is not None and begin_s < line.mono_s < end_s]
        if late:
            faults.append(f"{len(late)} batches ran in a pause of {end_s - begin_s:.1f} s, the first {late[0]}")
    return Verdict("a pause holds, through kills too", f"{len(evidence.quiet)} pauses", faults)


def _flat(evidence: Evidence) -> Verdict:
    faults, most = [], 0
    for pid, counts in evidence.descriptors.items():
        settled = min(counts[:3])
        most = max(most, *counts)
        if counts[-1] > settled + MAX_DESCRIPTORS_MORE:
            faults.append(f"daemon {pid} had {settled} descriptors, and {counts[-1]} in the end")
    faults += [f"{folder} holds {n} checkpoints" for folder, n in evidence.checkpoints.items()
               if n > MAX_CHECKPOINTS_OF_A_TRIAL]  # fmt: skip
    figure = f"at most {most} descriptors, {max(evidence.checkpoints.values(), default=0)} checkpoints a trial"
    return Verdict("descriptors and files do not accumulate", figure, faults)


def _gone(evidence: Evidence) -> Verdict:
    return Verdict("no process of the run outlives it", f"{len(evidence.left)} left", evidence.left)


def _resumed(evidence: Evidence) -> Verdict:
    return Verdict("work resumes after each fault", f"{len(evidence.troubles)} troubles", evidence.troubles)


def _audited(evidence: Evidence) -> Verdict:
    faults = [] if evidence.audit is None else [evidence.audit]
    return Verdict("supervisorctl audit finds nothing broken", "asked at the end", faults)


_CHECKS = (_lost, _twice, _true, _complete, _alone, _wasted, _cheap, _obeyed, _flat, _gone, _resumed, _audited)


def render(verdicts: Sequence[Verdict]) -> str:
    lines = [f"  {'BROKEN' if v.faults else 'holds '}  {v.claim:<58} {v.figure}" for v in verdicts]
    for verdict in verdicts:
        lines += [f"{verdict.claim}: {fault}" for fault in verdict.faults[:MAX_FAULTS_SHOWN]]
        if len(verdict.faults) > MAX_FAULTS_SHOWN:
            lines.append(f"{verdict.claim}: and {len(verdict.faults) - MAX_FAULTS_SHOWN} more")
    return "\n".join(lines)


def wall_s(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["ts"]).timestamp()


def first_result(events: list[dict[str, Any]], since_s: float, *, new_attempt: bool, watched: bool) -> list[float]:
    """Return the wall time of the first result after a moment, or an empty list.

    With `new_attempt` only results of attempts that began after it count, with `watched` only those after the start of
    a watchdog.
    """
    begun: set[tuple[Any, ...]] = set()
    for event in events:
        when_s = wall_s(event)
        if when_s < since_s:
            continue
        key = (event.get("experiment"), event.get("trial"), event.get("attempt"))
        watched = watched and event["event"] != "watchdog.started"
        if event["event"] == "trial.started":
            begun.add(key)
        if event["event"] == "trial.reported" and not watched and (key in begun or not new_attempt):
            return [when_s]
    return []
