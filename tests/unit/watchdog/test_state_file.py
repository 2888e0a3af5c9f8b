"""Test the file of a node's governor state: its name, and its use."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.watchdog.state_file import read_state, state_path, write_state
from supervisor.clock import FakeClock, Now
from supervisor.domain.command import Action
from supervisor.governor.state import GovernorState

DAY_S = 86400.0


@pytest.mark.parametrize(("action", "a_day_later"), [(Action.STOP, Action.STOP), (Action.PAUSE, Action.RUN)])
def test_a_stop_is_kept_and_a_pause_of_yesterday_is_not(tmp_path: Path, action: Action, a_day_later: Action) -> None:
    """After a reboot the monotonic clock is another one; only an operator lifts a STOP."""
    clock, file = FakeClock(), tmp_path / "governor.host"
    write_state(file, GovernorState(action=action, reason="hot", last=Now.of(clock)))
    assert read_state(file, Now(5.0, clock.wall_s() + DAY_S)).action is a_day_later
    assert read_state(file, Now(clock.mono_s() + 5.0, clock.wall_s() + 5.0)).action is action


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 99}'])
def test_a_file_that_cannot_be_used_is_an_empty_state(tmp_path: Path, content: str) -> None:
    file = tmp_path / "governor.host"
    file.write_text(content)
    assert read_state(file, Now(1.0, 1.0)) == GovernorState()


def test_a_state_that_cannot_be_written_does_not_raise(tmp_path: Path) -> None:
    write_state(tmp_path / "absent" / "governor.host", GovernorState())
    assert read_state(tmp_path / "absent" / "governor.host", Now(1.0, 1.0)) == GovernorState()


def test_the_file_is_named_by_its_host_and_of_two_nodes_on_one_host_each_has_its_own() -> None:
    hosts = {"b" * 40: "ann's mac", "a" * 40: "ann's mac", "c" * 40: "other"}
    assert state_path("/s/governor", "a" * 40, hosts) == "/s/governor.ann_s_mac"
    assert state_path("/s/governor", "c" * 40, hosts) == "/s/governor.other"
    assert state_path("/s/governor", "b" * 40, hosts) == "/s/governor.ann_s_mac." + "b" * 12
