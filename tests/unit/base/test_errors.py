"""Test the tree of errors: messages, exit codes and cures."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from supervisor import errors
from supervisor.errors import PlanError, SweepError

CLASSES = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, SweepError)]
LSB = {1, 2, 4, 5, 6, 7}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_has_a_sentence_for_its_default_and_an_exit_code_of_lsb(kind: type[SweepError]) -> None:
    assert kind.__doc__ is not None
    sentence = kind.__doc__.strip()
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert kind.exit_code in LSB
    if not issubclass(kind, PlanError):
        assert kind().message == sentence


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_keeps_the_facts_and_the_cure_that_it_is_given(kind: type[SweepError]) -> None:
    error = kind("the fact", remedy="the cure")
    assert error.render() == "the fact\n  cure: the cure"
    assert str(error) == "the fact"


def test_an_error_without_a_cure_promises_none() -> None:
    assert SweepError("the fact").render() == "the fact"


def test_a_cure_for_one_error_is_not_one_for_its_class() -> None:
    SweepError("one", remedy="for one only")
    assert SweepError("two").remedy is None


def test_an_error_in_a_plan_says_where() -> None:
    error = PlanError("no such key 'max_trails'", file="mine.yaml", line=7, key="max_trails", remedy="max_trials")
    assert error.message == "mine.yaml:7: no such key 'max_trails'"
    assert (error.file, error.line, error.key) == ("mine.yaml", 7, "max_trails")
    assert PlanError("empty").message == "empty"


def test_the_exit_codes_that_scripts_rely_on() -> None:
    expected = {
        "UsageError": 2, "PlanError": 6, "UnknownPlan": 6, "DataMissing": 6, "NotOurs": 5, "VersionSkew": 5,
        "NotRunning": 7, "AlreadyRunning": 1, "NotPermitted": 4, "NotFound": 2,
    }  # fmt: skip
    assert {name: getattr(errors, name).exit_code for name in expected} == expected


def test_the_manual_lists_every_error_under_its_code() -> None:
    manual = (Path(errors.__file__).parents[1] / "docs" / "commands.md").read_text()
    assert errors.render_markdown() in manual, (
        "run `python -m supervisor.errors` and put its rows into docs/commands.md"
    )
    assert {code for code, _ in errors.causes().items()} == LSB


def test_an_error_on_one_line_keeps_its_cure() -> None:
    assert SweepError("two\nlines", remedy="do this").sentence() == "two lines; cure: do this"
    assert SweepError("the fact").sentence() == "the fact"
