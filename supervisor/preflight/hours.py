"""Says what fits into the hours of each experiment, before anything starts.

The figures are estimates (training_time), from timed steps where there are any. Standard library at import.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from supervisor.domain.search_time import ENOUGH_TRIALS, answer, trials_that_fit
from supervisor.formatting import duration
from supervisor.preflight import training_time
from supervisor.preflight.estimate import misfit
from supervisor.preflight.machine import Check, Level, ok
from supervisor.preflight.step_times import TimedStep

if TYPE_CHECKING:
    from supervisor.plan.expansion import ExperimentSpec

RANK = "shape_rank"


def trial_seconds(spec: ExperimentSpec, cores: int, timed: Sequence[TimedStep] = ()) -> dict[int, float] | None:
    """Return the seconds of all epochs of one trial, by the rank of its shape; None where they are unknown.

    Heads cost next to nothing, so one count stands for all.
    """
    ranks = spec.space.get(RANK)
    dataset = spec.config.get("dataset")
    if spec.trainable != "patchtst" or (spec.resources.gpu > 0 and not timed) or not isinstance(dataset, str):
        return None
    if ranks is None or ranks.type != "int":
        return None
    from supervisor.plan.expansion import grid_of
    from training.data.manifest import read_manifest
    from training.errors import DatasetError

    try:
        manifest = read_manifest(Path(dataset))
    except DatasetError:
        return None
    grid = grid_of(spec.config, manifest.num_features)
    heads = grid.axes()["heads_log2"][0]
    single = spec.model_copy(update={"max_trials": 1, "finalize": None})
    return {
        rank: sum(
            training_time.seconds(
                single, [grid.architecture(rank, heads)], manifest.rows, cores, pruned=False, timed=timed
            ).values()
        )
        for rank in range(ranks.low, ranks.high + 1, ranks.step)
    }  # fmt: skip


@dataclass(frozen=True)
class Outlook:
    """Says what fits into the hours of an experiment; `served` is False if that is too little for a search."""

    served: bool
    words: str


def trials_in_hours(spec: ExperimentSpec, cores: int, timed: Sequence[TimedStep] = ()) -> tuple[int, int] | None:
    """Return how many trials search, and how many follow, as far as the hours go; None where that is unknown."""
    search, final, forward = spec.phases
    if spec.max_hours is None:
        return search, final + forward
    known = trial_seconds(spec, cores, timed)
    if known is None:
        return None
    hours_s = spec.max_hours * 3600.0
    fitting = [seconds for seconds in known.values() if seconds <= hours_s]
    return _counted(spec, hours_s, fitting) if fitting else (0, 0)


def answer_seconds(spec: ExperimentSpec, cores: int, timed: Sequence[TimedStep] = ()) -> float | None:
    """Return the seconds of its hours that an experiment's answer takes: what follows its search. None: unknown."""
    known = trial_seconds(spec, cores, timed)
    if spec.max_hours is None or known is None:
        return None
    hours_s = spec.max_hours * 3600.0
    fitting = [seconds for seconds in known.values() if seconds <= hours_s]
    if not fitting:
        return 0.0
    return min(hours_s, answer(spec.model_dump(mode="json"), hours_s / 2, mean(fitting))[2])


def _counted(spec: ExperimentSpec, hours_s: float, fitting: Sequence[float]) -> tuple[int, int]:
    whole_s = mean(fitting)
    searched_s = whole_s * training_time.searched_epochs(spec) / spec.max_epochs
    return trials_that_fit(spec.model_dump(mode="json"), hours_s, whole_s, searched_s)


def outlook(spec: ExperimentSpec, cores: int, timed: Sequence[TimedStep] = ()) -> Outlook | None:
    """Return what of an experiment does not fit into its hours; None when all fits, or nothing is known."""
    known = trial_seconds(spec, cores, timed) if spec.max_hours is not None else None
    if known is None or spec.max_hours is None:
        return None
    hours_s = spec.max_hours * 3600.0
    fitting = [seconds for seconds in known.values() if seconds <= hours_s]
    if not fitting:
        least = duration(min(known.values()))
        return Outlook(False, f"not served: a single trial takes about {least} or more of its {duration(hours_s)}")
    count = sum(_counted(spec, hours_s, fitting))
    words = [f"about {count} of {spec.max_trials} trials fit into its {duration(hours_s)}"]
    if len(fitting) < len(known):
        words.append(f"{len(known) - len(fitting)} of {len(known)} shapes are left out: one trial takes longer")
    if count < min(ENOUGH_TRIALS, spec.max_trials):
        return Outlook(False, f"not served well: {'; '.join(words)}; fewer than {ENOUGH_TRIALS} trials say little")
    return Outlook(True, "; ".join(words)) if len(words) > 1 or count < spec.max_trials else None


def outlook_lines(
    specs: Sequence[ExperimentSpec], cores: int, memory_bytes: int, timed: Sequence[TimedStep] = ()
) -> list[str]:
    """Return what memory and hours leave of each experiment; neighbours with the same words share a line."""

    def words(spec: ExperimentSpec) -> str | None:
        too_large, found = misfit(spec, memory_bytes), outlook(spec, cores, timed)
        if too_large is not None:
            return f"not served: it {too_large}"
        return None if found is None else found.words

    return _lines([(spec.name, words(spec)) for spec in specs])


def check_hours(specs: Sequence[ExperimentSpec], cores: int, timed: Sequence[TimedStep] = ()) -> Check:
    """Check that each experiment can search in the hours that it has."""
    found = [(spec.name, outlook(spec, cores, timed)) for spec in specs]
    lacking = _lines([(name, one.words if one is not None and not one.served else None) for name, one in found])
    if lacking:
        remedy = "give more with --hours, or choose others with --experiments"
        return Check("hours", Level.WARNING, "; ".join(lacking), remedy)
    total = sum(spec.max_hours or 0.0 for spec in specs)
    return ok("hours", f"at most {total:.4g} of training" if total else "no limit")


def _lines(found: Sequence[tuple[str, str | None]]) -> list[str]:
    return [
        f"{', '.join(name for name, _ in group)}: {words}"
        for words, group in groupby(found, key=lambda one: one[1])
        if words is not None
    ]
