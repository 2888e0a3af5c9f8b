"""The examples at the end of each verb's help: each verb has one, and each is parsed by the verb's own parser."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor import errors
from supervisor.cli import supervisorctl, supervisord
from supervisor.cli.guide.examples import EXAMPLES
from supervisor.cli.guide.next_steps import cure_of
from supervisor.errors import NotFound, SweepError, UsageError

PARSERS = {"supervisord": supervisord.build_parser, "supervisorctl": supervisorctl.build_parser}
SHELL = ("|", ">")
"""Ends a command's own words: the shell takes what follows."""


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield a parser and those of its verbs."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                yield from parsers(verb)


@pytest.mark.parametrize("program", PARSERS)
def test_each_verbs_help_ends_with_examples(program: str) -> None:
    for parser in parsers(PARSERS[program]()):
        assert EXAMPLES.get(parser.prog), f"supervisor/cli/guide/examples.py has no example of {parser.prog}"
        last = parser.format_help().rpartition("examples:\n")[2].splitlines()
        assert [line.strip() for line in last] == list(EXAMPLES[parser.prog])


def test_no_example_is_of_a_verb_that_there_is_not() -> None:
    assert set(EXAMPLES) == {parser.prog for build in PARSERS.values() for parser in parsers(build())}


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_each_example_can_be_typed(line: str) -> None:
    words = shlex.split(line, comments=True)
    end = min([words.index(sign) for sign in SHELL if sign in words], default=len(words))
    program, *arguments = words[:end]
    assert PARSERS[program]().parse_args(arguments).verb == arguments[0]
    assert all(ord(character) < 128 for character in line)
    assert len(line) <= 100


@pytest.mark.parametrize("prog", EXAMPLES)
def test_an_examples_command_is_the_one_that_it_explains(prog: str) -> None:
    for line in EXAMPLES[prog]:
        assert line.startswith(prog)


def test_a_mistake_names_the_help_to_read(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        supervisorctl.main(["drill"])
    assert "cure: `supervisorctl drill --help`" in capsys.readouterr().err


def classes(kind: type[SweepError] = SweepError) -> Iterator[type[SweepError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from classes(below)


@pytest.mark.parametrize("remedy", [None, "write 45s, 2m or 1h", "did you mean 2M-h1?"])
@pytest.mark.parametrize("kind", [kind for kind in classes() if kind.__module__ == errors.__name__])
def test_each_error_names_a_command_to_type(kind: type[SweepError], remedy: str | None) -> None:
    cure = cure_of(kind("it is wrong", remedy=remedy), "supervisorctl drill")
    assert "`" in cure
    assert cure.startswith(remedy or "")
    assert "{" not in cure


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        (UsageError("no", remedy="write 45s"), "write 45s; `supervisorctl drill --help` has examples"),
        (NotFound("no", remedy="did you mean a?"), "did you mean a? `supervisorctl status` names the experiments, "),
        (NotFound("no", remedy="`supervisorctl gc` lists them"), "`supervisorctl gc` lists them"),
    ],
)
def test_a_command_is_added_only_to_a_cure_without_one(error: SweepError, cure: str) -> None:
    assert cure_of(error, "supervisorctl drill").startswith(cure)


def test_an_error_of_a_verb_ends_with_the_command_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path))
    assert supervisorctl.main(["drill", "heat", "--for", "soon"]) == 2
    assert capsys.readouterr().err.endswith("; `supervisorctl drill --help` has examples\n")
