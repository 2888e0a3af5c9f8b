"""Timing of a plan's steps: which trials are timed, in child processes, and what the cache saves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from supervisor.home import Home
from supervisor.plan.expansion import ExperimentSpec, expand
from supervisor.plan.loader import load_plan
from supervisor.preflight import timing
from supervisor.preflight.estimate import architectures, fitting_architectures, planned
from supervisor.preflight.timing import cases_of, timed_steps
from tests.unit.preflight.test_estimate import EXAMPLE, NUMBERS, dataset, phase6a
from training.grid import Architecture

GIB = 2**30


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.state.mkdir(parents=True)
    return home


def nothing(_: ExperimentSpec) -> list[Architecture]:
    return []


def test_the_fastest_and_the_slowest_architecture_are_timed_by_two_batch_sizes(tmp_path: Path) -> None:
    specs = expand(load_plan("phase6a", NUMBERS).plan, 25, dataset(tmp_path))
    found = list(cases_of(specs, lambda spec: list(architectures(spec)), cores=2))
    assert len(found) == 4 * 4, "four budgets; the horizons of a budget cost the same"
    assert {case.batch for case in found} == {32, 256}
    assert [case.operations for case in found] == sorted(case.operations for case in found)
    assert {(case.threads, case.at_once) for case in found} == {(1, 2)}
    of_2m = {case.architecture for case in found if case.budget == 2_000_000}
    assert len({shape.n_layers for shape in of_2m}) == 2


def test_a_budget_that_does_not_fit_into_memory_is_not_timed(tmp_path: Path) -> None:
    specs = expand(load_plan("phase6a", NUMBERS).plan, 25, dataset(tmp_path))
    found = cases_of(specs, lambda spec: fitting_architectures(spec, 8 * GIB), cores=2)
    assert {case.budget for case in found} == {2_000_000, 20_000_000, 200_000_000}


def test_a_users_own_trainable_is_not_timed(home: Home) -> None:
    users = expand(load_plan(EXAMPLE).plan)
    assert timed_steps(home, users, nothing, 2, GIB).steps == ()


def test_steps_are_timed_in_children_and_then_found_in_the_cache(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from supervisor.plan.dataset import choose_dataset

    plan = load_plan("smoke").plan
    assert plan.data is not None
    chosen = choose_dataset(plan.data, home.data)
    specs = planned(expand(plan, chosen.num_features, chosen.path, only="20k"), 2, 8 * GIB)

    def timed() -> timing.Times:
        return timed_steps(home, specs, lambda spec: list(architectures(spec)), 2, 8 * GIB)

    first = timed()
    assert first.notes == ()
    assert {step.budget for step in first.steps} == {20_000}
    assert all(step.seconds > 0 and step.at_once == 2 for step in first.steps)
    monkeypatch.setattr(timing, "python_module", lambda *_: ("/bin/false",))
    assert timed() == first, "nothing is timed twice"
    (home.state / "step_times.json").write_text("{")
    failed = timed()
    assert failed.steps == (), "a broken cache is no cache"
    assert "could not be timed" in failed.notes[0]


def test_without_time_nothing_is_timed_and_the_cache_stays(home: Home, tmp_path: Path) -> None:
    path = home.state / "step_times.json"
    path.write_text(json.dumps({"other": {"seconds": 1.0, "device": "cpu"}}))
    spec = phase6a("2M", dataset(tmp_path))
    assert timed_steps(home, [spec], lambda one: list(architectures(one)), 2, GIB, within_s=0.0).steps == ()
    assert "other" in json.loads(path.read_text())
