"""Writes what a plan costs on this machine, by budget and in total: time, memory and disk.

Standard library at import.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING

from supervisor.domain.checkpoint_schedule import likely_count
from supervisor.formatting import human, table
from supervisor.preflight import training_time
from supervisor.preflight.checkpoint_space import space_of
from supervisor.preflight.estimate import Estimate, architectures, duration, estimate, manifest_value
from supervisor.preflight.hours import answer_seconds, trials_in_hours
from supervisor.preflight.step_times import Basis, TimedStep
from supervisor.preflight.training_time import BASIS, SEARCH

if TYPE_CHECKING:
    from supervisor.plan.expansion import ExperimentSpec

HEADER = (
    "budget", "epoch", "memory of a trial", "fit at once", "run at once", "trials", "time likely", "at most",
    "final trials", "disk at most", "written", "basis",
)  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """Holds the costs of the experiments of one budget; None: unknown.

    All keep to the hours. `trained_s` are the likely epochs, `final_s` those after the search.
    `at_rest_bytes` stay on disk.
    """

    budget: str
    basis: Basis
    epoch_s: float | None
    trial_bytes: int | None
    fit: int | None
    at_once: int
    trials: int | None
    likely_s: float | None
    most_s: float | None
    trained_s: float | None
    final_s: float | None
    peak_bytes: float
    at_rest_bytes: float
    written_bytes: float
    skipped: bool


def budget_table(
    specs: Sequence[ExperimentSpec], memory_bytes: int, cores: int, timed: Sequence[TimedStep] = ()
) -> str:
    """Write a line for each budget and one for all, with the basis of the figures below; "" without a patchtst."""
    costs = costs_of(specs, memory_bytes, cores, timed)
    if not costs:
        return ""
    working = [cost for cost in costs if not cost.skipped]
    lines = table([HEADER, *map(_row, costs), _total(working)])
    used = [basis for basis in Basis if any(cost.basis is basis for cost in working)]
    return "\n".join([*lines, "", *(BASIS[basis] for basis in used), *_explained(working)])


def costs_of(specs: Sequence[ExperimentSpec], memory_bytes: int, cores: int, timed: Sequence[TimedStep]) -> list[Cost]:
    """Return the costs by budget, in the plan's order."""
    groups: dict[str, list[ExperimentSpec]] = {}
    for spec in specs:
        if spec.trainable == "patchtst" and "budget" in spec.config:
            groups.setdefault(str(spec.config["budget"]), []).append(spec)
    return [_cost(budget, group, memory_bytes, cores, timed) for budget, group in groups.items()]


def _cost(
    budget: str, specs: Sequence[ExperimentSpec], memory_bytes: int, cores: int, timed: Sequence[TimedStep]
) -> Cost:
    rows = [estimate(spec, memory_bytes, cores, timed=timed) for spec in specs]
    largest = max((row.largest_bytes for row in rows if row.largest_bytes is not None), default=None)
    counts = [trials_in_hours(spec, cores, timed) for spec in specs]
    disks = [disk_bytes(spec, cores, timed, count) for spec, count in zip(specs, counts, strict=True)]
    kept_before = [sum(rest for _, rest, _ in disks[:number]) for number in range(len(disks))]
    return Cost(
        budget=budget,
        basis=training_time.basis(specs[0], cores, timed)[0],
        epoch_s=_mean(epoch_seconds(spec, cores, timed) for spec in specs),
        trial_bytes=largest,
        fit=None if largest is None else memory_bytes // largest,
        at_once=max(training_time.at_once(spec, cores) for spec in specs),
        trials=_whole(_sum(None if count is None else sum(count) for count in counts)),
        likely_s=_sum(row.likely_seconds for row in rows),
        most_s=_sum(row.most_seconds for row in rows),
        trained_s=_sum(_trained_seconds(spec, row) for spec, row in zip(specs, rows, strict=True)),
        final_s=_sum(_final_seconds(spec, row, cores, timed) for spec, row in zip(specs, rows, strict=True)),
        peak_bytes=max(kept + during for kept, (during, _, _) in zip(kept_before, disks, strict=True)),
        at_rest_bytes=sum(rest for _, rest, _ in disks),
        written_bytes=sum(written for _, _, written in disks),
        skipped=all(row.fitting == 0 for row in rows),
    )


def epoch_seconds(spec: ExperimentSpec, cores: int, timed: Sequence[TimedStep]) -> float | None:
    """Return the seconds of an average epoch of the search; None if unknown."""
    found, rows = list(architectures(spec)), manifest_value(spec.config, "rows")
    if not found or rows is None or (spec.resources.gpu > 0 and not timed):
        return None
    return training_time.epoch_seconds(spec, found, rows, cores, timed)


def disk_bytes(
    spec: ExperimentSpec, cores: int, timed: Sequence[TimedStep], counts: tuple[int, int] | None
) -> tuple[float, float, float]:
    """Return the bytes on disk at most during an experiment, those that stay after it, and all that it writes.

    `counts` are the trials of the search and after it; None: all of the plan.
    """
    space = space_of(spec)
    if space is None:
        return 0.0, 0.0, 0.0
    search, final, forward = spec.phases
    epoch_s = epoch_seconds(spec, cores, timed)

    def written(count: int, epochs: float) -> float:
        trained_s = None if epoch_s is None else epochs * epoch_s
        # By the clock the state after a trial's last epoch is not saved: nothing is trained from there.
        saved = epochs if spec.checkpoint_every_s == 0.0 else max(0.0, epochs - 1.0)
        return count * likely_count(spec.checkpoint_every_s, trained_s, saved, space.checkpoint_bytes)

    searched, followed = (search, final + forward) if counts is None else counts
    checkpoints = written(searched, training_time.searched_epochs(spec)) + written(followed, spec.max_epochs)
    return space.worst_bytes, space.left_bytes, checkpoints * space.checkpoint_bytes


def _trained_seconds(spec: ExperimentSpec, row: Estimate) -> float | None:
    """Return the likely seconds of an experiment's trials."""
    if row.likely_by_phase is None:
        return None
    trained = sum(row.likely_by_phase.values())
    return trained if spec.max_hours is None else min(trained, spec.max_hours * 3600.0)


def _final_seconds(spec: ExperimentSpec, row: Estimate, cores: int, timed: Sequence[TimedStep]) -> float | None:
    """Return the likely seconds of those trials that follow the search."""
    if row.likely_by_phase is None:
        return None
    final = sum(seconds for phase, seconds in row.likely_by_phase.items() if phase != SEARCH)
    bound = answer_seconds(spec, cores, timed)
    return final if bound is None else min(final, bound)


def _row(cost: Cost) -> tuple[str, ...]:
    memory = "unknown" if cost.trial_bytes is None else f"up to {human(cost.trial_bytes)}"
    if cost.skipped:
        return (cost.budget, "-", memory, "0", *["-"] * 7, "skipped")
    return (
        cost.budget, "unknown" if cost.epoch_s is None else _seconds(cost.epoch_s), memory,
        "unknown" if cost.fit is None else str(cost.fit), str(cost.at_once), _count(cost.trials), *_figures([cost]),
        human(cost.peak_bytes), human(cost.written_bytes), cost.basis.value,
    )  # fmt: skip


def _total(costs: Sequence[Cost]) -> tuple[str, ...]:
    peak, rest = 0.0, 0.0
    for cost in costs:
        peak, rest = max(peak, rest + cost.peak_bytes), rest + cost.at_rest_bytes
    written, trials = sum(cost.written_bytes for cost in costs), _sum(cost.trials for cost in costs)
    return ("in all", "", "", "", "", _count(_whole(trials)), *_figures(costs), human(peak), human(written), "")


def _figures(costs: Sequence[Cost]) -> tuple[str, ...]:
    likely, most, final = (
        _sum(times) for times in zip(*((c.likely_s, c.most_s, c.final_s) for c in costs), strict=True)
    )
    share = "unknown" if final is None or not likely else f"{final / likely:.0%}"
    return duration(likely), duration(most), share


def _explained(costs: Sequence[Cost]) -> list[str]:
    if not costs:
        return []
    return [
        "epoch: the mean of all architectures and batch sizes; memory: the largest architecture, its batch at once;",
        "fit at once: such trials in this machine's memory; final trials: their share of the likely time;",
        "trials: as many as the hours let; disk at most: with all before; written: by checkpoints, as time passes",
    ]


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 10 else duration(seconds)


def _count(trials: int | None) -> str:
    return "unknown" if trials is None else str(trials)


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)


def _sum(values: Iterable[float | None]) -> float | None:
    found = list(values)
    known = [value for value in found if value is not None]
    return sum(known) if found and len(known) == len(found) else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None
