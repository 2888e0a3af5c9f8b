"""docs/runbook.md can be typed: each command in it is one that our parsers take, and each alarm is explained."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from supervisor.cli import supervisorctl, supervisord
from supervisor.cli.dispatch import Parser
from supervisor.daemon.news import dead_man, topics
from supervisor.daemon.news.topics import Topic

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "runbook.md").read_text()
PARSERS = {"supervisorctl": supervisorctl.build_parser, "supervisord": supervisord.build_parser}
OURS = re.compile(r"(?:SWEEP_HOME=\S+ )?((?:supervisorctl|supervisord)\b.*)")
PLACEHOLDERS = {
    "N": "3",
    "PLAN": "smoke",
    "EXPERIMENT": "2M-h1",
    "TRIAL": "2M-h1/17",
    "RUN": "smoke-1",
    "FILE": "copy.db",
}


def commands(text: str) -> list[str]:
    """List our commands in the spans and blocks of code of a page."""
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]
    blocks = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    # `supervisord` alone is a name, not a command.
    return [found[1] for each in (*spans, *blocks) if (found := OURS.fullmatch(each)) and " " in found[1]]


def is_taken(command: str) -> bool:
    """Return whether our parser takes a command, each placeholder replaced by a name."""
    program, *words = shlex.split(command)
    parser: Parser = PARSERS[program]()
    try:
        parser.parse_args([PLACEHOLDERS.get(word, word) for word in words])
    except SystemExit as refusal:
        return refusal.code == 0
    return True


def all_topics() -> list[Topic]:
    return [value for value in vars(topics).values() if isinstance(value, Topic)]


def test_the_page_has_commands() -> None:
    assert len(commands(PAGE)) > 40


@pytest.mark.parametrize("command", sorted(set(commands(PAGE))))
def test_each_command_of_the_page_is_taken_by_our_parsers(command: str) -> None:
    assert is_taken(command)


@pytest.mark.parametrize("command", ["supervisorctl frobnicate", "supervisord start --no-such", "supervisorctl drill"])
def test_a_command_that_does_not_exist_would_be_seen(command: str) -> None:
    assert commands(f"type `{command}` now") == [command]
    assert not is_taken(command)


@pytest.mark.parametrize("topic", all_topics(), ids=lambda topic: topic.key)
def test_each_topic_of_messages_is_explained_and_its_command_is_taken(topic: Topic) -> None:
    assert re.search(rf"^\| `{re.escape(topic.key)}` \|", PAGE, re.MULTILINE), f"{topic.key} has no row"
    assert is_taken(topic.next.format(experiment="EXPERIMENT"))


def test_the_period_of_the_ping_is_the_one_that_the_page_tells() -> None:
    assert f"every {dead_man.PERIOD_S / 60:g} minutes" in PAGE
