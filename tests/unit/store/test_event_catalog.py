"""Test the table of events: it has each recorded event, and makes their page."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.store.event_catalog import EVENTS, check_event, render_markdown
from supervisor.store.event_words import describe

CHECKOUT = Path(__file__).resolve().parents[3]

EVENT_ARGUMENT = {"record": 0, "Note": 0, "SensorNoted": 1, "move_run": 1, "desire": 1, "move_experiment": 2}
"""The methods that record an event, and the place of its name among their arguments."""

ADDRESS = {"run", "experiment", "trial", "attempt"}
OF_A_LINE = {"ts", "seq", "level", "event", "msg", "prev", *ADDRESS}

IRREGULAR = {"aside", "lost", "stuck", "hung", "found", "kept", "rebuilt", "set", "sent", "slept", "still"}
"""Past participles without -ed or -en, and the end of "set aside"."""


def recorded_in(source: str) -> Iterator[tuple[str, set[str], int]]:
    """Each event that is recorded by its plain name: the name, the fields beside it, and the line."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if called not in EVENT_ARGUMENT:
            continue
        position = EVENT_ARGUMENT[called]
        named = [keyword.value for keyword in node.keywords if keyword.arg in ("event", "kind")]
        argument = node.args[position] if len(node.args) > position else (named[0] if named else None)
        for name in names_of(argument):
            fields = {keyword.arg for keyword in node.keywords if keyword.arg is not None}
            yield name, fields if called == "record" else set(), node.lineno


def names_of(argument: ast.expr | None) -> list[str]:
    if isinstance(argument, ast.IfExp):
        return [*names_of(argument.body), *names_of(argument.orelse)]
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return [argument.value]
    return []


def everything_recorded() -> list[tuple[str, set[str], str]]:
    found = []
    for room in ("supervisor", "actors"):
        for path in sorted((CHECKOUT / room).rglob("*.py")):
            found += [
                (name, fields, f"{path.relative_to(CHECKOUT)}:{line}")
                for name, fields, line in recorded_in(path.read_text())
                if "." in name
            ]
    return found


def test_every_event_that_is_recorded_anywhere_is_in_the_table_with_its_fields() -> None:
    recorded = everything_recorded()
    assert len({name for name, _, _ in recorded}) > 20, "the scan has found the calls"
    unknown = [f"{where}: {name}" for name, _, where in recorded if name not in EVENTS]
    assert unknown == []
    odd = [
        f"{where}: {name} with {sorted(more)}"
        for name, fields, where in recorded
        if (more := fields - set(EVENTS[name].fields) - ADDRESS)
    ]
    assert odd == []


def test_the_governors_notes_are_found_by_the_scan() -> None:
    names = {name for name, _, where in everything_recorded() if where.startswith("supervisor/")}
    assert {"sensor.lost", "sensor.stuck", "sensor.hung", "sensor.recovered", "clock.jumped", "action.changed"} <= names


def test_every_event_in_the_table_is_recorded_somewhere() -> None:
    """Look for its name in a string: some names are chosen before they are recorded."""
    text = "".join(
        path.read_text()
        for room in ("supervisor", "actors")
        for path in sorted((CHECKOUT / room).rglob("*.py"))
        if path.name != "event_catalog.py"
    )
    assert [name for name in EVENTS if f'"{name}"' not in text] == []


@pytest.mark.parametrize("name", list(EVENTS))
def test_an_events_name_is_dotted_and_in_the_past_tense(name: str) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*\.[a-z]+(_[a-z]+)*", name)
    last = name.partition(".")[2].split("_")[-1]
    assert last.endswith(("ed", "en")) or last in IRREGULAR


@pytest.mark.parametrize("name", list(EVENTS))
def test_an_event_has_a_level_and_fields_that_nothing_hides_and_its_text_uses_only_those(name: str) -> None:
    kind = EVENTS[name]
    assert kind.level in ("info", "warning", "error")
    assert len(set(kind.fields)) == len(kind.fields)
    assert not set(kind.fields) & OF_A_LINE
    used = {field for _, field, _, _ in string.Formatter().parse(kind.text) if field is not None}
    assert used <= {*kind.fields, *ADDRESS}


def test_a_sentence_is_filled_in_and_what_is_missing_is_a_dash() -> None:
    assert (
        describe("experiment.finished", {"experiment": "2M-h1", "best": 0.25})
        == "2M-h1 finished: best 0.25 of - trials, - failed"
    )
    assert describe("driver.started", {"pid": 7, "experiment": None}) == "driver 7 of - started"
    assert describe("run.failed", {"error": "{pid} {0} }{"}) == "run cannot go on: {pid} {0} }{"


def test_bytes_have_units_and_lists_are_no_python() -> None:
    filled = describe("disk.filled", {"folder": "/h", "free_bytes": 1_300_000})
    assert filled == "only 1.2 MiB are free at /h: work pauses until there is space"
    assert describe("audit.repaired", {"bytes": 34}) == "an incomplete last line of 34 bytes was removed from the log"
    ended = describe("orphans.ended", {"processes": ["7 python", "8 raylet"]})
    assert ended.endswith(": 7 python, 8 raylet")


@pytest.mark.parametrize("name", list(EVENTS))
def test_a_sentence_is_right_for_one_and_for_several(name: str) -> None:
    assert not re.search(
        r"\{(?!who\b|experiment\b)\w+\} (?:trial|file|line|event|point|experiment|time|core|day|shape)s\b",
        EVENTS[name].text,
    )
    for _, field, noun, _ in string.Formatter().parse(EVENTS[name].text):
        if field is not None and noun:
            assert f"1 {noun}" in describe(name, {field: 1})
            assert f"1 {noun}s" not in describe(name, {field: 1})
            assert f"0 {noun}s" in describe(name, {field: 0})
            assert f"12 {noun}s" in describe(name, {field: 12})
            assert f"- {noun}s" in describe(name, {})


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("daemon.recovered", {"requeued": 1}, "the last daemon did not end in order; back to the queue: 1 trial"),
        (
            "experiment.search_ended",
            {"experiment": "a", "trials": 1, "reason": "finish"},
            "a ends its search after 1 trial (finish)",
        ),
        ("notice.sent", {"count": 1, "up_to": 7}, "a message with 1 event up to 7 was sent"),
        ("experiment.warmed", {"experiment": "a", "count": 1, "donor": "b"}, "a starts with 1 point of b"),
        (
            "run.estimated",
            {"count": 1, "basis": "timed"},
            "the ETA begins with the dry run's figures of 1 experiment (timed)",
        ),
        ("checkpoints.pruned", {"count": 1, "bytes": 1}, "removed of trials that have ended: 1 file, 1 byte"),
        ("audit.restored", {"lines": 2, "after": 5}, "missing from the log after event 5, and written again: 2 lines"),
    ],
)
def test_one_thing_is_no_plural(name: str, fields: dict[str, object], said: str) -> None:
    assert describe(name, fields) == said


def test_the_value_of_another_version_has_its_noun_whatever_it_is() -> None:
    assert (
        describe("experiment.warmed", {"experiment": "a", "count": ["x"], "donor": 1}) == "a starts with x points of 1"
    )


def test_the_page_shows_nouns_in_the_plural() -> None:
    assert "a message with {count} events up to {up_to} was sent" in render_markdown()


def test_what_is_not_in_the_table_is_a_bug_of_the_caller() -> None:
    check_event("run.failed", {"error": "x"})
    with pytest.raises(ValueError, match="expected an event of EVENTS"):
        check_event("run.exploded", {})
    with pytest.raises(ValueError, match="has no field colour"):
        check_event("run.failed", {"error": "x", "colour": "red"})


def test_the_page_about_events_is_what_the_table_says() -> None:
    page = (CHECKOUT / "docs" / "events.md").read_text()
    assert page == render_markdown(), "run `python -m supervisor.store.event_catalog > docs/events.md`"
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) == len(EVENTS)
