"""Test what is said of hours before a start."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.plan.expansion import ExperimentSpec, expand
from supervisor.plan.loader import load_plan
from supervisor.preflight.hours import check_hours, outlook, outlook_lines, trial_seconds
from supervisor.preflight.machine import Level
from tests.unit.preflight.test_estimate import EXAMPLE, dataset

TIB = 2**40


def phase6a(folder: Path, only: str, *sets: str) -> ExperimentSpec:
    return expand(load_plan("phase6a", sets).plan, 25, dataset(folder), only=only)[0]


def test_each_rank_has_its_time_and_more_cores_shorten_it(tmp_path: Path) -> None:
    spec = phase6a(tmp_path, "200M")
    found = trial_seconds(spec, 2)
    assert found is not None
    ranks = spec.space["shape_rank"]
    assert ranks.type == "int"
    assert list(found) == list(range(ranks.low, ranks.high + 1))
    assert min(found.values()) > 0.0
    larger = trial_seconds(phase6a(tmp_path, "2B"), 2)
    assert larger is not None
    assert min(larger.values()) > max(found.values())


def test_without_an_estimate_nothing_is_said(tmp_path: Path) -> None:
    users = expand(load_plan(EXAMPLE).plan, hours=0.001)
    on_gpu = phase6a(tmp_path, "2B", "resources.gpu=1", "max_hours=0.001")
    for spec in (*users, on_gpu):
        assert trial_seconds(spec, 2) is None
        assert outlook(spec, 2) is None
    assert outlook(phase6a(tmp_path, "2M", "hours=null"), 2) is None


@pytest.mark.parametrize(
    ("hours", "served", "words"),
    [
        (10_000.0, None, ""),
        (0.0001, False, "a single trial takes about"),
        (1.7, False, "fewer than 8 trials say little"),
        (15.0, True, "of 50 trials fit into its"),
    ],
)
def test_the_outlook_follows_the_hours(tmp_path: Path, hours: float, served: bool | None, words: str) -> None:
    spec = phase6a(tmp_path, "20M", f"max_hours={hours}")
    seconds = trial_seconds(spec, 2)
    assert seconds is not None
    mean_h = sum(seconds.values()) / len(seconds) / 3600.0
    # In units of a trial of the estimate, which may get better figures.
    scaled = spec.model_copy(update={"max_hours": hours * mean_h})
    found = outlook(scaled, 2)
    assert (None if found is None else found.served) is served
    assert words in ("" if found is None else found.words)


def test_the_check_names_what_is_not_served_and_experiments_with_one_outlook_share_a_line(tmp_path: Path) -> None:
    file = dataset(tmp_path)
    specs = expand(load_plan("phase6a").plan, 25, file, hours=0.01, globs=["20M-*", "200M-h1"])
    found = check_hours(specs, 2)
    assert found.level is Level.WARNING
    assert "200M-h1: not served" in found.detail
    assert "--hours" in (found.remedy or "")
    lines = outlook_lines(specs, 2, TIB)
    assert [line.split(":")[0] for line in lines] == ["20M-h1, 20M-h3, 20M-h5", "200M-h1"]
    assert "does not fit" in outlook_lines(specs[-1:], 2, 2**20)[0]
    assert check_hours(expand(load_plan(EXAMPLE).plan), 2).detail == "no limit"
