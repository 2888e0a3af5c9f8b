"""Test lines of macmon, and a macmon that ends, falls silent or floods."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.clock import FakeClock, Now
from supervisor.sensors.apple.macmon import MacmonProvider, macmon_readings
from supervisor.sensors.provider import Sampler
from supervisor.sensors.reading import Kind, Quality, Reading
from tests import waits

FIXTURES = Path(__file__).parents[1] / "fixtures_sensors"


def first_readings(provider: MacmonProvider) -> list[Reading]:
    return waits.until("macmon's stand-in has answered", provider.read, period_s=0.005)


def shell(script: str, clock: FakeClock) -> MacmonProvider:
    return MacmonProvider(clock, ["sh", "-c", script])


def test_frequency_power_and_fans_are_read() -> None:
    provider = shell(f"cat '{FIXTURES}/macmon_v082_ok.jsonl'; sleep 1000", FakeClock())
    values = {reading.sensor_id: reading.value for reading in first_readings(provider)}
    provider.close()
    assert values["macmon:performance"] == 1800.0
    assert values["macmon:system"] == 5.8765
    assert (values["macmon:fan0"], values["macmon:fan1"]) == (999.0, 1200.0)


CUT_SHORT = f"cat '{FIXTURES}/macmon_truncated_then_eof.jsonl'"


@pytest.mark.parametrize(
    ("script", "why"), [(CUT_SHORT, "Unterminated string"), (f"{CUT_SHORT} | tr -d '\\n'", "crashed: macmon ended")]
)
def test_an_incomplete_line_does_not_count_and_macmon_is_restarted(script: str, why: str) -> None:
    clock = FakeClock()
    provider = shell(script, clock)
    (fault,) = [r for r in first_readings(provider) if r.kind is Kind.EVENT]
    assert fault.quality is Quality.ERROR
    assert why in (fault.detail or "")
    assert provider.read() == [], "it waits before it starts again"
    clock.now_s += 1.5
    assert first_readings(provider)
    provider.close()


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo nonsense; sleep 1000", "Expecting value"),
        ("echo '[1]'; sleep 1000", "printed garbage"),
        ("head -c 300000 /dev/zero | tr '\\0' x; sleep 1000", "a line of more than"),
    ],
)
def test_a_line_that_is_not_macmons_ends_it(script: str, why: str) -> None:
    others = set(psutil.Process().children())
    provider = shell(script, FakeClock())
    (fault,) = first_readings(provider)
    assert why in (fault.detail or "")

    def only_others_are_left() -> bool:
        subprocess.run(["true"], check=True)  # a start reaps what was killed and had not ended within a second
        return set(psutil.Process().children()) <= others

    waits.until("macmon's stand-in is gone, its zombie too", only_others_are_left)


def test_silence_is_a_hang_and_old_readings_keep_their_time() -> None:
    clock = FakeClock()
    provider = shell(f"head -1 '{FIXTURES}/macmon_v061_old.jsonl'; sleep 1000", clock)
    first_readings(provider)
    clock.now_s += 20.0
    assert {reading.mono_s for reading in provider.read()} == {100.0}
    clock.now_s += 20.0
    (fault,) = provider.read()
    assert fault.detail == "hung: no line for 30 s"


def test_without_macmon_it_is_unavailable_and_the_remedy_installs_it() -> None:
    said = MacmonProvider(FakeClock(), ["no-such-macmon"]).probe()
    assert not said.ok
    assert "brew install macmon" in (said.remedy or "")


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = ("pcpu_freq_mhz", "pcpu_usage", "gpu_freq_mhz", "sys_power", "fans", "temp")


@given(st.dictionaries(st.sampled_from(KEYS), json_values))
def test_any_object_gives_readings_and_no_error(line: dict[str, object]) -> None:
    for reading in macmon_readings(line, Sampler("macmon", Now(1.0, 2.0))):
        assert reading.sensor_id.startswith("macmon:")
