"""Sizes, durations, values and tables as text for people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.formatting import UNITS, human, one_line, short_value, table


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (512, "512 bytes"), (1536, "1.5 KiB"), (4 << 30, "4.0 GiB"), (3 << 50, "3072.0 TiB")],
)
def test_a_size_in_the_unit_that_fits(size: int, text: str) -> None:
    assert human(size) == text


@given(st.integers(0, 2**60))
def test_a_size_is_exact_to_a_twentieth_of_its_unit(size: int) -> None:
    figure, unit = human(size).split()
    assert abs(float(figure) * 1024 ** UNITS.index(unit) - size) <= 0.051 * 1024 ** UNITS.index(unit)


def test_columns_of_a_table_are_aligned_and_lines_end_without_spaces() -> None:
    rows = [("name", "n", "note"), ("a", "10", ""), ("longer", "1", "x")]
    assert table(rows) == ["name    n   note", "a       10", "longer  1   x"]
    assert table(rows, rule=True)[1] == "------  --  ----"


def test_a_long_text_of_several_lines_becomes_one_short_line() -> None:
    assert one_line("a\n  b\tc") == "a b c"
    line = one_line("x" * 5000)
    assert (len(line), line[-1]) == (300, "…")


@pytest.mark.parametrize(("value", "text"), [(0.000123456, "0.000123"), (128, "128"), ("gelu", "gelu"), (True, "True")])
def test_a_parameters_value_takes_few_characters(value: object, text: str) -> None:
    assert short_value(value) == text
