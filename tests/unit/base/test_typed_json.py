"""Dataclasses are the same after JSON, and a value that does not fit is named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.typed_json import Record


class Colour(StrEnum):
    RED = "red"


class Step(IntEnum):
    LOW = 0
    HIGH = 5


@dataclass(frozen=True)
class Inner(Record):
    at_s: float
    name: str | None = None


@dataclass(frozen=True)
class Outer(Record):
    colour: Colour
    step: Step
    count: int
    sure: bool
    inner: Inner | None
    pairs: tuple[tuple[float, float], ...] = ()
    one: tuple[int, str] = (1, "a")
    by_name: Mapping[str, Inner] = field(default_factory=dict)
    rest: dict[str, Any] = field(default_factory=dict)


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
INNER = st.builds(Inner, FLOATS, st.none() | st.text(max_size=3))
OUTER = st.builds(
    Outer, st.sampled_from(Colour), st.sampled_from(Step), st.integers(-(2**63), 2**63 - 1), st.booleans(),
    st.none() | INNER, st.lists(st.tuples(FLOATS, FLOATS), max_size=2).map(tuple),
    st.tuples(st.integers(0, 9), st.text(max_size=3)),
    st.dictionaries(st.text(max_size=3), INNER, max_size=2), st.dictionaries(st.text(), st.none() | st.booleans()),
)  # fmt: skip
GOOD = Outer(Colour.RED, Step.HIGH, 1, True, Inner(1.0)).to_json()


@given(OUTER)
def test_a_dataclass_comes_back_from_json_as_it_was(value: Outer) -> None:
    assert Outer.from_json(json.loads(json.dumps(value.to_json()))) == value


def test_a_whole_number_is_read_as_a_float_where_one_is_expected() -> None:
    assert repr(Inner.from_json({"at_s": 3})) == "Inner(at_s=3.0, name=None)"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"colour": "blue"}, "'blue' is not a valid Colour"),
        ({"step": "MIDDLE"}, "'MIDDLE' is not a valid Step"),
        ({"step": 5}, "Outer.step: expected Step, found 5"),
        ({"count": True}, "Outer.count: expected int, found True"),
        ({"count": 2**63}, "Outer.count: expected int"),
        ({"sure": 1}, "Outer.sure: expected bool, found 1"),
        ({"inner": {"at_s": float("nan")}}, "Outer.inner: expected Inner or None"),
        ({"pairs": [[1.0]]}, "Outer.pairs: expected 2 values, found 1"),
        ({"pairs": "ab"}, "Outer.pairs: expected tuple"),
        ({"one": [1, 2]}, "Outer.one: expected str, found 2"),
        ({"by_name": {"x": {}}}, "a Inner needs the field at_s"),
        ({"colours": 1}, "a Outer has no field colours"),
    ],
)
def test_a_value_that_does_not_fit_is_named(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match="^" + problem):
        Outer.from_json({**GOOD, **change})


@pytest.mark.parametrize("body", [None, [], "x", 3])
def test_only_an_object_becomes_a_dataclass(body: Any) -> None:
    with pytest.raises(ValueError, match="expected the fields of a Inner"):
        Inner.from_json(body)


def test_a_field_without_a_default_is_needed() -> None:
    with pytest.raises(ValueError, match="a Inner needs the field at_s"):
        Inner.from_json({"name": "x"})
