"""Test the figures of the dry run that a run's ETA begins with."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.domain.eta.trial_work import OPERATIONS, epoch_work
from supervisor.home import Home
from supervisor.plan.expansion import ExperimentSpec, expand
from supervisor.plan.loader import load_plan
from supervisor.preflight.work_figures import work_figures
from tests.unit.preflight.test_estimate import EXAMPLE, dataset


def phase6a(folder: Path, only: str, *sets: str) -> ExperimentSpec:
    return expand(load_plan("phase6a", sets).plan, 25, dataset(folder), only=only)[0]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.state.mkdir(parents=True)
    return home


def test_each_shape_has_its_work_and_a_larger_budget_has_more(tmp_path: Path, home: Home) -> None:
    specs = [phase6a(tmp_path, only) for only in ("2M", "200M")]
    found = work_figures(home, [spec.model_dump(mode="json") for spec in specs], 2)
    small, large = (found[spec.name] for spec in specs)
    ranks = specs[0].space["shape_rank"]
    assert ranks.type == "int"
    works = [epoch_work(small, {"shape_rank": rank}) for rank in range(ranks.low, ranks.high + 1)]
    assert min(works) > 0.0
    assert min(works) <= small["epoch_s"] * 1.2
    assert large["epoch_s"] > 10 * small["epoch_s"]
    assert small["basis"] == "rule of thumb"
    assert small["at_once"] == 2


def test_on_a_gpu_without_timed_steps_the_work_is_that_of_operations(tmp_path: Path, home: Home) -> None:
    specs = [phase6a(tmp_path, only, "resources.gpu=1") for only in ("2M", "200M")]
    found = work_figures(home, [spec.model_dump(mode="json") for spec in specs], 2)
    small, large = (found[spec.name] for spec in specs)
    assert small["basis"] == large["basis"] == OPERATIONS
    assert large["epoch_s"] / small["epoch_s"] == pytest.approx(100.0, rel=0.3)


def test_a_trainable_of_ones_own_and_a_missing_dataset_have_none(home: Home, tmp_path: Path) -> None:
    own = [spec.model_dump(mode="json") for spec in expand(load_plan(EXAMPLE).plan)]
    lost = phase6a(tmp_path, "2M").model_dump(mode="json")
    lost["config"]["dataset"] = str(tmp_path / "gone.parquet")
    assert work_figures(home, [*own, lost], 2) == {}
