"""A plan's `hardware:` section: its keys and ranges, and the errors for everything else."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.governor.policy import KNOWN_KEYS, RANGES, Policy

DOCS = Path(__file__).parents[3] / "docs" / "sensors.md"
BEGIN, END = "<!-- policy: begin -->", "<!-- policy: end -->"


def table() -> str:
    """Return the keys of docs/sensors.md; `python tests/unit/governor/test_policy.py` prints them."""
    defaults = asdict(Policy())
    rows = [
        f"| {key} | {_short(defaults[key])} | {_short(low)} to {_short(high)} |" for key, (low, high) in RANGES.items()
    ]
    return "\n".join(["| key | default | allowed |", "|---|---|---|", *rows])


def _short(number: float) -> str:
    return f"{number:.10g}"


def test_the_documented_keys_are_these() -> None:
    text = DOCS.read_text()
    assert text.split(BEGIN)[1].split(END)[0].strip() == table(), "run this file and paste its output"


def test_the_defaults_are_valid_and_survive_json() -> None:
    policy = Policy()
    assert Policy.from_mapping(json.loads(json.dumps(asdict(policy)))) == policy


def test_every_number_has_a_range() -> None:
    assert set(RANGES) == KNOWN_KEYS - {"throttle_shares", "required", "limits"}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"pause_celsius": 90}, "pause_celsius: unknown key"),
        ({"period_s": 0}, "period_s: expected a number from 0.05 to 60, found 0"),
        ({"period_s": "5"}, "period_s: expected a number from 0.05 to 60, found '5'"),
        ({"period_s": float("nan")}, "period_s: expected a number from 0.05 to 60, found nan"),
        ({"flap_limit": 2.5}, "flap_limit: expected a whole number from 1 to 60, found 2.5"),
        ({"flap_limit": True}, "flap_limit: expected a whole number from 1 to 60, found True"),
        ({"required": "yes"}, "required: expected true or false, found 'yes'"),
        ({"throttle_shares": 0.5}, "throttle_shares: expected a list of numbers between 0 and 1, found 0.5"),
        ({"throttle_shares": []}, "throttle_shares: expected 1 to 16 entries, found 0"),
        ({"throttle_shares": [0.5, 0.2]}, "throttle_shares: expected rising numbers, found [0.5, 0.2]"),
        ({"throttle_shares": [1.5]}, "throttle_shares: expected a number from 0.01 to 0.99, found 1.5"),
        ({"disk_hold_bytes": 1, "disk_pause_bytes": 2}, "disk_pause_bytes: expected less than disk_hold_bytes (1)"),
        ({"memory_shed_percent": 96}, "memory_shed_percent: expected less than memory_pause_percent (94.0), found 96"),
        ({"limits": 5}, "limits: expected sensor id patterns"),
        ({"limits": {"smc:*": {"soft": 1}}}, "limits.smc:*: expected a mapping with exactly soft, pause and critical"),
        (
            {"limits": {"x": {"soft": 90, "pause": 80, "critical": 85}}},
            "limits.x: expected soft, pause and",
        ),
        ({"limits": {"x": {"soft": "a", "pause": 80, "critical": 85}}}, "limits.x.soft: expected a number"),
    ],
)
def test_the_error_of_a_bad_section_names_key_value_and_range(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Policy.from_mapping(section)


@given(
    st.dictionaries(st.sampled_from(sorted(KNOWN_KEYS)), st.one_of(st.integers(), st.floats(), st.text()), max_size=4)
)
def test_any_section_gives_a_valid_policy_or_a_value_error(section: dict[str, Any]) -> None:
    try:
        policy = Policy.from_mapping(section)
    except ValueError as error:
        message = str(error)
    else:
        assert all(getattr(policy, key) == value for key, value in section.items())
        return
    assert any(key in message for key in KNOWN_KEYS)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
