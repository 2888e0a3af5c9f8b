"""Check what `status` says of the machine: pauses, temperatures, a full disk, the schedule, a shortage."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.cli import status_text
from supervisor.domain import command_text
from tests.unit.cli.status_view import (
    NOW,
    command,
    experiment,
    node,
    view,
)


@pytest.mark.parametrize(
    ("commands", "node_command", "lines"),
    [
        ([command("PAUSE")], command("RUN", "governor"), ["PAUSED by ann: visitors, for 1 min 30 s"]),
        (
            [command("HOLD")],
            command("RUN", "governor"),
            ["PAUSED (running trials finish) by ann: visitors, for 1 min 30 s"],
        ),
        ([], command("PAUSE", "governor", reason="92 C"), ["PAUSED by governor: 92 C, for 1 min 30 s"]),
        ([], command("HOLD", "governor"), ["HOLD by governor: visitors, for 1 min 30 s"]),
        ([], command("THROTTLE", "governor", drill=True), ["THROTTLE by governor: visitors, for 1 min 30 s [drill]"]),
        ([], command("STOP", "governor", since_wall=None), ["PAUSED by governor: visitors"]),
        ([], command("RUN", "governor"), []),
        (
            [command("PAUSE", scope="2M-h1/17"), command("HOLD", scope="2M-h1/18"), command("PAUSE", scope="3f" * 28)],
            command("RUN", "governor"),
            [
                "PAUSED trial 17 of 2M-h1 by ann: visitors, for 1 min 30 s",
                "PAUSED (at its next report) trial 18 of 2M-h1 by ann: visitors, for 1 min 30 s",
                "PAUSED on node 3f3f3f3f3f3f by ann: visitors, for 1 min 30 s",
            ],
        ),
        (
            [command("PAUSE", reason="one\ntwo")],
            command("PAUSE", "governor", reason="92 C"),
            ["PAUSED by ann: one two, for 1 min 30 s", "PAUSED by governor: 92 C, for 1 min 30 s"],
        ),
    ],
)  # fmt: skip
def test_a_pause_shows_its_kind_its_origin_its_reason_and_its_time(
    commands: list[dict[str, Any]], node_command: dict[str, Any], lines: list[str]
) -> None:
    assert command_text.pauses(view(commands=commands, nodes={"n": node(command=node_command)})) == lines


@pytest.mark.parametrize(
    ("nodes", "text"),
    [
        ({}, "hardware not sampled yet"),
        ({"a": node(61.4), "b": node(70.6)}, "71 C"),
        ({"a": node(None)}, "temperature lost"),
        ({"a": node(None, protected=False)}, "UNPROTECTED (no temperature sensor)"),
    ],
)
def test_the_hottest_temperature_or_why_there_is_none(nodes: dict[str, Any], text: str) -> None:
    assert status_text.hardware(nodes) == text


def test_a_full_disk_is_shown_with_its_folder_and_its_free_bytes() -> None:
    disk = {"folder": "/h/state", "free_bytes": 1_300_000, "full": True, "enough_bytes": 64 << 20}
    text = "PAUSED: the disk is full, 1.2 MiB free at /h/state; resumes by itself once 64.0 MiB are free"
    assert text in status_text.status(view(experiment(), disk=disk))
    assert text in status_text.progress(view(experiment(), disk=disk))
    assert "an unknown number of bytes free" in status_text.status(view(disk=disk | {"free_bytes": None}))
    assert "1.2 MiB of disk free" in status_text.status(view(experiment(), disk=disk | {"full": False}))
    assert "the disk is full" not in status_text.status(view(experiment(), disk=disk | {"full": False}))
    held = command("PAUSE", "governor", reason="no room for Ray's folder /tmp/x")
    assert "PAUSED by governor: no room for Ray's folder /tmp/x" in status_text.status(view(held=[held]))


BY_HOURS = "by schedule until Mon 18:00 CET (mon-fri 09:00-18:00)"


@pytest.mark.parametrize(
    ("action", "until", "shown"),
    [
        ("PAUSE", NOW + 60, f"PAUSED {BY_HOURS}, for 1 min 30 s"),
        ("HOLD", NOW + 60, f"PAUSED (running trials finish) {BY_HOURS}, for 1 min 30 s"),
        ("RUN", NOW + 60, f"at work {BY_HOURS}"), ("PAUSE", None, f"PAUSED {BY_HOURS}"), ("PAUSE", NOW - 60, None),
    ],
)  # fmt: skip
def test_the_schedules_command_is_shown_with_its_end_until_it_is_over(
    action: str, until: float | None, shown: str | None
) -> None:
    by_schedule = command(action, "schedule", reason=BY_HOURS) | {"who": None, "until_wall": until}
    text = status_text.status(view(experiment(), commands=[by_schedule]))
    assert (BY_HOURS in text) == (shown is not None)
    assert shown is None or shown in text


def test_without_a_daemon_nothing_follows_the_schedule() -> None:
    by_schedule = command("PAUSE", "schedule", reason=BY_HOURS) | {"until_wall": None}
    assert command_text.pauses({"commands": [by_schedule]}) == []


def test_a_shortage_of_resources_is_shown_in_status_and_progress() -> None:
    short = view(experiment(), shortage="a trial needs 1 gpu on one node, and the most that a node has is 0 gpu")
    for text in (status_text.status(short), status_text.progress(short)):
        assert "WAITING: a trial needs 1 gpu on one node" in text
    assert "WAITING" not in status_text.status(view(experiment(), shortage=None))
