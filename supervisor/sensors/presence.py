"""Reads whether a person uses the machine: since when no user was active, and whether a battery drains.

Linux: the sessions of logind (loginctl(1); their IdleHint is set by the desktop, for a terminal by its last input).
macOS: HIDIdleTime of the input devices, in nanoseconds, from ioreg(8).
"""

from __future__ import annotations

import math
import plistlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from xml.parsers.expat import ExpatError

from supervisor.clock import Clock
from supervisor.sensors.battery import NO_BATTERY, BatteryProvider, MacBatteryProvider
from supervisor.sensors.provider import Absence, failed

WITHIN_S = 2.0
MAX_SESSIONS = 64
SESSIONS = ("loginctl", "list-sessions", "--no-legend")
SESSION = ("loginctl", "show-session", "-p", "Class", "-p", "State", "-p", "IdleHint", "-p", "IdleSinceHint")
INPUT = ("ioreg", "-ar", "-d", "1", "-k", "HIDIdleTime")

Ask = Callable[[Sequence[str]], bytes]
"""Returns what a command prints. Raises OSError and subprocess.SubprocessError."""


def _run(command: Sequence[str]) -> bytes:
    return subprocess.run(list(command), capture_output=True, check=True, timeout=WITHIN_S).stdout


class IdleTime:
    """Knows for how long no user was active."""

    def __init__(self, clock: Clock, ask: Ask = _run, platform: str = sys.platform) -> None:
        self._clock, self._ask, self._platform = clock, ask, platform
        self._seen_mono_s: float | None = None
        """The first look at sessions that are idle and do not say since when."""

    def seconds(self) -> float | Absence:
        """Return the seconds since a user was active; infinity when no user is there."""
        try:
            return self._of_input() if self._platform == "darwin" else self._of_sessions()
        except FileNotFoundError as error:
            return failed(f"{error.filename} is not installed")
        except subprocess.CalledProcessError as error:
            said = (error.stderr or b"").decode(errors="replace").strip().splitlines()
            return failed(f"{error.cmd[0]}: {said[-1] if said else f'exit status {error.returncode}'}")
        except (OSError, subprocess.SubprocessError, plistlib.InvalidFileException, ExpatError, ValueError) as error:
            return failed(error)

    def _of_input(self) -> float | Absence:
        entries = plistlib.loads(self._ask(INPUT))
        entries = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
        times = [entry["HIDIdleTime"] for entry in entries if isinstance(entry.get("HIDIdleTime"), int)]
        return min(times) / 1e9 if times else failed("ioreg shows no HIDIdleTime")

    def _of_sessions(self) -> float | Absence:
        names = self._session_names()
        if len(names) > MAX_SESSIONS:
            return failed(f"expected at most {MAX_SESSIONS} sessions, found {len(names)}")
        try:
            sessions = self._sessions(names)
        except subprocess.CalledProcessError:
            # One has ended since it was listed.
            sessions = self._sessions(self._session_names())
        users = [one for one in sessions if one.get("Class", "").startswith("user") and one.get("State") != "closing"]
        if not users:
            return math.inf
        if any(one.get("IdleHint") != "yes" for one in users):
            self._seen_mono_s = None
            return 0.0
        return min(self._idle_s(one.get("IdleSinceHint", "")) for one in users)

    def _session_names(self) -> list[str]:
        return [line.split()[0] for line in self._ask(SESSIONS).decode().splitlines() if line.split()]

    def _sessions(self, names: Sequence[str]) -> list[dict[str, str]]:
        """Return the properties of sessions; without a name loginctl would show the caller's own."""
        return [_fields(block) for block in self._ask((*SESSION, *names)).decode().split("\n\n")] if names else []

    def _idle_s(self, since: str) -> float:
        """Return the seconds since `since`, microseconds since the epoch; without it those since the first look."""
        now_s = self._clock.mono_s()
        self._seen_mono_s = now_s if self._seen_mono_s is None else self._seen_mono_s
        if since.isdecimal() and int(since) > 0:
            return max(0.0, self._clock.wall_s() - int(since) / 1e6)
        return now_s - self._seen_mono_s


def _fields(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.splitlines() if "=" in line)


class PowerSource:
    """Knows whether a battery drains."""

    def __init__(self, provider: BatteryProvider | MacBatteryProvider) -> None:
        self._provider = provider

    @classmethod
    def of_machine(cls, clock: Clock) -> PowerSource:
        """Return the one of this machine."""
        return cls(MacBatteryProvider(clock) if sys.platform == "darwin" else BatteryProvider(clock))

    def drains(self) -> bool | Absence:
        """Return whether a battery drains; False on a machine without one."""
        readings = self._provider.read()
        flags = [reading.value for reading in readings if reading.sensor_id.endswith("/discharging")]
        if any(flags):
            return True
        unread = [reading for reading in readings if reading.value is None and reading.detail != NO_BATTERY]
        return failed(unread[0].detail) if unread and not flags else False
