"""Each command that a page of the manual or a message names is one that our parsers take."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.test_runbook import OURS, PARSERS, PLACEHOLDERS, commands

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ROOMS = ("supervisor", "actors", "training")
VALUES = ("2M-h1", "2M-h1/17", "1", "list")
"""Stand for a value that a message puts in; one of them must be taken."""
HOLE = "\0"
ONLY_MISSING = re.compile("the following arguments are required|expected one argument")
"""argparse's messages for a command that is named without its arguments, as in "`supervisorctl rm` deleted them"."""


def named_on(page: Path) -> set[str]:
    """Return the commands in code on a page, without what is said beside them or a shell does with them."""
    lines = [line for line in page.read_text().splitlines() if line.startswith(("supervisorctl ", "supervisord "))]
    return {re.split(r"\s{2,}|\s[#|&>]", found)[0] for found in [*commands(page.read_text()), *lines]}


def named_in(text: str) -> Iterator[str]:
    """Yield the commands in backquotes in the texts of a module's code; a HOLE stands for each value put in."""
    tree = ast.parse(text)
    joined = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    pieces = {id(piece) for node in joined for piece in node.values}
    plain = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in pieces]
    texts = [node.value for node in plain if isinstance(node.value, str)]
    texts += ["".join(_piece(piece) for piece in node.values) for node in joined]
    for span in (" ".join(span.split()) for each in texts for span in re.findall(r"`([^`]+)`", each)):
        if (found := OURS.fullmatch(span)) is not None and " " in found[1]:
            yield found[1]


def _piece(piece: ast.expr) -> str:
    return str(piece.value) if isinstance(piece, ast.Constant) else HOLE


def refusal(command: str, capsys: pytest.CaptureFixture[str]) -> str | None:
    """Return the parser's message for a command that it refuses for more than missing arguments."""
    said = []
    for value in VALUES if HOLE in command else ("",):
        program, *words = shlex.split(command.replace(HOLE, value))
        try:
            PARSERS[program]().parse_args([PLACEHOLDERS.get(word, word) for word in words])
        except SystemExit as ended:
            said.append(capsys.readouterr().err)
            if ended.code == 0 or ONLY_MISSING.search(said[-1]):
                return None
        else:
            return None
    return said[-1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_command_of_a_page_is_taken(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused = {command: refusal(command, capsys) for command in sorted(named_on(page))}
    assert {command: said for command, said in refused.items() if said is not None} == {}


@pytest.mark.parametrize("room", ROOMS)
def test_each_command_that_a_message_names_is_taken(room: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = {command for file in (ROOT / room).rglob("*.py") for command in named_in(file.read_text())}
    assert found, "there are commands in messages"
    refused = {command: refusal(command, capsys) for command in sorted(found)}
    assert {command: said for command, said in refused.items() if said is not None} == {}


@pytest.mark.parametrize(
    ("code", "taken"),
    [
        ('"type `supervisorctl frobnicate`"', False),
        ('"type `supervisorctl sensors --record 60 --replay x`"', False),
        ('f"`supervisorctl log {trial}`"', True),
        ('f"`supervisorctl skip {name} --force`"', False),
        ('"as `supervisorctl rm` does"', True),
    ],
)
def test_a_command_that_does_not_exist_would_be_seen(
    code: str, taken: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    (command,) = named_in(code)
    assert (refusal(command, capsys) is None) is taken
