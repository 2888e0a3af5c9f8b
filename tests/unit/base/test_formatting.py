"""Bytes for people."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.formatting import UNITS, human


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (512, "512 bytes"), (1536, "1.5 KiB"), (4 << 30, "4.0 GiB"), (3 << 50, "3072.0 TiB")],
)
def test_a_size_in_the_unit_that_fits(size: int, text: str) -> None:
    assert human(size) == text


@settings(deadline=None)
@given(st.integers(0, 2**60))
def test_what_is_shown_is_what_it_is_to_a_twentieth_of_its_unit(size: int) -> None:
    figure, unit = human(size).split()
    assert abs(float(figure) * 1024 ** UNITS.index(unit) - size) <= 0.051 * 1024 ** UNITS.index(unit)
