"""Sizes, durations, values and tables as text for people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.formatting import UNITS, error_sentence, fitted, human, one_line, printable, short_value, table


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


FRAMES = """\
Traceback (most recent call last):
  File "/w/actors/trial/supervised.py", line 125, in wrapped
    return function(config)
           ^^^^^^^^^^^^^^^^
  File "/home/ann/mine.py", line 6, in objective
    {code}
"""
LIBRARY = """\
  File "/w/.venv/lib/python3.11/site-packages/torch/nn/module.py", line 1501, in _call_impl
    return forward_call(*args, **kwargs)
"""


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("out of luck", "out of luck"),
        ("two\nlines", "two lines"),
        (FRAMES + "ValueError: n is three\n", "ValueError: n is three (mine.py, line 6)"),
        (FRAMES + "AssertionError\n", "AssertionError (mine.py, line 6)"),
        (FRAMES + LIBRARY + "RuntimeError: shapes 3 and 4", "RuntimeError: shapes 3 and 4 (mine.py, line 6)"),
        (FRAMES + "a.b.Odd: first\nsecond\n  third\n", "a.b.Odd: first second third (mine.py, line 6)"),
        (
            FRAMES + "KeyError: 'lr'\n\nDuring handling of the above exception, another exception occurred:\n\n"
            + FRAMES.replace("mine.py", "other.py") + "OSError: disk\n",
            "OSError: disk (other.py, line 6)",
        ),
        (
            'ray::Trainable.train() (pid=7, ip=127.0.0.1)\n  File "/h/mine.py", line 9, in f\n    g()\nValueError: x',
            "ValueError: x (mine.py, line 9)",
        ),
        (FRAMES, " (mine.py, line 6)"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_traceback_becomes_its_exception_and_the_users_own_line(text: str, sentence: str) -> None:
    assert error_sentence(text) == sentence


@given(st.text(max_size=900))
def test_an_error_of_any_text_becomes_one_bounded_line(text: str) -> None:
    for found in (error_sentence(text), error_sentence(FRAMES + text)):
        assert len(found) <= 300
        assert "\n" not in found


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("abc", 3, "abc"), ("abcd", 3, "ab…"), ("会議", 4, "会議"), ("会議中", 4, "会…"), ("a会", 2, "a…"),
        ("ab", 1, "…"), ("ab", 0, ""), ("", 0, ""),
    ],
)  # fmt: skip
def test_a_text_is_cut_to_the_columns_of_a_terminal(text: str, columns: int, shown: str) -> None:
    assert fitted(text, columns) == shown


COLOURED = "\x1b[36mray::Train()\x1b[39m \x1b]0;a title\x07failed\x00\x08\x9b"


def test_an_errors_text_steers_no_terminal() -> None:
    """Ray colours its errors, and a user's code may write anything into one."""
    assert one_line(COLOURED) == error_sentence(COLOURED) == "ray::Train() failed"
    trace = f'Traceback\n\x1b[1m  File "/x/mine.py", line 3, in train\n    f()\nValueError: {COLOURED}'
    assert error_sentence(trace) == "ValueError: ray::Train() failed (mine.py, line 3)"
    assert printable("a\tb\n\u00e9 \u65e5\u672c \U0001f600") == "a\tb\n\u00e9 \u65e5\u672c \U0001f600"
