"""What the chaos test concludes: from what it saw at the time, from what is left, and from the trials' own diary.

Pure. `supervisorctl audit` asks the product's own evidence; these checks ask what the product never wrote itself.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from benchmarks.chaos_trainable import BATCHES, EPOCHS, expected_losses

Key = tuple[int, int]
"""A trial: its experiment's part and its number."""

MAX_LOSS_EPOCHS = 2.0
MAX_DESCRIPTORS_MORE = 16
MAX_CHECKPOINTS_OF_A_TRIAL = 3
"""The newest two, and one that a kill left half written."""
MAX_FAULTS_SHOWN = 5


@dataclass(frozen=True)
class Line:
    """Of the diary: a batch (from 0) began at this moment in that process, or an epoch (from 1) was at its end."""

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
    """A trial as the store has it in the end. `results` are (step, value)."""

    experiment: str
    part: int
    number: int
    x: float
    end_reason: str | None
    results: tuple[tuple[int, float | None], ...]


@dataclass
class Evidence:
    """All that is judged. `seen` are the log's events as they were read while the faults came; `told` the log's in the
    end. `quiet` are spans of monotonic seconds in which nothing may run. `descriptors` of each daemon, by its pid.
    """

    wanted: dict[int, int] = field(default_factory=dict)
    """How many trials each part has."""
    trials: list[Trial] = field(default_factory=list)
    seen: list[dict[str, Any]] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    diary: list[Line] = field(default_factory=list)
    kills: int = 0
    quiet: list[tuple[float, float]] = field(default_factory=list)
    descriptors: dict[int, list[int]] = field(default_factory=dict)
    checkpoints: dict[str, int] = field(default_factory=dict)
    """Checkpoints on the disk, by the trial's folder."""
    left: list[str] = field(default_factory=list)
    """Processes with the run's mark after its end."""
    troubles: list[str] = field(default_factory=list)
    """What went wrong while the faults came: work that did not go on, a daemon that ended by itself."""
    audit: str | None = None
    """What `supervisorctl audit` said, if it was not content."""


@dataclass(frozen=True)
class Verdict:
    """One promise, a figure, and every way in which it was broken."""

    claim: str
    figure: str
    faults: list[str]


def parse_diary(lines: Iterable[str]) -> list[Line]:
    """A last line that a kill cut short is left out."""
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
    told = {*_results(evidence.told), *_ends(evidence.told)}
    stored = {
        (trial.experiment, trial.number, step, value)
        for trial in evidence.trials
        for step, value in (*trial.results, ("its end", trial.end_reason))
    }
    seen = [*_results(evidence.seen), *_ends(evidence.seen)]
    faults = [f"{fact} was committed, and is not in the log" for fact in seen if fact not in told]
    faults += [f"{fact} was committed, and is not in the store" for fact in seen if fact not in stored]
    return Verdict("no committed result is lost", f"{len(faults)} lost of {len(seen)}", faults)


def _twice(evidence: Evidence) -> Verdict:
    keys = [fact[:3] for fact in (*_results(evidence.told), *_ends(evidence.told))]
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
    return Verdict("each loss is what an undisturbed trial gives, to the bit", f"{count} losses", faults)


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
    """A process that goes on with a trial after another one began it: two attempts were live."""
    faults, attempts = [], 0
    for key, lines in _of_each_trial(evidence.diary).items():
        runs = [lines[0].pid, *(after.pid for before, after in pairwise(lines) if after.pid != before.pid)]
        attempts += len(runs)
        if len(set(runs)) < len(runs):
            faults.append(f"part {key[0]} trial {key[1]} was trained by the processes {runs}, in turns")
    return Verdict("at most one attempt of a trial is live", f"{attempts} spans of work", faults)


def losses_in_epochs(diary: Iterable[Line]) -> list[float]:
    """What each new beginning of a trial trained again, in epochs; without those that lost nothing."""
    found = []
    for lines in _of_each_trial(diary).values():
        batches = [line.batch for line in lines if line.batch is not None]
        found += [(before + 1 - after) / BATCHES for before, after in pairwise(batches) if after <= before]
    return found


def whole_epochs_again(diary: Iterable[Line]) -> int:
    """Epochs that were trained to their end more than once, each time but the first."""
    ends = Counter((line.key, line.epoch) for line in diary if line.epoch is not None)
    return sum(count - 1 for count in ends.values())


def _wasted(evidence: Evidence) -> Verdict:
    losses = losses_in_epochs(evidence.diary)
    whole = whole_epochs_again(evidence.diary)
    faults = []
    if whole > evidence.kills:
        faults.append(f"{whole} epochs were trained again from end to end, after {evidence.kills} kills")
    figure = f"{whole} whole epochs again after {evidence.kills} kills, with parts of epochs {sum(losses):.1f}"
    return Verdict("wasted epochs are not more than kills", figure, faults)


def _cheap(evidence: Evidence) -> Verdict:
    """A trial works on for a moment after its daemon is dead, so the epoch at work counts as well."""
    losses = losses_in_epochs(evidence.diary)
    faults = [f"{loss:.2f} epochs were trained again at once" for loss in losses if loss > MAX_LOSS_EPOCHS]
    figure = f"{max(losses, default=0.0):.2f} epochs at once at most"
    return Verdict("a fault costs a trial an epoch, and the one at work", figure, faults)


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
    figure = f"{most} descriptors at most, {max(evidence.checkpoints.values(), default=0)} checkpoints a trial at most"
    return Verdict("descriptors and files do not pile up", figure, faults)


def _gone(evidence: Evidence) -> Verdict:
    return Verdict("no process of the run outlives it", f"{len(evidence.left)} left", evidence.left)


def _went_on(evidence: Evidence) -> Verdict:
    return Verdict("work goes on after each fault", f"{len(evidence.troubles)} troubles", evidence.troubles)


def _audited(evidence: Evidence) -> Verdict:
    faults = [] if evidence.audit is None else [evidence.audit]
    return Verdict("supervisorctl audit is content", "it was asked at the end", faults)


_CHECKS = (_lost, _twice, _true, _complete, _alone, _wasted, _cheap, _obeyed, _flat, _gone, _went_on, _audited)


def render(verdicts: Sequence[Verdict]) -> str:
    lines = [f"  {'BROKEN' if v.faults else 'holds '}  {v.claim:<58} {v.figure}" for v in verdicts]
    for verdict in verdicts:
        lines += [f"{verdict.claim}: {fault}" for fault in verdict.faults[:MAX_FAULTS_SHOWN]]
        if len(verdict.faults) > MAX_FAULTS_SHOWN:
            lines.append(f"{verdict.claim}: and {len(verdict.faults) - MAX_FAULTS_SHOWN} more")
    return "\n".join(lines)
