"""The benchmark of growth: its figures are of the first and of the last tenth of the trials."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.growth import alone, driver_start, figures
from benchmarks.growth.__main__ import numbers
from benchmarks.growth.figures import Sample
from benchmarks.growth.real import plan_text
from supervisor.plan.loader import load_plan


def ends(*durations: float) -> list[float]:
    return [sum(durations[: place + 1]) for place in range(len(durations))]


def test_the_tenths_leave_out_the_start_of_the_workers() -> None:
    first, last = figures.tenths(ends(50.0, 9.0, 9.0, 9.0, *[1.0] * 10, *[2.0] * 80, *[4.0] * 10))
    assert first == pytest.approx(1.0)
    assert last == pytest.approx(4.0)


def test_too_few_trials_have_no_tenths() -> None:
    with pytest.raises(ValueError, match="at least 23 trials, found 22"):
        figures.tenths(ends(*[1.0] * 22))


def test_a_runs_figures_are_of_its_first_and_of_its_last_samples() -> None:
    samples = [Sample(0, 1, 1, 9.0), Sample(5, 100, 10, 0.01), Sample(50, 150, 11, 0.02), Sample(95, 190, 12, 0.03)]
    found = figures.grown(100, ends(*[1.0] * 100), 103.5, samples, 7, 8)
    assert (found.driver_bytes, found.daemon_bytes) == ((100, 190), (10, 12))
    assert found.status_s == (0.01, 0.03)
    assert found.end_s == pytest.approx(3.5)
    assert len(figures.row(found)) == len(figures.COLUMNS)


def test_without_a_sample_nothing_is_said() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        figures.grown(100, ends(*[1.0] * 100), 101.0, [], 7, 8)


def test_a_table_has_each_row_as_wide_as_its_head() -> None:
    lines = figures.markdown(("a", "b"), [("1", "2"), ("3", "4")]).splitlines()
    assert lines == ["| a | b |", "|---:|---:|", "| 1 | 2 |", "| 3 | 4 |"]


def test_numbers_are_read_and_zero_is_none() -> None:
    assert numbers("100,1000") == [100, 1000]
    assert numbers("0") == []


def test_the_plan_of_a_run_is_sound(tmp_path: Path) -> None:
    (tmp_path / "growth.yaml").write_text(plan_text(100, "random"))
    plan = load_plan(str(tmp_path / "growth.yaml")).plan
    assert (plan.name, plan.max_trials) == ("growth", 100)


def test_trials_without_ray_are_written_read_audited_and_rebuilt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver's part in this process: another one would import Ray again."""

    def started_here(lines: Path, folder: Path) -> dict[str, float]:
        folder.mkdir()
        return driver_start.measure(lines, folder)

    monkeypatch.setattr(alone, "driver_start", started_here)
    found = alone.row(tmp_path, 30)
    assert len(found) == len(alone.COLUMNS)
    assert found[0] == "30"
    lines = (tmp_path / "begin.jsonl").read_bytes().splitlines()
    assert len(json.loads(lines[-1])["trials"]) == 30 + alone.ASKS
