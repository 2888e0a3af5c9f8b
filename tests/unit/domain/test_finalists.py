"""The best configurations are trained again on fresh seeds, and the best mean wins."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.domain import finalists

FAILED = ("diverged", "oom", "hung", "error", "operator")


def spec(max_trials: int = 12, top: int = 2, seeds: int = 3, mode: str = "min", **changes: Any) -> dict[str, Any]:
    return {"max_trials": max_trials, "finalize": {"top": top, "seeds": seeds}, "mode": mode, "seed": 5, **changes}


def trial(number: int, value: float | None, reason: str | None = "finished", **params: Any) -> dict[str, Any]:
    state = "RUNNING" if reason is None else ("ERROR" if reason in FAILED else "TERMINATED")
    return {
        "number": number, "state": state, "end_reason": reason, "value": value, "params": params or {"x": number},
        "record": {},
    }  # fmt: skip


def searched(*values: float) -> list[dict[str, Any]]:
    return [trial(number, value) for number, value in enumerate(values)]


def finals(of: dict[str, Any], trials: list[dict[str, Any]], values: list[float | None]) -> list[dict[str, Any]]:
    """The finalisation's trials, ended with these values (None: failed), in the order of their numbers."""
    params = {number: one for finalist in finalists.finalists(of, trials) for number, one in finalist.trials().items()}
    return [
        trial(number, value, "finished" if value is not None else "diverged", **params[number])
        for number, value in zip(sorted(params), values, strict=True)
    ]


def test_nothing_is_chosen_before_the_searchs_last_trial_has_ended() -> None:
    running = [*searched(0.5, 0.4, 0.3, 0.2, 0.1), trial(5, None, None)]
    assert finalists.finalists(spec(), running) == []
    assert finalists.finalists(spec(), running[:5]) == []
    assert finalists.trials_left(spec(), running) == 7


VALUES = st.lists(st.floats(0.0, 1.0), min_size=6, max_size=6)


@given(values=VALUES, order=st.permutations(range(6)), top=st.integers(1, 3), mode=st.sampled_from(["min", "max"]))
def test_a_finalist_that_is_certain_stays_one_under_its_number(
    values: list[float], order: list[int], top: int, mode: str
) -> None:
    of = spec(max_trials=6 + 3 * top, top=top, mode=mode)
    begun: dict[int, dict[str, Any]] = {}
    for ended in range(1, 7):
        trials = [trial(number, values[number], "finished" if number in order[:ended] else None) for number in range(6)]
        known = finalists.after_search(of, [*trials, *begun.values()])
        assert len(known) == 3 * max(0, top - (6 - ended))
        for number, (source, params) in known.items():
            assert source == finalists.SOURCE
            assert begun.setdefault(number, trial(number, None, None, **params))["params"] == params
    chosen = finalists.finalists(of, [*trials, *begun.values()])
    best = sorted(values, reverse=mode == "max")[:top]
    assert [finalist.search_value for finalist in chosen] == best
    assert sorted(number for finalist in chosen for number in finalist.numbers) == list(range(6, 6 + 3 * top))


def test_nothing_is_certain_while_the_rest_of_the_search_may_take_every_place() -> None:
    running = [*searched(0.5, 0.4, 0.3, 0.2), trial(4, None, None)]
    assert finalists.certain_finalists(spec(), running) == []
    assert [found.from_trial for found in finalists.certain_finalists(spec(top=3, max_trials=15), running)] == [3]


def test_the_best_come_first_each_on_the_same_fresh_seeds_under_numbers_that_follow_the_search() -> None:
    best, second = finalists.finalists(spec(), searched(0.5, 0.1, 0.4, 0.2, 0.6, 0.7))
    assert (best.from_trial, second.from_trial) == (1, 3)
    assert (best.numbers, second.numbers) == ((6, 7, 8), (9, 10, 11))
    assert best.seeds == second.seeds
    assert len(set(best.seeds)) == 3
    assert best.trials()[7] == {"x": 1, "seed": best.seeds[1]}


def test_with_mode_max_more_is_better() -> None:
    trials = searched(0.5, 0.1, 0.4, 0.2, 0.6, 0.7)
    assert [f.from_trial for f in finalists.finalists(spec(mode="max"), trials)] == [5, 4]


def test_two_trials_of_the_same_params_are_one_configuration() -> None:
    trials = [trial(n, v, x=x) for n, (v, x) in enumerate([(0.1, 1), (0.2, 1), (0.3, 2), (0.4, 3), (0.5, 4), (0.6, 5)])]
    assert [f.from_trial for f in finalists.finalists(spec(), trials)] == [0, 2]


@pytest.mark.parametrize("reason", FAILED)
def test_a_failed_trial_is_no_candidate_whatever_it_reported(reason: str) -> None:
    trials = [trial(0, 0.0, reason), *[trial(n, 0.1 * n) for n in range(1, 6)]]
    assert [f.from_trial for f in finalists.finalists(spec(), trials)] == [1, 2]


def test_a_search_with_too_few_values_ends_with_fewer_trials() -> None:
    trials = [trial(0, 0.3), *[trial(n, None, "diverged") for n in range(1, 6)]]
    assert finalists.trials_in_all(spec(), trials) == 9
    assert finalists.trials_left(spec(), trials) == 3


def test_the_best_mean_wins_not_the_best_single_loss() -> None:
    trials = searched(0.5, 0.1, 0.4, 0.2, 0.6, 0.7)
    trials += finals(spec(), trials, [0.05, 0.5, 0.5, 0.3, 0.3, 0.3])
    choice = finalists.chosen(spec(), trials)
    assert choice is not None
    assert choice.finalist.from_trial == 3
    assert choice.mean == pytest.approx(0.3)


def test_a_configuration_that_fails_on_a_seed_is_out() -> None:
    trials = searched(0.5, 0.1, 0.4, 0.2, 0.6, 0.7)
    trials += finals(spec(), trials, [0.1, 0.1, None, 0.3, 0.3, 0.3])
    choice = finalists.chosen(spec(), trials)
    assert choice is not None
    assert choice.finalist.from_trial == 3


def test_when_each_fails_on_a_seed_nothing_is_chosen() -> None:
    trials = searched(0.5, 0.1, 0.4, 0.2, 0.6, 0.7)
    trials += finals(spec(), trials, [0.1, 0.1, None, None, 0.3, 0.3])
    assert finalists.chosen(spec(), trials) is None
    assert finalists.describe(spec(), trials) is None


def test_the_choice_waits_for_the_last_finalisation_trial() -> None:
    trials = searched(0.5, 0.1, 0.4, 0.2, 0.6, 0.7)
    trials += finals(spec(), trials, [0.1, 0.1, 0.1, 0.3, 0.3, 0.3])
    assert finalists.chosen(spec(), trials[:-1]) is None
    assert finalists.chosen(spec(), trials) is not None


def test_the_description_is_json_and_names_every_candidate() -> None:
    trials = searched(0.5, 0.1, 0.4, 0.2, 0.6, 0.7)
    trials[3]["record"] = {"param_count": 20_000, "architecture": {"d_model": 8}}
    trials += finals(spec(), trials, [0.2, 0.4, 0.3, 0.1, 0.2, 0.3])
    answer = finalists.describe(spec(), trials)
    assert answer is not None
    assert json.loads(json.dumps(answer)) == answer
    assert (answer["from_trial"], answer["param_count"]) == (3, 20_000)
    assert answer["val_losses"] == [0.1, 0.2, 0.3]
    assert answer["trials"] == [9, 10, 11]
    assert "seed" not in answer["params"]
    assert [candidate["from_trial"] for candidate in answer["candidates"]] == [1, 3]


def test_without_finalisation_every_trial_is_the_searchs() -> None:
    plain = spec(max_trials=6, finalize=None)
    trials = searched(0.5, 0.1, 0.4, 0.2, 0.6, 0.7)
    assert finalists.finalists(plain, trials) == []
    assert finalists.trials_left(plain, trials) == 0
    assert not finalists.is_final(plain, 5)
    assert finalists.chosen(plain, trials) is None


@given(
    values=st.lists(st.none() | st.floats(-1e3, 1e3), min_size=6, max_size=6),
    order=st.permutations(range(6)),
    top=st.integers(1, 4),
    seeds=st.integers(1, 4),
)
def test_the_choice_is_a_function_of_the_trials_and_not_of_their_order(
    values: list[float | None], order: list[int], top: int, seeds: int
) -> None:
    """A driver that starts anew sees the same trials in another order of ending, and must go on with the same."""
    own = spec(max_trials=6 + top * seeds, top=top, seeds=seeds)
    trials = [trial(n, value, "finished" if value is not None else "error") for n, value in enumerate(values)]
    found = finalists.finalists(own, trials)
    assert finalists.finalists(own, [trials[place] for place in order]) == found
    numbers = [number for finalist in found for number in finalist.numbers]
    assert numbers == list(range(6, 6 + len(numbers)))
    assert finalists.trials_left(own, trials) == len(numbers) == seeds * min(top, sum(v is not None for v in values))


FOLDS = spec(max_trials=16, finalize={"top": 2, "seeds": 2, "folds": 4})
"""Six trials of the search, four of the finalisation, and two on each of the first three folds."""


def final_and_forward(final: list[float | None], forward: list[float | None]) -> list[dict[str, Any]]:
    """The trials of FOLDS: a search whose trials 1 and 3 are best, then the others with these values."""
    trials = searched(0.5, 0.1, 0.4, 0.2, 0.6, 0.7)
    trials += finals(FOLDS, trials, final)
    params = {number: one for found in finalists.walk_forward(FOLDS, trials) for number, one in found.trials().items()}
    ended = zip(sorted(params), forward, strict=False)
    return trials + [
        trial(number, value, "diverged" if value is None else "finished", **params[number]) for number, value in ended
    ]


class TestFolds:
    """The finalisation is on the last fold; its winner alone is trained on each fold before, on the same seeds."""

    def test_the_winner_walks_forward_once_the_finalisation_has_ended(self) -> None:
        trials = final_and_forward([0.3, 0.3, 0.1, 0.1], [])
        assert [found.fold for found in finalists.finalists(FOLDS, trials)] == [4, 4]
        assert finalists.walk_forward(FOLDS, trials[:-1]) == []
        walked = finalists.walk_forward(FOLDS, trials)
        assert [(found.fold, found.numbers) for found in walked] == [(1, (10, 11)), (2, (12, 13)), (3, (14, 15))]
        seeds = finalists.finalists(FOLDS, trials)[1].seeds
        assert walked[0].trials() == {
            10: {"x": 3, "fold": 1, "seed": seeds[0]},
            11: {"x": 3, "fold": 1, "seed": seeds[1]},
        }
        sources = {number: source for number, (source, _) in finalists.after_search(FOLDS, trials).items()}
        assert sources == dict.fromkeys(range(6, 10), "finalize") | dict.fromkeys(range(10, 16), "walk_forward")

    def test_a_seed_is_tested_and_described_once_it_was_trained_on_every_fold(self) -> None:
        trials = final_and_forward([0.3, 0.3, 0.1, 0.1], [0.2] * 6)
        assert finalists.describe(FOLDS, trials[:9]) is None
        assert finalists.tested_trials(FOLDS, trials[:-1]) == [(10, 12, 14, 8)]
        assert finalists.tested_trials(FOLDS, trials) == [(10, 12, 14, 8), (11, 13, 15, 9)]
        answer = finalists.describe(FOLDS, trials)
        assert answer is not None
        assert (answer["from_trial"], answer["fold"], answer["val_loss"]) == (3, 4, pytest.approx(0.1))
        assert answer["walk_forward"][2] == {"fold": 3, "trials": [14, 15], "val_losses": [0.2, 0.2]}
        assert json.loads(json.dumps(answer)) == answer

    def test_a_seed_that_fails_on_a_fold_is_not_tested(self) -> None:
        trials = final_and_forward([0.3, 0.3, 0.1, 0.1], [0.2, 0.2, None, 0.2, 0.2, 0.2])
        assert finalists.tested_trials(FOLDS, trials) == [(11, 13, 15, 9)]

    def test_without_a_winner_there_is_no_walk(self) -> None:
        trials = final_and_forward([None, 0.3, None, 0.1], [])
        assert finalists.trials_left(FOLDS, trials) == 0
        assert finalists.tested_trials(FOLDS, trials) == []

    @given(
        values=st.lists(st.none() | st.sampled_from([0.1, 0.2, 0.3]), min_size=16, max_size=16),
        order=st.permutations(range(16)),
    )
    def test_a_driver_that_starts_at_any_moment_goes_on_with_the_same_trials(
        self, values: list[float | None], order: list[int]
    ) -> None:
        trials: list[dict[str, Any]] = []
        for number, value in enumerate(values):
            planned = {n: params for n, (_, params) in finalists.after_search(FOLDS, trials).items()}
            in_all = finalists.trials_in_all(FOLDS, trials)
            if number == in_all:
                break
            params = {"x": number} if number < 6 else planned[number]
            trials.append(trial(number, value, "diverged" if value is None else "finished", **params))
            found = finalists.after_search(FOLDS, trials)
            assert finalists.after_search(FOLDS, [trials[place] for place in order if place < len(trials)]) == found
            assert all(params in [each for _, each in found.values()] for params in planned.values())
            if number >= 6:
                # Before, the last trial of the search may take the numbers of a finalist that has not begun.
                assert {known: found[known][1] for known in planned} == planned
            assert finalists.trials_in_all(FOLDS, trials) <= in_all <= 16
        assert finalists.trials_left(FOLDS, trials) == 0
        assert {t["number"]: t["params"] for t in trials[6:]} == {
            n: params for n, (_, params) in finalists.after_search(FOLDS, trials).items()
        }
