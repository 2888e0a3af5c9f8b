"""Test which ended trials may train on, how the spec keeps their extension, and what search and pruner know of it."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.domain.lifecycle import ProcessState
from supervisor.domain.spec_changes import SPEC_CHANGES
from supervisor.domain.trials.extension import (
    as_it_had_ended,
    as_searched,
    last_epoch,
    more_epochs,
    with_failed_extension,
)
from supervisor.domain.trials.extension_rules import MAX_EPOCHS, Candidate, Searched, why_not_train_on

SPEC = {"name": "a", "max_epochs": 10}
TEST = {"failure": None, "scored": False}


def trial(end_reason: str | None = "pruned", **changes: Any) -> dict[str, Any]:
    bad = end_reason in ("oom", "hung", "error", "diverged", "operator")
    state = "RUNNING" if end_reason is None else "ERROR" if bad else "TERMINATED"
    return {"number": 3, "state": state, "source": "sampled", "end_reason": end_reason, "value": 0.5, **changes}


def why(
    found: dict[str, Any], spec: dict[str, Any] | None = None, reached: int = 4, checkpoint: int | None = 4,
    epochs: int = 6, anew: bool = False, **search: Any,
) -> str | None:  # fmt: skip
    facts: dict[str, Any] = {"state": ProcessState.RUNNING, "test": None, "chooses_anew": None, "left_s": None}
    searched = Searched("a", spec={**SPEC, **(spec or {})}, **{**facts, **search})
    return why_not_train_on(Candidate(searched, found, reached, checkpoint), epochs, anew=anew)


@pytest.mark.parametrize("reason", ["pruned", "early_stopped", "operator"])
@pytest.mark.parametrize("state", list(ProcessState))
def test_a_trial_that_ended_trains_on_whatever_its_experiment_does(reason: str, state: ProcessState) -> None:
    said = why(trial(reason), state=state)
    assert said is None if state is not ProcessState.SKIPPED else "takes it in again" in (said or "")


def test_a_finished_trial_trains_on_unless_its_own_code_ended_it() -> None:
    assert why(trial("finished"), reached=10) is None
    assert "its own code ended it after 9 epochs, before epoch 10" in (why(trial("finished"), reached=9) or "")
    extended = extend({}, after=10, epochs=5, end_reason="finished")
    assert why(trial("finished"), extended, reached=15) is None
    assert "before epoch 15" in (why(trial("finished"), extended, reached=12) or "")
    failed = with_failed_extension(extended, 3)
    assert why(trial("finished"), failed, reached=12) is None, "an extension that failed says nothing of its code"


@pytest.mark.parametrize(
    ("found", "facts", "said"),
    [
        (trial(None), {}, "it is RUNNING"),
        (trial(source="finalize"), {}, "it follows the search"),
        (trial("set_aside"), {}, "it was set aside with its finalisation"),
        (trial(), {"spec": {"discarded": {"3": "ann"}}}, "`supervisorctl restore a/3`"),
        (trial("oom"), {}, "it has failed (oom); `supervisorctl retry a/3`"),
        (trial("error"), {}, "`supervisorctl retry a/3`"),
        (trial("diverged"), {}, "it has diverged"),
        (trial(record={"duplicate_of": 2}), {}, "it has the end of trial 2; extend that one"),
        (trial(), {"test": TEST}, "the test of its experiment was opened"),
        (trial(), {"chooses_anew": "its finalisation is just beginning"}, "just beginning"),
        (trial(), {"spec": {"left_out": "ann"}}, "`supervisorctl retry a` takes it in again"),
        (trial(), {"left_s": 0.0}, "`supervisorctl extend a --hours 2`"),
        (trial(), {"reached": 10, "epochs": MAX_EPOCHS}, f"at most {MAX_EPOCHS} epochs"),
        (trial(), {"checkpoint": None}, "no checkpoint of it is left; with --anew it trains from epoch 0 to 10"),
    ],
)
def test_a_refusal_says_why_and_what_cures_it(found: dict[str, Any], facts: dict[str, Any], said: str) -> None:
    assert said in (why(found, **facts) or "")


def test_a_trial_without_a_checkpoint_trains_anew_and_others_are_refused_all_the_same() -> None:
    assert why(trial(), checkpoint=None, anew=True) is None
    assert why(trial(), checkpoint=0) is None, "the checkpoint of a first epoch that had begun"
    assert why(trial("oom"), checkpoint=None, anew=True) is not None


def extend(spec: dict[str, Any], **changes: Any) -> dict[str, Any]:
    fields = {
        "trial": 3, "who": "ann", "epochs": 6, "after": 4, "from_step": 4, "checkpoint": "c", "anew": False,
        "end_reason": "pruned", "value": 0.5, **changes,
    }  # fmt: skip
    fields["last_step"] = fields["after"] + fields["epochs"]
    return SPEC_CHANGES["trial.extended"]({**SPEC, **spec}, fields)


def test_the_spec_keeps_the_end_before_and_forgets_an_old_wish_to_end_it() -> None:
    spec = extend({"ending": {"3": "bob", "4": "bob"}, "finish_asked": True})
    assert spec["ending"] == {"4": "bob"}
    assert (last_epoch(spec, 3), more_epochs(spec, 3)) == (10, 6)
    assert (last_epoch(spec, 4), more_epochs(spec, 4)) == (10, None)
    assert spec["extended"]["3"]["finishing"], "the wish to train on is newer than the wish to finish"
    twice = extend(spec, after=10, epochs=2, end_reason="finished", value=0.4)
    assert (last_epoch(twice, 3), more_epochs(twice, 3)) == (12, 8)
    failed = with_failed_extension(twice, 3)
    assert (last_epoch(failed, 3), more_epochs(failed, 3)) == (None, 6)
    assert more_epochs(with_failed_extension(spec, 3), 3) is None


RESULTS = [[step, 1.0 / step] for step in range(1, 8)]


def test_search_and_pruner_know_a_trial_as_it_had_ended() -> None:
    spec, going_on = extend({}), trial(None, results=RESULTS, value=None)
    known = as_searched(spec, going_on)
    assert (known["state"], known["end_reason"], known["value"]) == ("TERMINATED", "pruned", 0.5)
    assert known["results"] == RESULTS[:4]
    again = as_searched(extend(spec, after=7, end_reason="finished"), going_on)
    assert again["results"] == RESULTS[:4], "the pruner judged none of the first extension either"
    over = trial("finished", value=0.1, results=RESULTS)
    assert as_searched(spec, over) == {**over, "results": RESULTS[:4]}
    assert as_searched(extend({}, anew=True), going_on)["results"] == [], "it never judged these"
    other = trial(None, number=4, results=RESULTS)
    assert as_searched(spec, other) is other


def test_only_a_trial_that_trains_on_is_shown_as_it_had_ended() -> None:
    spec, over = extend({}), trial("finished")
    assert as_it_had_ended(spec, over) is over
    assert as_it_had_ended(extend({}, end_reason="operator", value=None), trial(None))["state"] == "ERROR"
