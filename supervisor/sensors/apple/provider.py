"""Reads Apple silicon without sudo: temperatures by SMC and IOHID, thermal and memory pressure, fans, system power."""

from __future__ import annotations

from collections.abc import Callable

from supervisor.clock import TimeSource
from supervisor.sensors import default_limits
from supervisor.sensors.apple import rules
from supervisor.sensors.apple.native import Darwin
from supervisor.sensors.provider import NO_LIMITS, Provider, Sampler, Sensor, failed
from supervisor.sensors.reading import Availability, Kind, Limits, Reading

MAX_FANS = 8
HID = (
    ("hid:die", "cpu", rules.hid_die, default_limits.APPLE_HID_DIE),
    # The power management unit's GPU sensor is another one than the SMC's; its normal values are unknown.
    ("hid:gpu", "gpu", rules.hid_gpu, NO_LIMITS),
    ("hid:battery", "battery", rules.hid_battery, default_limits.BATTERY),
)


class AppleProvider(Provider):
    """Reads all sensors; `native` is made on the first probe, tests pass a fake."""

    name = "apple"

    def __init__(self, clock: TimeSource, native: Darwin | None = None) -> None:
        self._clock, self._native = clock, native
        self._groups: dict[str, list[str]] = {}
        self._keys: frozenset[str] | None = None
        self._why_no_smc: str | None = None

    def probe(self) -> Availability:
        try:
            self._open()
        except (OSError, AttributeError, ValueError) as error:
            return Availability(False, f"macOS refuses to read the sensors: {error}", "expected outside Apple silicon")
        temperatures = [r for r in self.read() if r.kind is Kind.TEMPERATURE]
        if not temperatures:
            why = self._why_no_smc or "neither SMC nor IOHID shows a temperature"
            return Availability(False, f"no temperature: {why}", "expected inside virtual machines")
        return Availability(True, f"{len(temperatures)} temperatures")

    def read(self) -> list[Reading]:
        sampler = self._sampler()
        try:
            native = self._open()
        except (OSError, AttributeError, ValueError) as error:
            return [sampler.reading(_temperature("smc:TCMb", "cpu", default_limits.APPLE_DIE_AVERAGE), failed(error))]
        return [
            *self._smc(sampler, native),
            *self._hid(sampler, native),
            self._level(sampler, "notify:thermalpressure", "host", native.thermal_pressure, (0, 4)),
            self._level(sampler, "sysctl:memorypressure", "memory", native.memory_pressure, (1, 4)),
            *self._power_and_fans(sampler, native),
        ]

    def _open(self) -> Darwin:
        """Return the native layer; its keys are known then. Raises OSError, AttributeError and ValueError."""
        if self._native is None:
            self._native = Darwin()
        if self._keys is None:
            # Once: keys appear and disappear with the power of the clusters; a known one is never forgotten.
            try:
                self._keys = frozenset(self._native.smc_keys())
                self._groups = rules.group_keys(sorted(self._keys))
            except OSError as error:
                self._why_no_smc = str(error)
        return self._native

    def close(self) -> None:
        """Do nothing: the kernel closes the connections with the process, and a second client would leak."""

    def _smc(self, sampler: Sampler, native: Darwin) -> list[Reading]:
        readings = []
        for group in rules.GROUPS:
            keys = self._groups.get(group.sensor_id)
            if keys:
                sensor = _temperature(group.sensor_id, group.component, group.limits)
                readings.append(sampler.reading(sensor, rules.hottest({key: _number(native, key) for key in keys})))
        return readings

    def _hid(self, sampler: Sampler, native: Darwin) -> list[Reading]:
        try:
            temperatures = native.hid_temperatures()
        except OSError as error:
            return [sampler.reading(_temperature("hid:die", "cpu", default_limits.APPLE_HID_DIE), failed(error))]
        return [
            sampler.reading(_temperature(sensor_id, component, limits), value)
            for sensor_id, component, rule, limits in HID
            if (value := rule(temperatures)) is not None
        ]

    def _level(
        self, sampler: Sampler, sensor_id: str, component: str, read: Callable[[], int], allowed: tuple[int, int]
    ) -> Reading:
        sensor = Sensor(sensor_id, Kind.PRESSURE, component, "level", plausible=allowed)
        try:
            return sampler.reading(sensor, float(read()))
        except OSError as error:
            return sampler.reading(sensor, failed(error))

    def _power_and_fans(self, sampler: Sampler, native: Darwin) -> list[Reading]:
        readings = []
        keys = self._keys or frozenset()
        watts = _number(native, "PSTR") if "PSTR" in keys else None
        if watts is not None and 0.0 <= watts < 1000.0:
            readings.append(sampler.reading(Sensor("smc:PSTR", Kind.POWER, "host", "watt"), watts))
        fans = _number(native, "FNum") if "FNum" in keys else None
        for fan in range(min(MAX_FANS, int(fans or 0))):
            speed = _number(native, f"F{fan}Ac")
            if speed is not None and 0.0 <= speed < 20000.0:
                readings.append(sampler.reading(Sensor(f"smc:F{fan}Ac", Kind.FAN, "host", "rpm"), speed))
        return readings


def _number(native: Darwin, key: str) -> float | None:
    try:
        return rules.decode(*native.smc_read(key))
    except OSError:
        # One missing key must not cost the others; a group without any reads as an error.
        return None


def _temperature(sensor_id: str, component: str, limits: Limits) -> Sensor:
    return Sensor(sensor_id, Kind.TEMPERATURE, component, "celsius", limits)
