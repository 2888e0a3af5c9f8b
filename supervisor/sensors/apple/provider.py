"""Apple silicon without sudo: die temperatures by SMC and IOHID, thermal and memory pressure, fans, system power."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from supervisor.clock import Now, TimeSource
from supervisor.sensors import default_limits
from supervisor.sensors.apple import rules as rules
from supervisor.sensors.apple.native import Darwin
from supervisor.sensors.provider import NO_LIMITS, Sampler
from supervisor.sensors.reading import Availability, Kind, Limits, Quality, Reading

MAX_FANS = 8
HID = (
    ("hid:die", "cpu", rules.hid_die, default_limits.APPLE_HID_DIE),
    # What the power management unit says of the GPU is another sensor than the SMC's, with no known normal values.
    ("hid:gpu", "gpu", rules.hid_gpu, NO_LIMITS),
    ("hid:battery", "battery", rules.hid_battery, default_limits.BATTERY),
)


class AppleNative(Protocol):
    def smc_keys(self) -> list[str]:
        """All keys there are. Raises OSError."""
        ...

    def smc_read(self, key: str) -> tuple[str, bytes]:
        """A key's type ("flt ", "ui8 ", ...) and its raw bytes. Raises OSError."""
        ...

    def hid_temperatures(self) -> list[tuple[str, float]]:
        """Product name and degrees Celsius of each service, in a stable order; names repeat. Raises OSError."""
        ...

    def thermal_pressure(self) -> int:
        """OSThermalNotification.h: 0 nominal, 1 moderate, 2 heavy, 3 trapping, 4 sleeping. Raises OSError."""
        ...

    def memory_pressure(self) -> int:
        """kern.memorystatus_vm_pressure_level: 1 normal, 2 warning, 4 critical. Raises OSError."""
        ...


class AppleProvider:
    """`native` is made on the first probe; tests hand in a fake."""

    name = "apple"

    def __init__(
        self, clock: TimeSource, native: AppleNative | None = None, make: Callable[[], AppleNative] = Darwin
    ) -> None:
        self._clock, self._native, self._make = clock, native, make
        self._groups: dict[str, list[str]] = {}
        self._keys: frozenset[str] | None = None
        self._why_no_smc: str | None = None

    def probe(self) -> Availability:
        try:
            self._open()
        except (OSError, AttributeError, ValueError) as error:
            return Availability(False, f"macOS does not let us read: {error}", "expected outside Apple silicon")
        temperatures = [r for r in self.read() if r.kind is Kind.TEMPERATURE]
        if not temperatures:
            why = self._why_no_smc or "neither SMC nor IOHID shows a temperature"
            return Availability(False, f"no temperature: {why}", "expected inside virtual machines")
        return Availability(True, f"{len(temperatures)} temperatures")

    def read(self) -> list[Reading]:
        sampler = Sampler(self.name, Now.of(self._clock))
        try:
            native = self._open()
        except (OSError, AttributeError, ValueError) as error:
            failed = rules.Verdict(None, Quality.ERROR, str(error))
            return [_temperature(sampler, "smc:TCMb", "cpu", failed, default_limits.APPLE_DIE_AVERAGE)]
        return [
            *self._smc(sampler, native),
            *self._hid(sampler, native),
            self._level(sampler, "notify:thermalpressure", "host", native.thermal_pressure, (0, 4)),
            self._level(sampler, "sysctl:memorypressure", "memory", native.memory_pressure, (1, 4)),
            *self._power_and_fans(sampler, native),
        ]

    def _open(self) -> AppleNative:
        """The native layer, with the keys known. Raises OSError, AttributeError and ValueError."""
        if self._native is None:
            self._native = self._make()
        if self._keys is None:
            # Once: keys come and go with clusters' power, and a tool that starts on a hot machine must not lose any.
            try:
                self._keys = frozenset(self._native.smc_keys())
                self._groups = rules.group_keys(sorted(self._keys))
            except OSError as error:
                self._why_no_smc = str(error)
        return self._native

    def close(self) -> None:
        """The kernel takes the connections back when the process ends; a second client would leak."""

    def _smc(self, sampler: Sampler, native: AppleNative) -> list[Reading]:
        readings = []
        for group in rules.GROUPS:
            keys = self._groups.get(group.sensor_id)
            if keys:
                verdict = rules.hottest({key: _number(native, key) for key in keys})
                readings.append(_temperature(sampler, group.sensor_id, group.component, verdict, group.limits))
        return readings

    def _hid(self, sampler: Sampler, native: AppleNative) -> list[Reading]:
        try:
            temperatures = native.hid_temperatures()
        except OSError as error:
            failed = rules.Verdict(None, Quality.ERROR, str(error))
            return [_temperature(sampler, "hid:die", "cpu", failed, default_limits.APPLE_HID_DIE)]
        found = [(sensor, component, rule(temperatures), limits) for sensor, component, rule, limits in HID]
        return [
            _temperature(sampler, sensor, component, verdict, limits)
            for sensor, component, verdict, limits in found
            if verdict is not None
        ]

    def _level(
        self, sampler: Sampler, sensor_id: str, component: str, read: Callable[[], int], allowed: tuple[int, int]
    ) -> Reading:
        try:
            level = read()
        except OSError as error:
            return sampler.absent(sensor_id, Kind.PRESSURE, component, "level", Quality.ERROR, str(error))
        if not allowed[0] <= level <= allowed[1]:
            why = f"{level} is no level from {allowed[0]} to {allowed[1]}"
            return sampler.absent(sensor_id, Kind.PRESSURE, component, "level", Quality.IMPLAUSIBLE, why)
        return sampler.ok(sensor_id, Kind.PRESSURE, component, float(level), "level")

    def _power_and_fans(self, sampler: Sampler, native: AppleNative) -> list[Reading]:
        readings = []
        keys = self._keys or frozenset()
        watts = _number(native, "PSTR") if "PSTR" in keys else None
        if watts is not None and 0.0 <= watts < 1000.0:
            readings.append(sampler.ok("smc:PSTR", Kind.POWER, "host", watts, "watt"))
        fans = _number(native, "FNum") if "FNum" in keys else None
        for fan in range(min(MAX_FANS, int(fans or 0))):
            speed = _number(native, f"F{fan}Ac")
            if speed is not None and 0.0 <= speed < 20000.0:
                readings.append(sampler.ok(f"smc:F{fan}Ac", Kind.FAN, "host", speed, "rpm"))
        return readings


def _number(native: AppleNative, key: str) -> float | None:
    try:
        return rules.decode(*native.smc_read(key))
    except OSError:
        # One key that is gone must not cost the others; a group without any reads as an error.
        return None


def _temperature(sampler: Sampler, sensor_id: str, component: str, verdict: rules.Verdict, limits: Limits) -> Reading:
    if verdict.celsius is not None:
        return sampler.ok(sensor_id, Kind.TEMPERATURE, component, verdict.celsius, "celsius", limits=limits)
    detail = verdict.detail or verdict.quality.value
    return sampler.absent(sensor_id, Kind.TEMPERATURE, component, "celsius", verdict.quality, detail, limits=limits)
