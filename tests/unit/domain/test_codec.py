"""Test the wire: each message survives it, and other lines raise LinkError."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.domain import codec, messages
from supervisor.domain.lifecycle import EndReason

TEXT = st.text(max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
INTS = st.integers(-(2**63), 2**63 - 1)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
BY_HINT: dict[Any, st.SearchStrategy[Any]] = {
    int: INTS,
    int | None: st.none() | INTS,
    float: FINITE,
    float | None: st.none() | FINITE,
    str: TEXT,
    str | None: st.none() | TEXT,
    bool: st.booleans(),
    dict[str, Any]: st.dictionaries(TEXT, JSON, max_size=3),
    dict[str, Any] | None: st.none() | st.dictionaries(TEXT, JSON, max_size=3),
    dict[str, str]: st.dictionaries(TEXT, TEXT, max_size=3),
    list[dict[str, Any]]: st.lists(st.dictionaries(TEXT, JSON, max_size=3), max_size=3),
}
WORDS = {
    (messages.TrialHeld, "state"): st.sampled_from(["RUNNING", "PAUSED"]),
    (messages.TrialEnded, "end_reason"): st.sampled_from([reason.value for reason in EndReason]),
}
KINDS: list[type] = list(messages.Message.__args__)


def of_kind(kind: type) -> st.SearchStrategy[Any]:
    hints = get_type_hints(kind)
    return st.builds(kind, **{name: WORDS.get((kind, name), BY_HINT.get(hint)) for name, hint in hints.items()})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=15)
@given(data=st.data())
def test_every_message_comes_back_as_it_was_sent(kind: type, data: st.DataObject) -> None:
    message = data.draw(of_kind(kind))
    number = data.draw(st.none() | st.integers(0, 2**40))
    line = codec.encode(message, number)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert codec.decode(line) == (message, number)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_floats_that_are_not_finite_become_null_at_any_depth(bad: float) -> None:
    message = messages.ResultReported(1, 1, 1, bad, {"loss": bad, "deep": [{"x": (bad, 1.0)}]}, None)
    sent, _ = codec.decode(codec.encode(message))
    assert sent == replace(message, value=None, metrics={"loss": None, "deep": [{"x": [None, 1.0]}]})


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_not_finite_does_not_come_in_either(token: str) -> None:
    line = b'{"type":"SensorNoted","id":null,"node":"n","kind":"k","facts":{"x":%s}}' % token.encode()
    assert codec.decode(line)[0] == messages.SensorNoted("n", "k", {"x": None})


def test_half_a_surrogate_pair_becomes_a_question_mark() -> None:
    """A file name that is not UTF-8 reaches an error's text so, and neither SQLite nor a log would take it."""
    message = messages.TrialEnded(1, 1, "error", None, "no file caf\udce9.pt", {"\udce9": "\udce9"})
    sent, _ = codec.decode(codec.encode(message))
    assert sent == replace(message, error="no file caf?.pt", record={"?": "?"})
    raw = json.dumps({"type": "TrialEnded", "id": 1, **asdict(message)}).encode()
    assert codec.decode(raw)[0] == sent


@given(line=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_garbage_raises_link_error_only(line: bytes) -> None:
    with pytest.raises(codec.LinkError, match="not a message"):
        codec.decode(line)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=15)
@given(data=st.data())
def test_a_message_with_any_field_changed_is_a_message_or_a_link_error(kind: type, data: st.DataObject) -> None:
    """And when it is taken for a message, each field has the type that it says."""
    body = {"type": kind.__name__, "id": None, **asdict(data.draw(of_kind(kind)))}
    key = data.draw(st.sampled_from(sorted(body)))
    body[key] = data.draw(JSON)
    try:
        message, _ = codec.decode(json.dumps(body).encode())
    except codec.LinkError:
        return
    assert type(message).__name__ == body["type"]
    for name, hint in get_type_hints(type(message)).items():
        if hint in (int, str, bool):
            assert type(getattr(message, name)) is hint


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"[" * 100_000,
        b'{"type":"Ack"}',
        b'{"type":"Ack","id":null}',
        b'{"type":"Ack","id":null,"of":1,"colour":"red"}',
        b'{"type":"Ack","id":null,"of":true}',
        b'{"type":"Ack","id":null,"of":9223372036854775808}',
        b'{"type":"Ack","id":"seven","of":1}',
        b'{"type":["Ack"],"id":null,"of":1}',
        b'{"type":"NoSuch","id":null}',
        b'{"type":"TrialHeld","id":1,"number":0,"attempt":1,"state":"TERMINATED","reason":""}',
        b'{"type":"TrialEnded","id":1,"number":0,"attempt":1,"end_reason":"bored","value":1,"error":null,"record":{}}',
    ],
)
def test_what_only_looks_like_a_message_raises_link_error(line: bytes) -> None:
    with pytest.raises(codec.LinkError, match="not a message"):
        codec.decode(line)


def test_a_line_over_the_bound_is_not_sent() -> None:
    message = messages.ExperimentEnded("x" * codec.MAX_LINE_BYTES)
    with pytest.raises(codec.LinkError, match=f"over the bound of {codec.MAX_LINE_BYTES}"):
        codec.encode(message)


def test_a_line_at_the_bound_is_sent() -> None:
    room = codec.MAX_LINE_BYTES - len(codec.encode(messages.ExperimentEnded("")))
    assert len(codec.encode(messages.ExperimentEnded("x" * room))) == codec.MAX_LINE_BYTES


def test_a_value_that_json_does_not_know_is_a_bug_of_the_sender() -> None:
    with pytest.raises(TypeError):
        codec.encode(messages.SensorNoted("n", "k", {"x": object()}))
