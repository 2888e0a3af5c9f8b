"""Reads frequency, power and fans of Apple silicon from `macmon pipe`, an optional program.

Its temperatures are averages over live and gated keys (83.1 for a die at 112.1), so they are advisory: they have no
limits, and the governor does not use them. One JSON object a line, macmon 0.6 to 0.8.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

from supervisor.clock import Now, TimeSource
from supervisor.sensors.provider import Absence, Provider, Sampler, Sensor, failed
from supervisor.sensors.reading import Availability, Kind, Quality, Reading

MAX_LINE_BYTES = 256 * 1024
SENTINEL_BELOW_CELSIUS = 15.0
SILENT_S = 30.0
RETRY_S = (1.0, 300.0)


class MacmonProvider(Provider):
    """Reads the last whole line of macmon; restarts it when it ends, with growing waits."""

    name = "macmon"

    def __init__(self, clock: TimeSource, command: Sequence[str] = ("macmon", "pipe", "-i", "5000")) -> None:
        self._clock, self._command = clock, list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = bytearray()
        self._last: tuple[Now, dict[str, Any]] | None = None
        self._failures = 0
        self._retry_mono_s = float("-inf")
        self._heard_mono_s = 0.0

    def probe(self) -> Availability:
        if shutil.which(self._command[0]) is None:
            return Availability(False, f"{self._command[0]} is not installed", "optional: `brew install macmon`")
        return Availability(True, "frequency, power and fans")

    def read(self) -> list[Reading]:
        now = Now.of(self._clock)
        try:
            self._drain(now)
        except (OSError, ValueError) as error:
            self._failed(now)
            return [self._fault(now, str(error))]
        if self._process is not None and now.mono_s - self._heard_mono_s > SILENT_S:
            self._failed(now)
            return [self._fault(now, f"hung: no line for {SILENT_S:g} s")]
        if self._last is None:
            return []
        taken, line = self._last
        return macmon_readings(line, Sampler(self.name, taken))

    def close(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1.0)
        if process.stdout is not None:
            process.stdout.close()

    def _drain(self, now: Now) -> None:
        """Read all that macmon has written. Raises OSError if it ended or cannot start, ValueError for a bad line."""
        if self._process is None:
            if now.mono_s < self._retry_mono_s:
                return
            self._start(now)
        process = self._process
        assert process is not None
        assert process.stdout is not None
        while select.select([process.stdout.fileno()], [], [], 0)[0]:
            chunk = os.read(process.stdout.fileno(), 65536)
            if not chunk:
                # A last line without its line feed is incomplete: it does not count.
                raise OSError("crashed: macmon ended")
            self._buffer += chunk
            if len(self._buffer) > MAX_LINE_BYTES and b"\n" not in self._buffer:
                raise ValueError(f"a line of more than {MAX_LINE_BYTES} bytes")
            self._take_lines(now)

    def _take_lines(self, now: Now) -> None:
        *lines, rest = bytes(self._buffer).split(b"\n")
        self._buffer = bytearray(rest)
        for line in lines:
            value = json.loads(line)
            if not isinstance(value, dict):
                raise ValueError(f"printed garbage: {line[:40]!r}")  # noqa: TRY004 - one error for all bad lines
            self._last, self._heard_mono_s, self._failures = (now, value), now.mono_s, 0

    def _start(self, now: Now) -> None:
        self._buffer.clear()
        self._heard_mono_s = now.mono_s
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip

    def _failed(self, now: Now) -> None:
        self.close()
        self._last = None
        first, longest = RETRY_S
        self._retry_mono_s = now.mono_s + min(longest, first * 2.0 ** min(self._failures, 32))
        self._failures += 1

    def _fault(self, now: Now, why: str) -> Reading:
        sensor = Sensor(f"provider:{self.name}", Kind.EVENT, "provider", "count")
        return Sampler(self.name, now).reading(sensor, failed(why))


def macmon_readings(line: dict[str, Any], sampler: Sampler) -> list[Reading]:
    """Return the readings of one line; missing values and values of another type are left out."""
    readings = [
        sampler.reading(Sensor(f"macmon:{part}", kind, component, unit), value)
        for part, kind, component, unit, value in (
            ("performance", Kind.FREQUENCY, "cpu", "megahertz", _frequency(line, "pcpu")),
            ("efficiency", Kind.FREQUENCY, "cpu", "megahertz", _frequency(line, "ecpu")),
            ("gpu", Kind.FREQUENCY, "gpu", "megahertz", _frequency(line, "gpu")),
            ("system", Kind.POWER, "host", "watt", _number(line.get("sys_power"))),
        )
        if value is not None
    ]
    fans = line.get("fans")
    for ordinal, fan in enumerate(fans[:8] if isinstance(fans, list) else []):
        speed = _number(fan.get("rpm")) if isinstance(fan, dict) else None
        if speed is not None:
            readings.append(sampler.reading(Sensor(f"macmon:fan{ordinal}", Kind.FAN, "host", "rpm"), speed))
    temperatures = line.get("temp")
    for part, component in (("cpu_temp_avg", "cpu"), ("gpu_temp_avg", "gpu")):
        celsius = _number(temperatures.get(part)) if isinstance(temperatures, dict) else None
        if celsius is not None:
            readings.append(_average(sampler, part, component, celsius))
    return readings


def _average(sampler: Sampler, part: str, component: str, celsius: float) -> Reading:
    sensor = Sensor(f"macmon:{part}", Kind.TEMPERATURE, component, "celsius")
    if celsius == 0.0:
        return sampler.reading(sensor, Absence(Quality.UNSUPPORTED, "0 means no sensor"))
    if celsius < SENTINEL_BELOW_CELSIUS:
        return sampler.reading(sensor, Absence(Quality.PARKED, f"{celsius:.2f} is an average over gated clusters"))
    return sampler.reading(sensor, celsius, "an average: advisory")


def _frequency(line: dict[str, Any], unit: str) -> float | None:
    """Return `pcpu_freq_mhz` (since macmon 0.8), or the first entry of `pcpu_usage` (before)."""
    direct = _number(line.get(f"{unit}_freq_mhz"))
    usage = line.get(f"{unit}_usage")
    if direct is None and isinstance(usage, list) and usage:
        return _number(usage[0])
    return direct


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
