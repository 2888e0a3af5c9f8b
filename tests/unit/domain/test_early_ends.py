"""Test which trials a person may end, which experiments may be left out, and what a refused name changes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.domain.early_ends import (
    MAX_REASONS,
    TEST_OPENED,
    Named,
    allowed,
    why_not_discard,
    why_not_end,
    why_not_restore,
    why_not_set_aside,
    why_not_skip,
)
from supervisor.domain.lifecycle import ProcessState


def trial(state: str = "RUNNING", source: str = "sampled", end_reason: str | None = None) -> dict[str, Any]:
    return {"number": 3, "state": state, "source": source, "end_reason": end_reason}


@pytest.mark.parametrize(
    ("state", "spec", "found", "why"),
    [
        ("RUNNING", {}, trial(), None),
        ("PAUSED", {}, trial("PAUSED"), None),
        ("STOPPED", {}, trial("PENDING"), None),
        ("RUNNING", {"ending": {"4": "ann"}}, trial(), None),
        ("RUNNING", {}, trial("TERMINATED", end_reason="pruned"), "it has ended (pruned)"),
        ("FATAL", {}, trial("PENDING"), "its experiment has ended (FATAL)"),
        ("RUNNING", {"ending": {"3": "ann"}}, trial(), "it ends already"),
        ("RUNNING", {}, trial(source="finalize"), "it follows the search"),
        ("RUNNING", {}, trial(source="walk_forward"), "it follows the search"),
    ],
)
def test_a_trial_is_ended_unless_a_reason_forbids_it(
    state: str, spec: dict[str, Any], found: dict[str, Any], why: str | None
) -> None:
    said = why_not_end(ProcessState(state), spec, found)
    assert said is None if why is None else why in (said or "")


OPEN, FAILED = ({"failure": failure, "scored": False} for failure in (None, {"error": "x", "outside": True}))


@pytest.mark.parametrize(
    ("state", "action", "spec", "test", "why"),
    [
        ("STOPPED", None, {}, None, None),
        ("RUNNING", None, {}, None, None),
        ("PAUSED", "PAUSE", {}, None, None),
        ("BACKOFF", None, {"left_out": None}, FAILED, None),
        ("EXITED", None, {}, None, "it has ended (EXITED)"),
        ("SKIPPED", None, {"left_out": "ann"}, None, "it has ended (SKIPPED)"),
        ("RUNNING", None, {"left_out": "ann"}, None, "left out already"),
        ("RUNNING", None, {}, OPEN, "its test is open"),
        ("PAUSED", "STOP", {}, None, "resume --force"),
    ],
)
def test_an_experiment_is_left_out_unless_a_reason_forbids_it(
    state: str, action: str | None, spec: dict[str, Any], test: dict[str, Any] | None, why: str | None
) -> None:
    said = why_not_skip(ProcessState(state), action, spec, test)
    assert said is None if why is None else why in (said or "")


NAMES = st.lists(st.builds(Named, st.sampled_from("ab"), st.integers(0, 9), st.booleans()), min_size=1, unique=True)


@given(found=NAMES, odd=st.booleans())
def test_a_refused_name_takes_all_with_it_and_a_pattern_only_what_may_be(found: list[Named], odd: bool) -> None:
    def why_not(one: Named) -> str | None:
        return "it is odd" if odd and (one.trial or 0) % 2 else None

    taken, reasons = allowed(found, why_not)
    bad = {one for one in found if why_not(one) is not None}
    assert bool(taken) != bool(reasons), "either something is taken, or it is said why not"
    if any(one.exact for one in bad):
        assert taken == []
    elif taken:
        assert taken == [one for one in found if one not in bad]
    assert len(reasons) <= MAX_REASONS + 1
    assert all("it is odd" in reason or reason.startswith("and ") for reason in reasons)


@pytest.mark.parametrize(
    ("spec", "found", "others", "discard", "restore"),
    [
        ({}, trial("TERMINATED"), [trial("TERMINATED")], None, "it is not discarded"),
        ({}, trial("ERROR"), [trial("ERROR")], None, "it is not discarded"),
        ({}, trial("RUNNING"), [trial("RUNNING")], "it is RUNNING; `supervisorctl end`", "it is not discarded"),
        ({"discarded": {"3": "ann"}}, trial("TERMINATED"), [trial("TERMINATED")], "discarded already", None),
        ({}, trial("TERMINATED"), [trial(source="finalize")], None, "it is not discarded"),
        ({"discarded": {"3": "ann"}}, trial("TERMINATED"), [trial(source="finalize")], "discarded already", None),
        ({}, trial("TERMINATED", source="finalize"), [], "it follows the search", "it is not discarded"),
        ({}, trial("RUNNING", source="walk_forward"), [], "it follows the search", "it is not discarded"),
        (
            {}, trial("TERMINATED", source="set_aside", end_reason="set_aside"), [], "it was set aside",
            "it is not discarded",
        ),
    ],
)  # fmt: skip
def test_a_trial_is_discarded_and_restored_unless_a_reason_forbids_it(
    spec: dict[str, Any], found: dict[str, Any], others: list[dict[str, Any]], discard: str | None, restore: str | None
) -> None:
    anew = why_not_set_aside([{**other, "number": place} for place, other in enumerate(others)], None)
    for said, why in ((why_not_discard(spec, found, anew), discard), (why_not_restore(spec, found, anew), restore)):
        assert said is None if why is None else why in (said or "")


def numbered(*numbers: int, source: str = "sampled") -> list[dict[str, Any]]:
    return [{**trial(source=source), "number": number} for number in numbers]


@pytest.mark.parametrize(
    ("trials", "test", "why"),
    [
        ([], None, None),
        (numbered(0, 1), None, None),
        (numbered(0, 1), OPEN, None),
        ([*numbered(0, 1), *numbered(2, source="finalize")], None, None),
        ([*numbered(0, 1), *numbered(2, source="finalize")], OPEN, TEST_OPENED),
        ([*numbered(0, 1), *numbered(2, source="walk_forward")], FAILED, TEST_OPENED),
        ([*numbered(0, 1), *numbered(2, source="set_aside")], OPEN, None),
        ([*numbered(0, 1), *numbered(3, source="finalize")], None, "ask again"),
    ],
)
def test_an_experiment_chooses_anew_until_its_test_is_opened(
    trials: list[dict[str, Any]], test: dict[str, Any] | None, why: str | None
) -> None:
    said = why_not_set_aside(trials, test)
    assert said is None if why is None else why in (said or "")
    if said is not None:
        assert why_not_discard({}, trial("TERMINATED"), said) == said
        assert why_not_restore({"discarded": {"3": "ann"}}, trial("TERMINATED"), said) == said
