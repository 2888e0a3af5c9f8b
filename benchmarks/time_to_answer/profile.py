"""Read from this system's log what its epochs were, and where its wall-clock went. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.startup.seconds import at
from benchmarks.time_to_answer.reach import Measured, Report
from benchmarks.utilisation.stages import ENDS, SEARCH, Event, Span, seconds_by_stage, spans
from supervisor.domain.finalists import phase

TRAIN_S = "time_this_iter_s"
TRIAL_ENDED = ("trial.finished", "trial.failed")
IN_TRIALS, IN_EPOCHS, OF_WORKERS = "search: in trials", "search: in epochs", "search: of all workers"
"""Names of the seconds of workers during the search; those of two workers count double."""


def searched(events: Sequence[Event]) -> set[int]:
    """Return the numbers of the trials of the search."""
    return {int(event["trial"]) for event in events if event["event"] == "trial.added" and phase(event["source"]) == 0}


def reports_of(typed_s: float, events: Sequence[Event]) -> list[Report]:
    """Return the epochs of the search, each once, with a finite loss."""
    trials, found = searched(events), dict[tuple[int, int], Report]()
    for event in events:
        if event["event"] != "trial.reported" or int(event["trial"]) not in trials or event["value"] is None:
            continue
        place = int(event["trial"]), int(event["step"])
        train_s = float(event["metrics"].get(TRAIN_S, 0.0))
        found.setdefault(place, Report(at(event) - typed_s, *place, float(event["value"]), train_s))
    return list(found.values())


def in_trials_s(events: Sequence[Event]) -> float:
    """Return the seconds for which trials of the search had a worker, each worker's counted."""
    trials, since, total = searched(events), dict[int, float](), 0.0
    for event in events:
        number = int(event.get("trial") or 0)
        if event["event"] == "trial.started" and number in trials:
            since[number] = at(event)
        elif event["event"] in ENDS and number in since:
            total += at(event) - since.pop(number)
    return total


def measured(
    seed: int, contender: str, typed_s: float, waited_s: float, events: Sequence[Event], workers: int
) -> Measured:
    """Return what a run's events say; one that has not finished after `waited_s` is cut there.

    Raises ValueError for an experiment that failed, and for a run without a trial.
    """
    for event in events:
        if event["event"] in ("experiment.failed", "run.failed"):
            raise ValueError(f"seed {seed}: expected a run that succeeds, found {event['event']}: {event['msg']}")
    trials, reports = searched(events), reports_of(typed_s, events)
    ends = [at(event) for event in events if event["event"] in TRIAL_ENDED and int(event["trial"]) in trials]
    if not trials:
        raise ValueError(f"seed {seed}: expected a trial, found none; start the plan by hand and see its log")
    over = next((at(event) for event in events if event["event"] == "run.finished"), None)
    cut = over is None
    parts = spans(typed_s, events)
    stages = {**seconds_by_stage(parts), **_of_workers(parts, events, reports, workers)}
    search_s, whole_s = (waited_s, waited_s) if over is None else (max(ends) - typed_s, over - typed_s)
    return Measured(seed, contender, tuple(reports), search_s, whole_s, cut, stages)


def _of_workers(
    parts: Sequence[Span], events: Sequence[Event], reports: Sequence[Report], workers: int
) -> dict[str, float]:
    search_s = sum(span.to_s - span.from_s for span in parts if span.stage == SEARCH)
    return {
        OF_WORKERS: workers * search_s,
        IN_TRIALS: in_trials_s(events),
        IN_EPOCHS: sum(report.train_s for report in reports),
    }
