"""Each verb is typed in each situation, and ends with the code that supervisor.cli.guide.exit_codes has for it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from types import ModuleType

import pytest

from supervisor.cli import maintenance, supervisorctl, supervisord
from supervisor.cli.guide import exit_codes
from supervisor.cli.guide.exit_codes import MEANINGS, RUN_ENDS, SITUATIONS, SUPERVISORCTL, SUPERVISORD, Codes
from supervisor.clock import Clock
from supervisor.store.database import Store
from tests.contract.exit_situations import TYPED
from tests.contract.exit_stage import Stage

PAGE = Path(__file__).resolve().parents[2] / "docs" / "commands.md"
TABLES = {"supervisord": SUPERVISORD, "supervisorctl": SUPERVISORCTL}
OF_THE_DAEMON = ("no_run", "no_daemon", "late", "not_permitted", "foreign")
CASES = [
    (command, verb, situation, code)
    for command, table in TABLES.items()
    for verb, codes in table.items()
    for situation, code in asdict(codes).items()
    if code is not None
]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    made = Stage(tmp_path, monkeypatch)
    try:
        yield made
    finally:
        made.close()


def verbs_of(parser: argparse.ArgumentParser, before: str = "") -> Iterator[str]:
    """Yield each verb of a parser; in place of a verb that has verbs itself, those of it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, verb in action.choices.items():
                yield from list(verbs_of(verb, f"{before}{name} ")) or [f"{before}{name}"]


@pytest.mark.parametrize("command", [supervisord, supervisorctl])
def test_each_verb_has_a_row(command: ModuleType) -> None:
    parser = command.build_parser()
    assert sorted(TABLES[parser.prog]) == sorted(verbs_of(parser))


def test_a_row_has_all_situations_of_the_daemon_or_none() -> None:
    assert [field.name for field in fields(Codes)] == list(SITUATIONS) == list(TYPED)
    for verb, codes in {**SUPERVISORD, **SUPERVISORCTL}.items():
        known = [getattr(codes, situation) is not None for situation in OF_THE_DAEMON]
        assert all(known) or not any(known), verb


@pytest.mark.parametrize(
    ("command", "verb", "situation", "code"), CASES, ids=[f"{verb}-{situation}" for _, verb, situation, _ in CASES]
)
def test_a_verb_ends_with_the_code_of_its_situation(
    stage: Stage, command: str, verb: str, situation: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert TYPED[situation](stage, command, verb) == code, capsys.readouterr()
    if situation == "done" and TABLES[command][verb].no_run is None:
        assert stage.asked == [], "a verb that asks the daemon has a code for each of its situations"


@pytest.mark.parametrize(
    ("end", "changes"),
    [
        ("passed", ""),
        ("failed", "UPDATE experiment SET state = 'FATAL', reason = 'out of luck'"),
        ("incomplete", "UPDATE trial SET state = 'ERROR', end_reason = 'oom'"),
        ("unfinished", "UPDATE experiment SET state = 'STOPPED'"),
    ],
)
def test_wait_ends_with_the_code_of_the_runs_end(stage: Stage, end: str, changes: str) -> None:
    stage.put_run()
    if changes:
        store = Store(stage.home.store, Clock())
        with store.change() as change:
            change.execute(changes)
        store.close()
    assert stage.type("supervisorctl", "wait") == RUN_ENDS[end]


def test_wait_ends_with_its_own_code_when_its_time_is_over(stage: Stage) -> None:
    stage.put_run()
    stage.live()
    assert stage.type("supervisorctl", "wait", "--timeout", "0") == RUN_ENDS["timeout"]


def test_ctrl_c_ends_each_verb_with_the_code_of_shells(stage: Stage) -> None:
    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    stage.patch.setattr(maintenance, "version", interrupt)
    assert stage.type("supervisorctl", "version") == next(
        code for code, _, what in MEANINGS if what.startswith("Ctrl-C")
    )


def test_the_meanings_agree_with_the_codes() -> None:
    meant = {(code, verb) for code, verbs, _ in MEANINGS for verb in re.findall(r"`([a-z ]+)`", verbs)}
    problems = {(codes.found, verb) for verb, codes in {**SUPERVISORD, **SUPERVISORCTL}.items() if codes.found}
    ends = {(code, "wait") for code in RUN_ENDS.values()}
    assert meant == problems | ends | {(SUPERVISORCTL["status"].no_daemon, "status")}


def test_the_page_has_the_tables() -> None:
    assert exit_codes.render_markdown() in PAGE.read_text(), "`python -m supervisor.cli.guide.exit_codes` prints them"
