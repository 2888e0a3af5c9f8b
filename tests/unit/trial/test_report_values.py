"""Any report becomes plain values that driver, store and log take."""

from __future__ import annotations

import enum
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from actors.driver.metric_check import MetricCheck, Seen
from actors.trial.report_values import MAX_TEXT_CHARACTERS, MAX_VALUES, as_result, plain
from actors.trial.result_keys import LEFT_OUT, STEP
from supervisor.domain.codec import decode, encode
from supervisor.domain.messages import ResultReported


class Level(enum.IntEnum):
    HIGH = 3


class Broken:
    """Raises at whatever is asked of it."""

    def __getattr__(self, name):
        raise RuntimeError(name)

    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.array([[2]]), 2),
        (np.bool_(True), True),
        (torch.tensor([0.25], dtype=torch.bfloat16), 0.25),
        (Level.HIGH, 3),
        (Fraction(1, 4), 0.25),
        (2**64, float(2**64)),
        (-(10**500), -math.inf),
        ("x" * 5000, "x" * (MAX_TEXT_CHARACTERS - 3) + "..."),
        (None, None),
    ],
    ids=repr,
)
def test_numbers_and_texts_of_any_library_are_taken(value, expected):
    taken = plain({"v": value}, "loss").values["v"]
    assert (type(taken), taken) == (type(expected), expected)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (np.zeros(2), "numpy.ndarray with shape (2,)"),
        (torch.ones(1, 3), "torch.Tensor with shape (1, 3)"),
        ([1.0], "list with 1 entries"),
        (b"12", "bytes"),
        (2j, "complex"),
        (Broken(), "Broken"),
    ],
    ids=["array", "tensor", "list", "bytes", "complex", "broken"],
)
def test_other_values_are_left_out_and_described(value, what):
    report = plain({"v": value, "loss": 1.0}, "loss")
    assert (report.values, list(report.left_out)) == ({"loss": 1.0}, ["v"])
    assert what in report.left_out["v"]


def test_names_of_nested_dictionaries_are_joined_and_the_metric_outlives_a_cut():
    wide = {f"k{number}": number for number in range(3 * MAX_VALUES)}
    report = plain({**wide, "val": {"loss": np.float64(0.5), 3: {"deep": None}}}, "val/loss")
    assert report.values["val/loss"] == 0.5
    assert len(report.values) == MAX_VALUES
    assert "at most 500 values" in report.left_out["..."]
    assert plain({"val": {3: {"deep": 1}}}, "loss").values == {"val/3/deep": 1}


def test_names_that_mean_something_to_tune_cannot_be_set():
    result = as_result(
        {"loss": 1.0, STEP: "two", "time_this_iter_s": math.nan, "sweep_end": "odd", "done": "no", "pid": 1}, "loss"
    )
    assert {key: value for key, value in result.items() if key != LEFT_OUT} == {"loss": 1.0, "done": False}
    assert dict(result[LEFT_OUT]).keys() == {"sweep_end", "pid"}
    assert as_result({STEP: 7, "done": np.True_}, "loss") == {STEP: 7, "done": True}


@pytest.mark.parametrize("report", [None, 0.5, ["loss", 1.0], "loss"])
def test_a_report_that_is_no_dictionary_is_refused(report):
    with pytest.raises(TypeError, match="expected a report as a dictionary of names and values, found"):
        plain(report, "loss")


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.complex_numbers(), st.dates(),
    st.decimals(), st.fractions(),
)  # fmt: skip
reports = st.dictionaries(
    st.one_of(st.text(), st.integers(), st.none(), st.binary()),
    st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20),
)


@given(reports)
def test_every_report_reaches_the_daemon(report):
    result = as_result(report, "loss")
    pickle.dumps(result)
    metrics = {key: value for key, value in result.items() if key != LEFT_OUT}
    assert all(value is None or type(value) in (bool, int, float, str) for value in metrics.values())
    line = encode(ResultReported(0, 1, 1, None, metrics, None), 1)
    assert isinstance(decode(line)[0], ResultReported)


def look(check, number, *reports, ended=False):
    """Give a trial's reports to the check, in order; return its last answer."""
    seen, answer = Seen(), False
    for step, report in enumerate(reports, 1):
        seen.add("val_loss", as_result(report, "val_loss") | {STEP: step})
        answer = check.look(number, seen)
    return check.look(number, seen, ended=True) if ended else answer


def test_a_search_ends_when_its_first_trials_report_no_metric():
    check = MetricCheck("val_loss", 2)
    assert not look(check, 0, {"loss": 1.0}, {"loss": 0.5})
    assert check.problem is None
    assert look(check, 1, {"loss": 1.0}, {"loss": 0.5, "acc": [1]})
    assert "it reported loss, acc; did you mean loss?" in check.problem


def test_one_trial_that_ends_after_one_report_counts():
    check = MetricCheck("val_loss", 1)
    assert look(check, 0, {"other": 1.0}, ended=True)
    assert "did you mean" not in check.problem


@pytest.mark.parametrize("value", ["0.5", True, np.zeros(2)], ids=str)
def test_a_metric_that_is_no_number_counts_at_the_first_report(value):
    check = MetricCheck("val_loss", 1)
    assert look(check, 0, {"val_loss": value})
    assert "as 'val_loss', the plan's metric: expected a number" in check.problem


@pytest.mark.parametrize(
    "check", [MetricCheck("val_loss", 1, at_end=True), MetricCheck("val_loss", 1, known=True)], ids=["at end", "known"]
)
def test_a_metric_that_may_come_later_or_came_before_ends_no_search(check):
    look(check, 0, {"loss": 1.0}, {"loss": 0.5}, ended=True)
    assert check.problem is None


@pytest.mark.parametrize("first", [0.5, math.nan, 10**400])
def test_a_number_anywhere_says_that_the_name_is_right(first):
    check = MetricCheck("val_loss", 1)
    assert not look(check, 0, {"loss": 1.0}, {"val_loss": first}, {"val_loss": "late text"})
    assert not look(check, 1, {"loss": 1.0}, {"loss": 1.0})
    assert check.problem is None
