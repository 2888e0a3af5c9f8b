"""The YAML reader: YAML 1.2 scalars, a line for every value, nothing unsafe, everything bounded."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import PlanError
from supervisor.plan import yaml_reader
from supervisor.plan.set_values import as_text


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("1e-4", 1e-4),
        ("1.5e3", 1500.0),
        (".5", 0.5),
        ("-3", -3),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("2M", "2M"),
        ("20k", "20k"),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("60:30", "60:30"),
        ("1_000", "1_000"),
        ("2026-01-01", "2026-01-01"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("'1e-4'", "1e-4"),
        ('"true"', "true"),
        ("[1, 2.0, x]", [1, 2.0, "x"]),
    ],
)
def test_scalars_mean_what_yaml_1_2_says(text: str, meaning: object) -> None:
    value = yaml_reader.parse(f"key: {text}\n", "f").value
    assert value == {"key": meaning}
    assert isinstance(value, dict)
    assert type(value["key"]) is type(meaning)


def test_every_value_has_its_line() -> None:
    document = yaml_reader.parse("# c\na: 1\nb:\n  c:\n    - x\n    - {y: 2}\n", "f")
    assert document.lines[("a",)] == 2
    assert document.lines[("b",)] == 3
    assert document.lines[("b", "c", 1, "y")] == 6
    assert document.line_of(("b", "c", 7, "z")) == 4, "a missing value has the line of the value around it"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\na: 2\n", 2, "duplicate key 'a', first on line 1"),
        ("a: !!python/object/apply:os.system [x]\n", 1, "tags such as"),
        ("a: !x y\n", 1, "tags such as"),
        ("a: &x 1\nb: *x\n", 1, "anchors"),
        ("b: *x\n", 1, "anchors"),
        ("a: {<<: {b: 1}, <<: {c: 2}}\n", 1, "duplicate key '<<'"),
        ("a: .inf\n", 1, "not a finite number"),
        ("a: .nan\n", 1, "not a finite number"),
        ("a: 1e999\n", 1, "not a finite number"),
        ("a: " + "9" * 5000, 1, "too long"),
        ("a: 1\n---\nb: 2\n", 2, "second document"),
        ("a: 1\n  b: 2\n", 2, "not YAML"),
        ("a: [1, 2\n", 2, "not YAML"),
        ("\ta: 1\n", 1, "not YAML"),
        ("? [x]\n: 1\n", 1, "a key must be a name"),
        ('a: "\\ud800"\n', 1, "no file can"),
        ('a: "\\0"\n', 1, "no file can"),
        ("k" * 300 + ": 1\n", 1, "too long"),
    ],
)
def test_a_refused_text_is_reported_with_file_and_line(text: str, line: int, said: str) -> None:
    with pytest.raises(PlanError, match=r"plan\.yaml") as caught:
        yaml_reader.parse(text, "plan.yaml")
    assert said in caught.value.message
    assert caught.value.line == line
    assert caught.value.file == "plan.yaml"


def test_an_escape_beyond_unicode_is_a_plan_error() -> None:
    with pytest.raises(PlanError, match="not YAML"):
        yaml_reader.parse('a: "\\UFFFFFFFF"', "f")


def test_a_bomb_of_aliases_is_refused_at_its_first_anchor() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 40)]
    with pytest.raises(PlanError, match="anchors") as caught:
        yaml_reader.parse("\n".join(lines), "bomb.yaml")
    assert caught.value.line == 1


@pytest.mark.parametrize("depth", [yaml_reader.MAX_DEPTH + 1, 5_000])
def test_depth_is_bounded(depth: int) -> None:
    with pytest.raises(PlanError, match="nested more than"):
        yaml_reader.parse("a: " + "[" * depth + "]" * depth, "f")


def test_size_and_count_are_bounded() -> None:
    with pytest.raises(PlanError, match="larger than"):
        yaml_reader.parse("#" + "x" * yaml_reader.MAX_BYTES, "f")
    with pytest.raises(PlanError, match="values"):
        yaml_reader.parse("a: [" + "1," * (yaml_reader.MAX_NODES + 1) + "]", "f")


@given(st.text(max_size=300))
def test_any_text_gives_a_document_or_a_plan_error(text: str) -> None:
    try:
        document = yaml_reader.parse(text, "f")
    except PlanError:
        return
    assert document.value is None or () in document.lines


_CHARACTERS = "aeglnotu:-[]{}#&*!|>'\"%@,?\n \t0123456789.~<=\\x"


@given(st.text(alphabet=_CHARACTERS, max_size=120))
def test_any_text_like_yaml_gives_json_data_or_a_plan_error(text: str) -> None:
    try:
        value = yaml_reader.parse(text, "f").value
    except PlanError:
        return
    assert json.loads(json.dumps(value, allow_nan=False)) == value


_KEYS = st.text(min_size=1, max_size=12).filter(lambda key: "\0" not in key)
_LEAVES: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=30).filter(lambda text: "\0" not in text)
)
_TREES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4), max_leaves=15
)


@given(st.dictionaries(_KEYS, _TREES, max_size=5), st.text(max_size=20))
def test_a_frozen_text_parses_to_exactly_its_data(data: dict[str, Any], header: str) -> None:
    assert yaml_reader.parse(as_text(data, header), "f").value == data
