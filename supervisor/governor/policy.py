"""Defines the governor's thresholds as data, which a plan's `hardware:` section sets. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from supervisor.sensors.reading import Limits

GIB = float(2**30)
MIB = float(2**20)
_SOFT_PAUSE_CRITICAL = ("soft", "pause", "critical")


def _in(default: float, low: float, high: float) -> Any:
    """Make a field of the policy with its lowest and highest allowed value; whole numbers if both bounds are whole."""
    return field(default=default, metadata={"range": (low, high)})


@dataclass(frozen=True)
class Policy:
    """The governor's thresholds, each with its unit in its name.

    The defaults are judgements; a comment gives the reason. A device's own temperature limits come with its readings
    and have precedence over default limits; `limits` (sensor id pattern: soft, pause, critical) over both.
    """

    # Sampling. Die temperature changes within seconds, so near its limit it is read at 1 Hz.
    period_s: float = _in(5.0, 0.05, 60.0)
    fast_period_s: float = _in(1.0, 0.05, 60.0)
    fast_within: float = _in(8.0, 0.0, 50.0)  # of a pause threshold, in the sensor's unit
    stale_periods: float = _in(3.0, 1.0, 20.0)

    # The ladder. With dwell times a single hot sample costs no work; a critical one acts at once.
    soft_dwell_s: float = _in(20.0, 0.0, 3600.0)
    pause_dwell_s: float = _in(10.0, 0.0, 600.0)
    hold_min_s: float = _in(15.0, 0.0, 600.0)
    ease_after_s: float = _in(180.0, 0.0, 7200.0)  # half a chassis time constant of 400 s: faster easing oscillates
    ease_doublings: int = _in(4, 0, 8)  # of that wait, one each time easing back did not hold: 48 minutes at most
    soft_hysteresis: float = _in(6.0, 0.0, 40.0)
    resume_band: float = _in(12.0, 1.0, 60.0)
    min_off_s: float = _in(300.0, 0.0, 7200.0)  # the chassis cools in minutes, the die in seconds: degrees livelock
    lookahead_s: float = _in(25.0, 0.0, 120.0)  # for HOLD and SHED only: a slope is too weak a reason to stop work
    max_shed_trials: int = _in(2, 0, 64)
    throttle_shares: tuple[float, ...] = (0.25, 0.5, 0.75)
    stop_after_critical_s: float = _in(300.0, 1.0, 86400.0)  # after so long a pause our work is not the cause
    release_after_s: float = _in(600.0, 0.0, 86400.0)

    # Flap control, over a sliding hour.
    flap_limit: int = _in(3, 1, 60)
    max_pauses_per_hour: int = _in(6, 1, 60)

    # Sensors that fail.
    required: bool = False
    lost_shed_periods: float = _in(3.0, 1.0, 100.0)
    lost_pause_s: float = _in(120.0, 0.0, 3600.0)
    stuck_s: float = _in(120.0, 1.0, 3600.0)
    stuck_integer_s: float = _in(600.0, 1.0, 7200.0)  # whole degrees repeat without a fault
    stuck_load_percent: float = _in(30.0, 1.0, 100.0)
    parked_load_percent: float = _in(30.0, 0.0, 100.0)  # parked on a busy machine does not prove cool
    clock_jump_s: float = _in(5.0, 1.0, 3600.0)
    fresh_samples: int = _in(2, 1, 8)

    # Memory, swap, pressure. systemd-oomd acts on 90 % of memory and swap, and on 60 % full stall for 30 s.
    memory_shed_percent: float = _in(88.0, 10.0, 100.0)
    memory_pause_percent: float = _in(94.0, 10.0, 100.0)
    memory_critical_percent: float = _in(98.0, 10.0, 101.0)
    memory_hysteresis_percent: float = _in(6.0, 0.0, 50.0)
    swap_pause_percent: float = _in(90.0, 1.0, 101.0)
    swap_growth_shed_bytes_per_s: float = _in(8 * MIB, 1.0, 1e12)
    swap_growth_pause_bytes_per_s: float = _in(32 * MIB, 1.0, 1e12)
    stall_shed_percent: float = _in(30.0, 0.1, 101.0)
    stall_pause_percent: float = _in(60.0, 0.1, 101.0)
    stall_dwell_s: float = _in(30.0, 0.0, 3600.0)
    pressure_moderate_dwell_s: float = _in(60.0, 0.0, 3600.0)
    pressure_heavy_dwell_s: float = _in(15.0, 0.0, 3600.0)

    # Disk and battery.
    disk_hold_bytes: float = _in(4 * GIB, 0.0, 1e15)
    disk_pause_bytes: float = _in(1 * GIB, 0.0, 1e15)
    battery_hold_percent: float = _in(50.0, 0.0, 100.0)
    battery_pause_percent: float = _in(20.0, 0.0, 100.0)

    # Trials that hang (actors/watchdog/hang_detection.py).
    hung_factor: float = _in(20.0, 2.0, 1000.0)  # times the median batch: swapping or throttling slows by less
    hung_min_s: float = _in(300.0, 0.1, 86400.0)  # at least: a stalled disk or a recompiled kernel takes minutes
    hung_first_s: float = _in(3600.0, 0.1, 604800.0)  # the first batch, building, loading, saving tens of GB
    hung_first_step_s: float = _in(86400.0, 0.1, 2592000.0)  # code without batches: its first step may take a night

    limits: Mapping[str, Limits] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, (low, high) in RANGES.items():
            _check_number(key, getattr(self, key), low, high)
        _check_shares(self.throttle_shares)
        for smaller, larger in ORDERED:
            if not getattr(self, smaller) < getattr(self, larger):
                raise ValueError(
                    f"{smaller}: expected less than {larger} ({getattr(self, larger)}), found {getattr(self, smaller)}"
                )

    @property
    def stale_s(self) -> float:
        """Return the highest age of a reading; a busy machine delays a pass by seconds, at any period."""
        return max(self.clock_jump_s, self.stale_periods * self.period_s)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Policy:
        """Return the policy of a plan's section. Raises ValueError with key, value and the allowed values."""
        if unknown := sorted(set(mapping) - KNOWN_KEYS):
            raise ValueError(
                f"{unknown[0]}: unknown key of the hardware policy; expected one of {', '.join(sorted(KNOWN_KEYS))}"
            )
        values = dict(mapping)
        if "throttle_shares" in values:
            shares = values["throttle_shares"]
            if not isinstance(shares, list | tuple):
                raise ValueError(f"throttle_shares: expected a list of numbers between 0 and 1, found {shares!r}")
            values["throttle_shares"] = tuple(shares)
        if "required" in values and not isinstance(values["required"], bool):
            raise ValueError(f"required: expected true or false, found {values['required']!r}")
        if "limits" in values:
            values["limits"] = _limits(values["limits"])
        return cls(**values)


KNOWN_KEYS: frozenset[str] = frozenset(entry.name for entry in fields(Policy))

RANGES: dict[str, tuple[float, float]] = {
    entry.name: entry.metadata["range"] for entry in fields(Policy) if entry.metadata
}

ORDERED = (
    ("memory_shed_percent", "memory_pause_percent"),
    ("memory_pause_percent", "memory_critical_percent"),
    ("swap_growth_shed_bytes_per_s", "swap_growth_pause_bytes_per_s"),
    ("stall_shed_percent", "stall_pause_percent"),
    ("disk_pause_bytes", "disk_hold_bytes"),
    ("battery_pause_percent", "battery_hold_percent"),
)


def _check_number(key: str, value: object, low: float, high: float) -> None:
    whole = isinstance(low, int) and isinstance(high, int)
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        noun = "a whole number" if whole else "a number"
        raise ValueError(f"{key}: expected {noun} from {low:g} to {high:g}, found {value!r}")


def _check_shares(shares: tuple[float, ...]) -> None:
    if not 1 <= len(shares) <= 16:
        raise ValueError(f"throttle_shares: expected 1 to 16 entries, found {len(shares)}")
    for share in shares:
        _check_number("throttle_shares", share, 0.01, 0.99)
    if list(shares) != sorted(set(shares)):
        raise ValueError(f"throttle_shares: expected rising numbers, found {list(shares)!r}")


def _limits(value: object) -> dict[str, Limits]:
    if not isinstance(value, Mapping):
        problem = f"limits: expected sensor id patterns, each with soft, pause and critical, found {value!r}"
        raise ValueError(problem)  # noqa: TRY004 - each bad value of a plan is a ValueError
    return {str(pattern): _one_limit(f"limits.{pattern}", entry) for pattern, entry in value.items()}


def _one_limit(key: str, entry: object) -> Limits:
    if not isinstance(entry, Mapping) or set(entry) != set(_SOFT_PAUSE_CRITICAL):
        raise ValueError(f"{key}: expected a mapping with exactly soft, pause and critical, found {entry!r}")
    for part in _SOFT_PAUSE_CRITICAL:
        _check_number(f"{key}.{part}", entry[part], -200.0, 200.0)
    soft, pause, critical = (float(entry[part]) for part in _SOFT_PAUSE_CRITICAL)
    if not (soft < pause < critical or soft > pause > critical):
        raise ValueError(f"{key}: expected soft, pause and critical in order, found {soft:g}, {pause:g}, {critical:g}")
    return Limits(soft=soft, pause=pause, critical=critical, source="user")
