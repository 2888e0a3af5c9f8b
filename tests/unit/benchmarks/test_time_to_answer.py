"""The benchmark of the answer's time: censored medians, ratios, paired intervals, results kept one by one."""

from __future__ import annotations

import json
import math
import pickle
import statistics
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.time_to_answer import profile, results
from benchmarks.time_to_answer.contenders import OURS, PLAIN, SEQUENTIAL, order, tale_of
from benchmarks.time_to_answer.problem import Settings, config_of, suggest
from benchmarks.time_to_answer.reach import (
    Interval,
    Measured,
    Report,
    Time,
    median,
    of_complete_seeds,
    paired,
    ratio,
    ratio_interval,
    targets,
    time_to,
)
from benchmarks.time_to_answer.table import text
from supervisor.domain.finalists import SOURCE as FINALISED
from training.settings import derive_seed

SECONDS = st.lists(st.integers(1, 50).map(float), min_size=1, max_size=12)
SETTINGS = Settings("200k-h1", trials=24, epochs=12, enqueued=False, finalised=False)


def search(seed: int, contender: str, *losses: float, every_s: float = 10.0) -> Measured:
    reports = tuple(Report(every_s * place, 0, place, loss, every_s / 2) for place, loss in enumerate(losses, start=1))
    return Measured(seed, contender, reports, every_s * len(losses), every_s * len(losses) + 5.0)


@given(SECONDS)
def test_without_censoring_the_median_is_the_usual_one(seconds: list[float]) -> None:
    assert median([Time(one, reached=True) for one in seconds]) == statistics.median(seconds)


@given(SECONDS, SECONDS)
def test_the_longer_others_are_known_not_to_reach_the_loss_the_later_is_the_median(
    reached: list[float], longer: list[float]
) -> None:
    known = [Time(one, reached=True) for one in reached]
    found = median([*known, *(Time(one, reached=False) for one in longer)])
    assert found is None or found >= min(reached)
    never = median([*known, *(Time(math.inf, reached=False) for _ in longer)])
    assert never is None or (found is not None and found <= never)


def test_the_median_is_that_of_kaplan_and_meier() -> None:
    # 4 at risk at 10 s: 3/4 are left; at 30 s, after one was censored, 2 are: 3/8.
    times = [Time(10, True), Time(20, False), Time(30, True), Time(40, False)]
    assert median(times) == 30
    assert median([Time(10, True), Time(20, False), Time(30, False)]) is None
    assert median([Time(10, True), Time(20, False)]) == 10, "half is left from 10 s on, and no later end is known"


def test_a_search_that_never_reaches_the_loss_is_censored_at_its_end() -> None:
    one = search(1, OURS, 0.5, 0.4, 0.3)
    assert time_to(one, 0.4) == Time(20.0, reached=True)
    assert time_to(one, 0.29) == Time(30.0, reached=False)
    assert time_to(Measured(1, OURS, (), 7.0, 7.0, cut=True), 0.4) == Time(7.0, reached=False)


def test_the_loss_to_reach_is_the_best_of_the_reference_and_a_share_more() -> None:
    assert targets([search(1, SEQUENTIAL, 0.5, 0.4, 0.45)], 0.005) == [pytest.approx(0.402)]
    with pytest.raises(ValueError, match="expected an epoch"):
        targets([Measured(1, SEQUENTIAL, (), 7.0, 7.0)], 0.005)


def test_a_ratio_says_which_of_the_two_was_not_reached() -> None:
    assert ratio(30.0, 20.0) == 1.5
    assert ratio(None, 20.0) == math.inf
    assert ratio(30.0, None) == 0.0
    assert ratio(None, None) is None


def test_the_interval_of_a_constant_ratio_is_that_ratio() -> None:
    slow, fast = ([Time(factor * seed, reached=True) for seed in (10.0, 20.0, 30.0)] for factor in (3.0, 1.5))
    assert ratio_interval(slow, fast) == Interval(2.0, 2.0, 2.0)
    assert ratio_interval(slow[:1], fast[:1]) is None
    never = [Time(10.0, reached=False)] * 3
    assert ratio_interval(never, never) is None
    found = ratio_interval(never, fast)
    assert found is not None
    assert found.low == math.inf


def test_the_paired_interval_is_the_t_interval_of_the_differences() -> None:
    found = paired([1.0, 2.0, 3.0], [0.0, 0.0, 0.0])
    assert found is not None
    # t(0.975, 2) = 4.30265; the differences have mean 2 and deviation 1.
    assert (found.value, found.low, found.high) == pytest.approx((2.0, 2 - 2.48414, 2 + 2.48414), abs=1e-4)
    assert paired([1.0], [0.0]) is None


def test_only_seeds_that_all_contenders_have_are_compared() -> None:
    found = [search(1, "a", 1.0), search(2, "a", 1.0), search(2, "b", 1.0), search(3, "b", 1.0)]
    assert {name: [one.seed for one in ones] for name, ones in of_complete_seeds(found, ["a", "b"]).items()} == {
        "a": [2],
        "b": [2],
    }


def test_the_tables_name_each_contender_and_what_was_not_reached() -> None:
    found = {
        SEQUENTIAL: [search(1, SEQUENTIAL, 0.5, 0.4), search(2, SEQUENTIAL, 0.5, 0.3)],
        PLAIN: [search(1, PLAIN, 0.5), search(2, PLAIN, 0.5)],
        OURS: [search(1, OURS, 0.4, every_s=5.0), search(2, OURS, 0.3, every_s=5.0)],
    }
    told = text(found, SEQUENTIAL, OURS, 0.005)
    assert f"| {SEQUENTIAL} / {OURS} | 4.00 | 4.00 to 4.00 |" in told
    assert f"| {PLAIN} / {OURS} | infinite" in told
    assert "not reached by half | 0 of 2" in told
    assert f"| {OURS} less {SEQUENTIAL} | +0.00000 |" in told
    assert "> 10" in told
    with pytest.raises(ValueError, match="expected a seed"):
        text({name: [] for name in found}, SEQUENTIAL, OURS, 0.005)


def test_results_are_kept_one_by_one_and_an_interrupted_line_does_not_count(tmp_path: Path) -> None:
    file = tmp_path / "new" / "results.jsonl"
    about = {"machine": "a machine", "busy_before": 0.25}
    first, second = search(1, SEQUENTIAL, 0.5, 0.4), search(1, OURS, 0.4)
    assert results.read(file, SETTINGS) == []
    results.add(file, SETTINGS, first, about)
    with file.open("a") as stream:
        stream.write('{"settings": {"expe')
    assert results.read(file, SETTINGS) == [first]
    results.add(file, SETTINGS, second, about)
    assert results.read(file, SETTINGS) == [first, second]
    assert results.about_of(file) == ["a machine", "before a search at most 25% of the cores were busy"]
    with pytest.raises(SystemExit, match="name another --results"):
        results.read(file, Settings("200k-h1", trials=12, epochs=12, enqueued=False, finalised=False))


def test_each_contender_begins_in_turn() -> None:
    orders = [order(place) for place in range(3)]
    assert {names[0] for names in orders} == {SEQUENTIAL, PLAIN, OURS}
    assert all(sorted(names) == sorted([SEQUENTIAL, PLAIN, OURS]) for names in orders)


def test_a_tale_counts_each_epoch_once_and_knows_the_end_of_the_last_trial() -> None:
    lines: list[dict[str, Any]] = [
        {"at": 105.0, "trial": 0, "epoch": 1, "loss": 0.5, "train_s": 1.0},
        {"at": 106.0, "trial": 0, "epoch": 1, "loss": 0.5, "train_s": 1.0},
        {"at": 107.0, "trial": 0},
    ]
    told = "\n".join(map(json.dumps, lines)) + '\n{"at": 108'
    assert tale_of(told, 100.0) == ((Report(5.0, 0, 1, 0.5, 1.0),), 7.0)
    assert tale_of("", 100.0) == ((), None)


class Recording:
    """Takes the place of Optuna's trial: gives the lower bound, and the first choice."""

    number = 3

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        return low

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        return low

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        return choices[0]


def test_all_contenders_train_a_trial_by_the_same_configuration() -> None:
    space = {
        "a": {"type": "float", "low": 0.1, "high": 1.0, "log": False},
        "b": {"type": "int", "low": 2, "high": 4},
        "c": {"type": "categorical", "choices": [64, 128]},
    }
    params = suggest(Recording(), space)
    assert params == {"a": 0.1, "b": 2, "c": 64}
    config = config_of({"config": {"threads": 1, "d": 5}, "seed": 9}, params, number=3, threads=2)
    assert config == {**params, "d": 5, "threads": 2, "seed": derive_seed(9, 3)}
    with pytest.raises(ValueError, match="expected a dimension"):
        suggest(Recording(), {"x": {"type": "odd"}})


def test_what_plain_ray_searches_with_can_be_pickled() -> None:
    from actors.driver.study import SamplerPerTrial
    from benchmarks.time_to_answer.plain_ray import SamplerOf, Space

    space = Space({"b": {"type": "int", "low": 2, "high": 4}})
    assert pickle.loads(pickle.dumps(space))(Recording()) == {"number": 3}
    sampler = pickle.loads(pickle.dumps(SamplerPerTrial(SamplerOf("tpe", 10, 1))))
    assert isinstance(sampler, SamplerPerTrial)


def event(at_s: float, name: str, trial: int | None = None, **fields: Any) -> dict[str, Any]:
    ts = datetime.fromtimestamp(at_s, UTC).isoformat()
    return {"ts": ts, "event": name, "experiment": "e", "trial": trial, "msg": name, **fields}


def epoch(at_s: float, trial: int, step: int, value: float | None) -> dict[str, Any]:
    return event(at_s, "trial.reported", trial, step=step, value=value, metrics={"time_this_iter_s": 2.0})


RUN = [
    event(101.0, "daemon.started"),
    event(104.0, "trial.added", 0, source="sampled"),
    event(105.0, "trial.started", 0),
    event(105.0, "trial.added", 1, source="enqueued"),
    event(106.0, "trial.started", 1),
    epoch(108.0, 0, 1, 0.5),
    epoch(109.0, 1, 1, None),
    epoch(110.0, 0, 2, 0.4),
    event(111.0, "trial.finished", 0),
    event(112.0, "trial.requeued", 1),
    event(113.0, "trial.started", 1),
    event(115.0, "trial.failed", 1),
    event(115.5, "trial.added", 2, source=FINALISED),
    event(116.0, "trial.started", 2),
    epoch(118.0, 2, 1, 0.1),
    event(119.0, "trial.finished", 2),
    event(120.0, "test.opened"),
    event(121.0, "test.scored"),
    event(121.5, "experiment.finished"),
    event(122.0, "run.finished"),
    event(124.0, "report.written"),
]


def test_the_profile_of_a_run_counts_the_search_alone_and_all_its_seconds() -> None:
    found = profile.measured(1, OURS, 100.0, 30.0, RUN, workers=2)
    assert [(one.at_s, one.trial, one.epoch, one.loss) for one in found.reports] == [
        (8.0, 0, 1, 0.5),
        (10.0, 0, 2, 0.4),
    ]
    assert (found.search_s, found.whole_s, found.cut) == (15.0, 22.0, False)
    stages = {name: found.stages[name] for name in ("start", "search", "finalisation", "test", "between", "report")}
    assert stages == {"start": 5.0, "search": 9.0, "finalisation": 3.0, "test": 1.0, "between": 4.0, "report": 2.0}
    assert sum(stages.values()) == 24.0
    assert found.stages[profile.IN_TRIALS] == 6.0 + 6.0 + 2.0
    assert found.stages[profile.OF_WORKERS] == 18.0
    assert found.stages[profile.IN_EPOCHS] == 4.0


def test_a_run_that_did_not_finish_is_cut_and_one_that_failed_does_not_count() -> None:
    cut = profile.measured(1, OURS, 100.0, 30.0, RUN[:8], workers=2)
    assert (cut.cut, cut.search_s, cut.whole_s) == (True, 30.0, 30.0)
    with pytest.raises(ValueError, match=r"found experiment\.failed"):
        profile.measured(1, OURS, 100.0, 30.0, [*RUN[:8], event(112.0, "experiment.failed")], workers=2)
    with pytest.raises(ValueError, match="expected a trial"):
        profile.measured(1, OURS, 100.0, 30.0, RUN[:1], workers=2)


def test_a_search_is_the_same_when_it_is_read_again() -> None:
    one = profile.measured(1, OURS, 100.0, 30.0, RUN, workers=2)
    assert Measured.from_json(json.loads(json.dumps(one.as_json()))) == one
