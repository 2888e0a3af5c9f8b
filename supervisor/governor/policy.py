"""Defines the governor's thresholds as data, which a plan's `hardware:` section sets. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from supervisor.sensors.reading import Limits

GIB = float(2**30)
MIB = float(2**20)
_SOFT_PAUSE_CRITICAL = ("soft", "pause", "critical")


@dataclass(frozen=True)
class Policy:
    """The governor's thresholds, each with its unit in its name.

    The defaults are judgements; a comment gives the reason. A device's own temperature limits come with its readings
    and have precedence over default limits; `limits` (sensor id pattern: soft, pause, critical) over both.
    """

    # Sampling. Die temperature changes within seconds, so near its limit it is read at 1 Hz.
    period_s: float = 5.0
    fast_period_s: float = 1.0
    fast_within: float = 8.0  # of a pause threshold, in the sensor's unit
    stale_periods: float = 3.0

    # The ladder. With dwell times a single hot sample costs no work; a critical one acts at once.
    soft_dwell_s: float = 20.0
    pause_dwell_s: float = 10.0
    hold_min_s: float = 15.0
    ease_after_s: float = 180.0  # half a chassis time constant of 400 s: faster easing oscillates
    ease_doublings: int = 4  # of that wait, one each time easing back did not hold: 48 minutes at most
    soft_hysteresis: float = 6.0
    resume_band: float = 12.0
    min_off_s: float = 300.0  # the die cools in seconds, the chassis in minutes: degrees alone livelock
    lookahead_s: float = 25.0  # for HOLD and SHED only: a slope is too weak a reason to stop work
    max_shed_trials: int = 2
    throttle_shares: tuple[float, ...] = (0.25, 0.5, 0.75)
    stop_after_critical_s: float = 300.0  # still critical after so long a pause: our work is not the cause
    release_after_s: float = 600.0

    # Flap control, over a sliding hour.
    flap_limit: int = 3
    max_pauses_per_hour: int = 6

    # Sensors that fail.
    required: bool = False
    lost_shed_periods: float = 3.0
    lost_pause_s: float = 120.0
    stuck_s: float = 120.0
    stuck_integer_s: float = 600.0  # whole degrees repeat without a fault
    stuck_load_percent: float = 30.0
    parked_load_percent: float = 30.0  # a parked sensor on a busy machine does not prove that it is cool
    clock_jump_s: float = 5.0
    fresh_samples: int = 2

    # Memory, swap, pressure. systemd-oomd acts on 90 % of memory and swap, and on 60 % full stall for 30 s.
    memory_shed_percent: float = 88.0
    memory_pause_percent: float = 94.0
    memory_critical_percent: float = 98.0
    memory_hysteresis_percent: float = 6.0
    swap_pause_percent: float = 90.0
    swap_growth_shed_bytes_per_s: float = 8 * MIB
    swap_growth_pause_bytes_per_s: float = 32 * MIB
    stall_shed_percent: float = 30.0
    stall_pause_percent: float = 60.0
    stall_dwell_s: float = 30.0
    pressure_moderate_dwell_s: float = 60.0
    pressure_heavy_dwell_s: float = 15.0

    # Disk and battery.
    disk_hold_bytes: float = 4 * GIB
    disk_pause_bytes: float = 1 * GIB
    battery_hold_percent: float = 50.0
    battery_pause_percent: float = 20.0

    # Trials that hang (actors/watchdog/hang_detection.py).
    hung_factor: float = 20.0  # times the median batch: a machine that swaps or is throttled slows down by less
    hung_min_s: float = 300.0  # whatever the median: a stalled disk or a recompiled kernel takes minutes
    hung_first_s: float = 3600.0  # the first batch, building, loading, saving: imports, compilation, tens of GB
    hung_first_step_s: float = 86400.0  # code without batches: its first step may take a night

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

    def to_json(self) -> dict[str, Any]:
        """Return the mapping that `from_mapping` reads."""
        value = asdict(self)
        value["throttle_shares"] = list(self.throttle_shares)
        value["limits"] = {
            pattern: {key: getattr(limits, key) for key in _SOFT_PAUSE_CRITICAL}
            for pattern, limits in self.limits.items()
        }
        return value


KNOWN_KEYS: frozenset[str] = frozenset(entry.name for entry in fields(Policy))

RANGES: dict[str, tuple[float, float]] = {
    "period_s": (0.05, 60.0),
    "fast_period_s": (0.05, 60.0),
    "fast_within": (0.0, 50.0),
    "stale_periods": (1.0, 20.0),
    "soft_dwell_s": (0.0, 3600.0),
    "pause_dwell_s": (0.0, 600.0),
    "hold_min_s": (0.0, 600.0),
    "ease_after_s": (0.0, 7200.0),
    "ease_doublings": (0, 8),
    "soft_hysteresis": (0.0, 40.0),
    "resume_band": (1.0, 60.0),
    "min_off_s": (0.0, 7200.0),
    "lookahead_s": (0.0, 120.0),
    "max_shed_trials": (0, 64),
    "stop_after_critical_s": (1.0, 86400.0),
    "release_after_s": (0.0, 86400.0),
    "flap_limit": (1, 60),
    "max_pauses_per_hour": (1, 60),
    "lost_shed_periods": (1.0, 100.0),
    "lost_pause_s": (0.0, 3600.0),
    "stuck_s": (1.0, 3600.0),
    "stuck_integer_s": (1.0, 7200.0),
    "stuck_load_percent": (1.0, 100.0),
    "parked_load_percent": (0.0, 100.0),
    "clock_jump_s": (1.0, 3600.0),
    "fresh_samples": (1, 8),
    "memory_shed_percent": (10.0, 100.0),
    "memory_pause_percent": (10.0, 100.0),
    "memory_critical_percent": (10.0, 101.0),
    "memory_hysteresis_percent": (0.0, 50.0),
    "swap_pause_percent": (1.0, 101.0),
    "swap_growth_shed_bytes_per_s": (1.0, 1e12),
    "swap_growth_pause_bytes_per_s": (1.0, 1e12),
    "stall_shed_percent": (0.1, 101.0),
    "stall_pause_percent": (0.1, 101.0),
    "stall_dwell_s": (0.0, 3600.0),
    "pressure_moderate_dwell_s": (0.0, 3600.0),
    "pressure_heavy_dwell_s": (0.0, 3600.0),
    "disk_hold_bytes": (0.0, 1e15),
    "disk_pause_bytes": (0.0, 1e15),
    "battery_hold_percent": (0.0, 100.0),
    "battery_pause_percent": (0.0, 100.0),
    "hung_factor": (2.0, 1000.0),
    "hung_min_s": (0.1, 86400.0),
    "hung_first_s": (0.1, 604800.0),
    "hung_first_step_s": (0.1, 2592000.0),
}
"""The lowest and highest allowed value of each number; whole numbers if both bounds are whole."""

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
