"""The comparison of schedules is fair: a branch changes no later step, and a choice is judged on other days."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks.schedules import SCHEDULES, Comparison, missing
from benchmarks.trials import schedule
from benchmarks.trials.schedule import AVERAGE, CONSTANT, PLAIN, Point, Trial, ended, run
from tests.unit.training.small_trial import build, config


def point(epoch: int, loss: float, halves: tuple[float, float] = (0.0, 0.0)) -> Point:
    return Point(epoch, 10 * epoch, 1.0, loss, halves)


def result(name: str, courses: dict[float, list[Point]], seed: int = 1) -> list[dict[str, Any]]:
    """Make the results of one schedule, as they come from a file."""
    return [
        {"training": name, "horizon": 1, "seed": seed, "peak": peak, "cpu_s": 1.0,
         "courses": {name: [asdict(each) for each in course]}}
        for peak, course in courses.items()
    ]  # fmt: skip


def test_branches_change_no_later_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "PATIENCE", 2)
    given = config(build(tmp_path), dropout=0.3)
    courses = []
    for branches in ({"WSD 1": (1, 0.5)}, {}):
        monkeypatch.setattr(schedule, "BRANCHES", branches)
        courses.append(run(Trial(CONSTANT, 3, 1, 0.01), given)["courses"])
    length = min(len(each[PLAIN]) for each in courses)
    assert courses[0][PLAIN][:length] == courses[1][PLAIN][:length]
    assert courses[0][AVERAGE] == courses[1][AVERAGE]
    decayed = courses[0]["WSD 1"]
    assert decayed[0]["loss"] != courses[0][PLAIN][0]["loss"]
    assert decayed[0]["steps"] > courses[0][PLAIN][0]["steps"]


def test_patience_counts_epochs_not_points() -> None:
    assert not ended([point(5, 0.5), point(10, 0.6)], 50)
    assert ended([point(5, 0.5), point(10, 0.6), point(15, 0.6)], 50)
    assert ended([point(15, 0.5)], 15)
    assert not ended([], 15)


def test_the_crossed_loss_is_that_of_the_days_that_did_not_choose() -> None:
    lucky = [point(1, 0.4, (0.1, 0.7)), point(2, 0.5, (0.5, 0.5)), point(3, 0.45, (0.8, 0.1))]
    comparison = Comparison(result(SCHEDULES[0], {1e-3: lucky, 1e-2: [point(1, 0.9, (0.9, 0.9))]}))
    assert comparison.crossed(SCHEDULES[0], (1, 1)) == pytest.approx((0.7 + 0.8) / 2)


def test_orders_of_peaks_are_compared_between_seeds() -> None:
    def courses(*losses: float) -> dict[float, list[Point]]:
        return {float(peak): [point(1, loss)] for peak, loss in enumerate(losses)}

    # Of three pairs, the two seeds disagree in the last.
    results = [
        each
        for name in (SCHEDULES[0], AVERAGE)
        for seed, losses in ((1, (0.1, 0.3, 0.2)), (2, (0.2, 0.3, 0.4)))
        for each in result(name, courses(*losses), seed)
    ]
    row = Comparison(results).row(SCHEDULES[0])
    assert row[-2:] == ["67%", "100%"]


def test_a_second_call_runs_what_is_missing() -> None:
    results = result("cosine 50", {1e-3: [point(1, 0.5)]})
    left = missing(results, [1, 2], [1e-3])
    assert Trial("cosine 50", 1, 1, 1e-3) not in left
    assert Trial("cosine 50", 1, 2, 1e-3) in left
    assert len(left) == len(missing([], [1, 2], [1e-3])) - 1
