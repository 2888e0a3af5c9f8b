"""Timing of a plan's steps: which trials are timed, in child processes, and what the cache saves."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from supervisor.home import Home
from supervisor.plan.expansion import ExperimentSpec, expand
from supervisor.plan.loader import load_plan
from supervisor.preflight import step_processes, timing, training_time
from supervisor.preflight.estimate import architectures, fitting_architectures, planned
from supervisor.preflight.timing import cases_of, timed_steps
from tests.unit.preflight.test_estimate import EXAMPLE, NUMBERS, dataset, phase6a
from tests.waits import NET_S
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
        return timed_steps(home, specs, lambda spec: list(architectures(spec)), 2, 8 * GIB, within_s=NET_S)

    first = timed()
    assert (first.notes, first.fresh) == ((), True)
    assert {step.budget for step in first.steps} == {20_000}
    assert all(step.seconds > 0 and step.at_once == 2 for step in first.steps)
    monkeypatch.setattr(step_processes, "python_module", lambda *_: ("/bin/false",))
    assert timed() == replace(first, fresh=False), "nothing is timed twice"
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


def answering(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *lines: dict[str, Any]) -> timing.Times:
    """Time one budget by processes that say `lines`."""
    said = "; ".join(f"echo '{json.dumps(line)}'" for line in lines)
    monkeypatch.setattr(step_processes, "python_module", lambda *_: ("/bin/sh", "-c", f"cat >/dev/null; {said}"))
    spec = phase6a("2M", dataset(tmp_path))
    return timed_steps(home, [spec], lambda one: list(architectures(one))[:1], 2, GIB)


def test_what_is_too_slow_is_tried_again_only_when_there_may_be_time(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = [{"trial": 0, "needs_s": 20.0}, {"trial": 1, "needs_s": 1e4}]
    assert answering(home, tmp_path, monkeypatch, *slow).steps == ()
    # The first one fits into a minute of its own.
    again = answering(home, tmp_path, monkeypatch, {"trial": 0, "device": "cpu", "step_s": 0.5})
    assert [step.seconds for step in again.steps] == [0.5]
    assert not answering(home, tmp_path, monkeypatch, {"trial": 0, "device": "cpu", "step_s": 9.0}).fresh


def test_an_error_is_a_note_and_is_tried_again(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = answering(home, tmp_path, monkeypatch, {"trial": 0, "error": "DoesNotFit: no memory"})
    assert (failed.steps, failed.notes) == ((), ("a step of 2M could not be timed: DoesNotFit: no memory",))
    assert answering(home, tmp_path, monkeypatch, {"trial": 0, "device": "cpu", "step_s": 0.5}).steps


def test_a_step_that_only_some_of_the_processes_timed_is_left_out(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = tmp_path / "once"
    said = json.dumps({"trial": 0, "device": "cpu", "step_s": 0.5})
    script = f"cat >/dev/null; mkdir {once} 2>/dev/null && echo '{said}' || true"
    monkeypatch.setattr(step_processes, "python_module", lambda *_: ("/bin/sh", "-c", script))
    spec = phase6a("2M", dataset(tmp_path))
    assert timed_steps(home, [spec], lambda one: list(architectures(one))[:1], 2, GIB).steps == ()


def test_a_library_that_is_missing_is_for_the_check_to_say(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "LIBRARIES", ("no-such-library-as-this",))
    assert answering(home, tmp_path, monkeypatch, {"trial": 0, "device": "cpu", "step_s": 0.5}).steps


def test_trials_that_ask_for_gpus_share_them_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for module in (step_processes, training_time):
        monkeypatch.setattr(module, "usable_gpus", lambda: 2)
    spec = phase6a("2M", dataset(tmp_path), "resources.gpu=0.5", "concurrency=8")
    assert training_time.at_once(spec, 16) == 4
    (case, *_) = cases_of([spec], lambda one: list(architectures(one)), 16)
    assert (case.at_once, case.gpu) == (4, 0.5)
    cards = tmp_path / "cards"
    script = f"cat >/dev/null; echo $CUDA_VISIBLE_DEVICES >> {cards}"
    monkeypatch.setattr(step_processes, "python_module", lambda *_: ("/bin/sh", "-c", script))
    asyncio.run(step_processes.time_together([case], 1, 4, 1.0, GIB))
    assert sorted(cards.read_text().split()) == ["0", "0", "1", "1"]


def test_timing_is_announced_only_where_something_is_timed(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    spec = phase6a("2M", dataset(tmp_path))
    monkeypatch.setattr(step_processes, "python_module", lambda *_: ("/bin/sh", "-c", "cat >/dev/null"))

    def timed(within_s: float) -> None:
        timed_steps(
            home, [spec], lambda one: list(architectures(one))[:1], 2, GIB, within_s=within_s,
            announce=lambda: said.append("timing"),
        )  # fmt: skip

    timed(0.0)
    assert said == []
    timed(12.0)
    assert said == ["timing"]
