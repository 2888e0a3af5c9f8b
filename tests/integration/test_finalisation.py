"""Test the finalisation under a real driver, across the driver's death."""

from __future__ import annotations

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from supervisor.domain.finalists import chosen, finalists, known_to_the_search
from supervisor.domain.messages import TrialEnded
from supervisor.domain.spec_changes import with_more, with_set_aside

FINALIZE = {"top": 2, "seeds": 2}


@pytest.mark.slow
def test_finalisation_follows_the_search_and_survives_the_drivers_death(drive, spec):
    """Killed after the first finalisation trial, the next driver goes on with the same choice and the same seeds;
    no finalisation trial is pruned, and the study never hears of one. Once it was set aside, the search goes on."""
    experiment = spec(
        trainable="actors_trainables:seeded", max_trials=9, max_epochs=9, finalize=FINALIZE, concurrency=2,
        enqueue=[{"x": x} for x in (0.1, 0.9, 0.8, 0.7, 0.6)],
        pruner={"kind": "asha", "grace_period": 1, "reduction_factor": 2, "max_t": 9},
    )  # fmt: skip
    first = drive(experiment)
    first.wait_for(TrialEnded, lambda message: message.number >= 5)
    first.kill()
    second = drive(experiment, store=first.store.driver_is_gone())
    second.succeeds()
    assert second.error() is None

    rows = second.store.rows
    trials = [row.for_driver() for row in rows.values()]
    expected = {
        number: params for finalist in finalists(experiment, trials) for number, params in finalist.trials().items()
    }
    assert sorted(expected) == [5, 6, 7, 8]
    assert {number: row.params for number, row in rows.items() if row.source == "finalize"} == expected
    for number in expected:
        assert rows[number].end_reason == "finished"
        assert [step for step, _ in rows[number].results] == list(range(1, 10))
    searched = sorted((row.value, row.number) for row in rows.values() if row.number < 5)
    assert [finalist.from_trial for finalist in finalists(experiment, trials)] == [number for _, number in searched[:2]]
    assert any(rows[number].end_reason == "pruned" for number in range(5)), "nothing was pruned: the claim is untested"
    choice = chosen(experiment, trials)
    assert choice is not None
    assert choice.finalist.from_trial == searched[0][1]

    assert [trial.state.name for trial in study_of(second)] == ["COMPLETE" if rows[n].end_reason == "finished" else
                                                               "PRUNED" for n in range(5)]  # fmt: skip

    third = drive(set_aside(experiment, second.store.rows, sorted(expected)), store=second.store)
    third.succeeds()
    assert third.error() is None
    assert {number: row.source for number, row in rows.items() if number > 8} == {
        9: "sampled", **dict.fromkeys(range(10, 14), "finalize")
    }  # fmt: skip
    assert [rows[number].end_reason for number in range(10, 14)] == ["finished"] * 4
    assert [trial.state.name for trial in study_of(third)][5:9] == ["FAIL"] * 4
    assert len(study_of(third)) == 10


def set_aside(experiment, rows, numbers):
    """Set these trials aside as the daemon does, and add one to the search; return the spec from then on."""
    for number in numbers:
        rows[number].end_reason, rows[number].value = "set_aside", None
        (known,) = known_to_the_search(experiment, [rows[number].for_driver()])
        for key in ("state", "end_reason", "value", "params", "results"):
            setattr(rows[number], key, known[key])
    after = with_set_aside(experiment, numbers, FINALIZE)
    return with_more(after, after["max_trials"] + 1, 0.0)


def study_of(daemon):
    file = str(daemon.folder / "experiment" / "study.journal")
    storage = JournalStorage(JournalFileBackend(file, lock_obj=JournalFileOpenLock(file)))
    return optuna.load_study(study_name="one", storage=storage).trials


@pytest.mark.slow
def test_a_search_that_left_no_value_ends_without_finalisation(drive, spec):
    """Every trial of the search fails: there is nothing to finalise, and the driver ends by itself."""
    experiment = spec(
        trainable="actors_trainables:troubled", space={"kind": {"type": "categorical", "choices": ["nan", "raises"]}},
        max_trials=6, finalize=FINALIZE,
    )  # fmt: skip
    daemon = drive(experiment)
    daemon.succeeds()
    assert sorted(daemon.store.rows) == [0, 1]
    assert all(row.value is None and row.end_reason for row in daemon.store.rows.values())
