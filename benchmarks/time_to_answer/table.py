"""Put searches into tables: times to the loss, ratios, final answers, each seed, and this system's profile. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from benchmarks.time_to_answer import profile
from benchmarks.time_to_answer.reach import (
    Interval,
    Measured,
    Time,
    median,
    median_of,
    paired,
    ratio,
    ratio_interval,
    targets,
    time_to,
)
from benchmarks.utilisation.stages import STAGES

Found = Mapping[str, Sequence[Measured]]
"""Each contender's searches, of the same seeds in the same order."""


def text(found: Found, reference: str, ours: str, within: float) -> str:
    """Return all tables. Raises ValueError without a seed that all contenders have."""
    if not found[reference]:
        raise ValueError("expected a seed that all contenders have, found none; measure at least one whole seed")
    losses = targets(found[reference], within)
    times = {
        name: [time_to(one, loss) for one, loss in zip(searches, losses, strict=True)]
        for name, searches in found.items()
    }
    goal = f"within {within:.1%} of the {reference}'s best"
    parts = [
        f"{len(losses)} seeds; the loss to reach: {goal}",
        _contenders(found, times),
        _ratios(times, ours),
        _answers(found, ours),
        _seeds(found, times),
        _profile(found[ours]),
    ]
    return "\n\n".join(parts)


def _contenders(found: Found, times: Mapping[str, Sequence[Time]]) -> str:
    lines = [
        "| contender | to the loss, s | reached | search, s | command, s | epochs | epochs/s of search | best loss |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, searches in found.items():
        reached = sum(time.reached for time in times[name])
        cut = sum(one.cut for one in searches)
        epochs = median_of(searches, lambda one: len(one.reports))
        pace = median_of(searches, lambda one: len(one.reports) / one.search_s)
        lines.append(
            f"| {name} | {_median(times[name])} | {reached} of {len(searches)}{f', {cut} cut' if cut else ''} "
            f"| {median_of(searches, lambda one: one.search_s):.0f} "
            f"| {median_of(searches, lambda one: one.whole_s):.0f} | {epochs:.0f} | {pace:.2f} "
            f"| {_loss(_median_best(searches))} |"
        )
    return "\n".join([*lines, "", "Medians over seeds; the first by Kaplan and Meier."])


def _ratios(times: Mapping[str, Sequence[Time]], ours: str) -> str:
    lines = [
        "| ratio of the medians of times to the loss | ratio | 95 % interval, bootstrap over seeds |",
        "|---|---:|---|",
    ]
    for name in times:
        if name != ours:
            interval = ratio_interval(times[name], times[ours])
            bounds = "–" if interval is None else f"{_ratio(interval.low)} to {_ratio(interval.high)}"
            lines.append(f"| {name} / {ours} | {_ratio(ratio(median(times[name]), median(times[ours])))} | {bounds} |")
    return "\n".join(lines)


def _answers(found: Found, ours: str) -> str:
    lines = ["| final best loss | mean difference | 95 % interval, paired t |", "|---|---:|---|"]
    for name, searches in found.items():
        if name == ours:
            continue
        pairs = [
            (one.best, other.best)
            for one, other in zip(found[ours], searches, strict=True)
            if one.best is not None and other.best is not None
        ]
        interval = paired([one for one, _ in pairs], [other for _, other in pairs])
        lines.append(f"| {ours} less {name} | {_difference(pairs, interval)} |")
    return "\n".join(lines)


def _difference(pairs: Sequence[tuple[float, float]], interval: Interval | None) -> str:
    if not pairs:
        return "– | –"
    mean = statistics.fmean(one - other for one, other in pairs)
    return f"{mean:+.5f} | –" if interval is None else f"{mean:+.5f} | {interval.low:+.5f} to {interval.high:+.5f}"


def _seeds(found: Found, times: Mapping[str, Sequence[Time]]) -> str:
    heads = " | ".join(f"{name}: s to the loss | best | epochs | search, s" for name in found)
    lines = [f"| seed | {heads} |", "|---|" + "---:|" * (4 * len(found))]
    for place, first in enumerate(next(iter(found.values()))):
        cells = []
        for name, searches in found.items():
            one, time = searches[place], times[name][place]
            reached = f"{time.seconds:.0f}" if time.reached else f"> {time.seconds:.0f}"
            cells += [reached, _loss(one.best), str(len(one.reports)), f"{one.search_s:.0f}"]
        lines.append(f"| {first.seed} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _profile(searches: Sequence[Measured]) -> str:
    """Return where this system's seconds went: stages of the run, then what its workers did in the search."""
    whole = [sum(one.stages.get(stage, 0.0) for stage in STAGES) for one in searches]
    lines = ["| this system | seconds | share |", "|---|---:|---:|"]
    lines += [_line(stage, [one.stages.get(stage, 0.0) for one in searches], whole) for stage in STAGES]
    workers = [one.stages.get(profile.OF_WORKERS, 0.0) for one in searches]
    trials = [one.stages.get(profile.IN_TRIALS, 0.0) for one in searches]
    epochs = [one.stages.get(profile.IN_EPOCHS, 0.0) for one in searches]
    beside = [trial - epoch for trial, epoch in zip(trials, epochs, strict=True)]
    idle = [worker - trial for worker, trial in zip(workers, trials, strict=True)]
    lines += [
        _line("workers in the search: training and validation", epochs, workers),
        _line("… in a trial, beside its epochs", beside, workers),
        _line("… without a trial", idle, workers),
    ]
    return "\n".join(lines)


def _line(words: str, seconds: Sequence[float], of: Sequence[float]) -> str:
    shares = [part / whole for part, whole in zip(seconds, of, strict=True) if whole > 0.0]
    share = f"{statistics.median(shares):.0%}" if shares else "–"
    return f"| {words} | {statistics.median(seconds):.1f} | {share} |"


def _median(times: Sequence[Time]) -> str:
    found = median(times)
    return "not reached by half" if found is None else f"{found:.0f}"


def _ratio(value: float | None) -> str:
    if value is None:
        return "not known: neither reached by half"
    if math.isinf(value):
        return "infinite: only reached by the second"
    return f"{value:.2f}"


def _median_best(searches: Sequence[Measured]) -> float | None:
    known = [one.best for one in searches if one.best is not None]
    return statistics.median(known) if known else None


def _loss(value: float | None) -> str:
    return "–" if value is None else f"{value:.5f}"
