"""The user's idle time and the battery: known from logind, ioreg and the batteries, else absent with the reason."""

from __future__ import annotations

import math
import plistlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from supervisor.clock import Clock
from supervisor.sensors.battery import BatteryProvider, MacBatteryProvider
from supervisor.sensors.presence import IdleTime, PowerSource
from supervisor.sensors.provider import Absence


class HandClock(Clock):
    now_s = 100.0

    def mono_s(self) -> float:
        return self.now_s

    def wall_s(self) -> float:
        return 1.7e9 + self.now_s


def logind(*sessions: str) -> IdleTime:
    """Return the idle time by these sessions, each "CLASS STATE HINT SINCE_S", as loginctl prints them."""
    blocks = []
    for session in sessions:
        kind, state, hint, since = session.split()
        blocks.append(f"IdleHint={hint}\nIdleSinceHint={since}\nClass={kind}\nState={state}\n")

    def ask(command: Sequence[str]) -> bytes:
        if command[1] == "list-sessions":
            return "".join(f"{name} 1000 pat seat0 tty2\n" for name in range(len(sessions))).encode()
        assert len(command) - command.index("IdleSinceHint") - 1 == len(sessions)
        return "\n".join(blocks).encode()

    return IdleTime(HandClock(), ask, "linux")


@pytest.mark.parametrize(
    ("sessions", "idle_s"),
    [
        (["user active no 0"], 0.0), (["user active yes 1700000040000000"], 60.0),
        (["user active yes 1700000040000000", "user online yes 1700000090000000"], 10.0),
        (["user active yes 1700000040000000", "user online no 0"], 0.0), (["user closing no 0"], math.inf),
        (["greeter active no 0"], math.inf), (["manager active no 0"], math.inf), ([], math.inf),
    ],
)  # fmt: skip
def test_the_least_idle_session_of_a_user_counts(sessions: list[str], idle_s: float) -> None:
    assert logind(*sessions).seconds() == idle_s


def test_an_idle_session_that_does_not_say_since_when_counts_from_the_first_look() -> None:
    clock = HandClock()
    block = b"IdleHint=yes\nIdleSinceHint=0\nClass=user\nState=active\n"
    idle = IdleTime(clock, lambda command: b"1 1000 pat\n" if command[1] == "list-sessions" else block, "linux")
    assert idle.seconds() == 0.0
    clock.now_s += 600
    assert idle.seconds() == 600.0


def test_a_session_that_ends_between_the_two_questions_is_asked_for_no_more() -> None:
    listed = iter([b"1 1000 pat\n9 0 root\n", b"1 1000 pat\n"])

    def ask(command: Sequence[str]) -> bytes:
        if command[1] == "list-sessions":
            return next(listed)
        if "9" in command:
            raise subprocess.CalledProcessError(1, ["loginctl"], stderr=b"Failed to get path for session '9'")
        return b"IdleHint=yes\nIdleSinceHint=1700000040000000\nClass=user\nState=active\n"

    assert IdleTime(HandClock(), ask, "linux").seconds() == 60.0


def test_more_sessions_than_are_looked_at_are_unknown_never_idle() -> None:
    found = logind(*["user active yes 1700000040000000"] * 65).seconds()
    assert isinstance(found, Absence)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(2, "no such file", "loginctl"),
        subprocess.CalledProcessError(1, ["loginctl"], stderr=b"Failed to connect"),
        subprocess.TimeoutExpired("loginctl", 2.0),
    ],
)  # fmt: skip
def test_without_an_answer_the_idle_time_is_absent_never_idle(error: Exception) -> None:
    def ask(_: Sequence[str]) -> bytes:
        raise error

    for platform in ("linux", "darwin"):
        found = IdleTime(HandClock(), ask, platform).seconds()
        assert isinstance(found, Absence)
        assert found.detail


def test_a_macs_idle_time_is_in_nanoseconds() -> None:
    entries = plistlib.dumps([{"HIDIdleTime": 90_000_000_000}])
    assert IdleTime(HandClock(), lambda _: entries, "darwin").seconds() == 90.0
    for odd in ([], {"HIDIdleTime": 1}, ["HIDIdleTime"]):
        assert isinstance(IdleTime(HandClock(), lambda _, odd=odd: plistlib.dumps(odd), "darwin").seconds(), Absence)


@pytest.mark.parametrize(
    ("files", "drains"),
    [
        ({}, False), ({"type": "Battery", "capacity": "80", "status": "Discharging"}, True),
        ({"type": "Battery", "capacity": "80", "status": "Charging"}, False),
        ({"type": "Battery", "capacity": "80", "status": "Not charging"}, False),
        ({"type": "Battery", "present": "0", "status": "Unknown"}, False),
        ({"type": "Battery", "scope": "Device", "capacity": "80", "status": "Discharging"}, False),
    ],
)  # fmt: skip
def test_a_battery_drains_or_not_and_a_machine_without_one_is_on_mains(
    tmp_path: Path, files: dict[str, str], drains: bool
) -> None:
    for name, text in files.items():
        (tmp_path / "BAT0").mkdir(exist_ok=True)
        (tmp_path / "BAT0" / name).write_text(text)
    assert PowerSource(BatteryProvider(HandClock(), tmp_path)).drains() is drains


def test_a_battery_that_cannot_be_read_is_absent(tmp_path: Path) -> None:
    (tmp_path / "BAT0").mkdir()
    (tmp_path / "BAT0" / "type").write_text("Battery")
    assert isinstance(PowerSource(BatteryProvider(HandClock(), tmp_path)).drains(), Absence)


def test_a_mac_without_a_battery_is_on_mains_and_one_that_does_not_answer_is_absent() -> None:
    none = MacBatteryProvider(HandClock(), lambda: plistlib.dumps([]))
    assert PowerSource(none).drains() is False

    def ask() -> bytes:
        raise subprocess.TimeoutExpired("ioreg", 1.5)

    assert isinstance(PowerSource(MacBatteryProvider(HandClock(), ask)).drains(), Absence)
