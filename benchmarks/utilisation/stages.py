"""Divide a run into stages by what runs at each moment, and average samples over them. Pure.

A moment belongs to the first of these that holds: a trial of the search runs, one of the finalisation or walk-forward
runs, a test is open, no trial has begun yet (start), the run is finished (report), else nothing runs (between).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.startup.seconds import at
from supervisor.domain.finalists import phase

Event = Mapping[str, Any]
Place = tuple[str, int]
"""An experiment's name and a trial's number."""

START, SEARCH, FINALISATION, TEST, BETWEEN, REPORT = (
    "start", "search", "finalisation", "test", "between", "report",
)  # fmt: skip
STAGES = (START, SEARCH, FINALISATION, TEST, BETWEEN, REPORT)
BEGINS = frozenset({"trial.started", "trial.resumed"})
ENDS = frozenset({"trial.finished", "trial.failed", "trial.requeued", "trial.paused"})
TEST_ENDS = frozenset({"test.scored", "test.failed", "test.refused"})
LAST = frozenset({"report.written", "report.failed"})


@dataclass(frozen=True)
class Span:
    """A stage from one moment to another, in seconds since the epoch."""

    stage: str
    from_s: float
    to_s: float


@dataclass
class _Running:
    """Holds what runs, as far as the events have been read."""

    sources: dict[Place, str] = field(default_factory=dict)
    trials: set[Place] = field(default_factory=set)
    tests: set[str] = field(default_factory=set)
    begun: bool = False
    finished: bool = False

    def take(self, event: Event) -> None:
        name, experiment = event["event"], event.get("experiment") or ""
        place = experiment, int(event.get("trial") or 0)
        if name == "trial.added":
            self.sources[place] = event["source"]
        elif name in BEGINS:
            self.trials.add(place)
            self.begun = True
        elif name in ENDS:
            self.trials.discard(place)
        elif name == "test.opened":
            self.tests.add(experiment)
        elif name in TEST_ENDS:
            self.tests.discard(experiment)
        elif name == "run.finished":
            self.finished = True

    def stage(self) -> str:
        if self.trials:
            return SEARCH if any(phase(self.sources.get(place, "")) == 0 for place in self.trials) else FINALISATION
        if self.tests:
            return TEST
        if not self.begun:
            return START
        return REPORT if self.finished else BETWEEN


def spans(typed_s: float, events: Iterable[Event]) -> list[Span]:
    """Return the stages of a run in order, from `typed_s`, when it was started, to its report or its last event."""
    running, found, since_s, now_s = _Running(), list[Span](), typed_s, typed_s
    for event in events:
        before, now_s = running.stage(), max(now_s, at(event))
        running.take(event)
        last = event["event"] in LAST
        if (last or running.stage() != before) and now_s > since_s:
            found.append(Span(before, since_s, now_s))
            since_s = now_s
        if last:
            return found
    return [*found, Span(running.stage(), since_s, now_s)] if now_s > since_s else found


def seconds_by_stage(found: Iterable[Span]) -> dict[str, float]:
    """Return the seconds of each stage, 0 for one that did not occur."""
    total = dict.fromkeys(STAGES, 0.0)
    for span in found:
        total[span.stage] += span.to_s - span.from_s
    return total


@dataclass(frozen=True)
class Sample:
    """Holds the use of the cores between two moments: of the run's processes and of the machine, in busy cores."""

    from_s: float
    to_s: float
    run_cores: float
    machine_cores: float


@dataclass(frozen=True)
class Use:
    """Holds the use of the cores in a stage: its seconds with samples, and the mean of busy cores."""

    seconds: float
    run_cores: float
    machine_cores: float


def use_of(samples: Sequence[Sample], parts: Sequence[Span]) -> Use | None:
    """Return the mean use over these spans, each sample weighed by its overlap; None without any overlap."""
    weighed = [
        (min(sample.to_s, span.to_s) - max(sample.from_s, span.from_s), sample) for span in parts for sample in samples
    ]
    kept = [(seconds, sample) for seconds, sample in weighed if seconds > 0.0]
    total = sum(seconds for seconds, _ in kept)
    if total <= 0.0:
        return None
    return Use(
        total,
        sum(seconds * sample.run_cores for seconds, sample in kept) / total,
        sum(seconds * sample.machine_cores for seconds, sample in kept) / total,
    )


def table(runs: Mapping[str, tuple[Sequence[Sample], Sequence[Span]]], cores: int) -> str:
    """Return the table of seconds and mean use by stage, three columns for each checkout, in per cent of all cores."""
    heads = " | ".join(f"{name}, s | run | machine" for name in runs)
    lines = [f"| stage | {heads} |", "|---|" + "---:|" * (3 * len(runs))]
    for stage in (*STAGES, "all"):
        cells = []
        for samples, found in runs.values():
            parts = [span for span in found if stage in (span.stage, "all")]
            use = use_of(samples, parts)
            seconds = sum(span.to_s - span.from_s for span in parts)
            cells += [f"{seconds:.0f}", *(_share(value, cores) for value in _values(use))]
        lines.append(f"| {stage} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _values(use: Use | None) -> tuple[float | None, float | None]:
    return (None, None) if use is None else (use.run_cores, use.machine_cores)


def _share(busy: float | None, cores: int) -> str:
    return "–" if busy is None else f"{busy / cores:.0%}"
