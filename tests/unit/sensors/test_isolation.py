"""Test a provider in a child process: a bad child harms only its readings."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from supervisor.clock import FakeClock
from supervisor.sensors.isolation import IsolatedProvider, Patience, child_command
from supervisor.sensors.isolation_child import rss_bytes
from supervisor.sensors.reading import Kind, Quality, Reading
from tests.waits import NET_S

GOOD = {
    "sensor_id": "fake:die/a",
    "kind": "temperature",
    "component": "cpu",
    "value": 61.5,
    "unit": "celsius",
    "mono_s": 1.0,
    "wall_s": 2.0,
    "source": "fake",
    "quality": "ok",
    "limits": {"soft": 92.0, "pause": 99.0, "critical": 105.0, "source": "default"},
    "detail": None,
}
ANSWER = json.dumps({"readings": [GOOD]})
# `read` in a shell takes one request, so these children answer in turn as the real one does.
HEALTHY = f"while read verb; do echo '{ANSWER}'; done"
PATIENCE = Patience(grace_s=5.0, deadline_s=2.0, start_s=2.0)
ENDLESS = Patience(grace_s=NET_S, deadline_s=NET_S, start_s=NET_S)


@pytest.fixture
def marker() -> Iterator[str]:
    """A word on the command line of every child of a test; after the test none may live."""
    word = f"sweep-test-{uuid.uuid4().hex}"
    yield word
    left = alive(word)
    for process in left:
        process.kill()
    assert not left


def alive(word: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and any(word in part for part in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def shell(script: str, marker: str, clock: FakeClock, patience: Patience = PATIENCE) -> IsolatedProvider:
    return IsolatedProvider("fake", ["sh", "-c", script, marker], clock, patience)


def event(readings: list[Reading]) -> Reading:
    return next(reading for reading in readings if reading.kind is Kind.EVENT)


def test_a_healthy_childs_readings_are_returned(marker: str) -> None:
    provider = shell(HEALTHY, marker, FakeClock())
    for _ in range(3):
        (reading,) = provider.read()
        assert reading == Reading.from_json(GOOD)
    provider.close()


FAULTS = {
    "exit 3": "crashed with exit code 3",
    "kill -SEGV $$": "crashed with SIGSEGV",
    "read verb; echo hello": "printed garbage: b'hello'",
    "read verb; echo '[1, 2]'": "printed garbage",
    "read verb; echo '{\"readings\": 5}'": "printed garbage: not a list",
    "read verb; echo '{\"readings\": [{}]}'": "printed garbage: a Reading needs the field sensor_id",
    "read verb; head -c 1048576 /dev/zero": "line of more than",
    f"read verb; echo '{ANSWER.replace('61.5', '1e999')}'": "Reading.value: expected float or None, found inf",
    f"read verb; printf '%s\\nmore\\n' '{ANSWER}'; sleep 1000": "more than one line",
    "read verb; sleep 1000 & exit 4": "crashed with exit code 4",
    "exec 1>&-; sleep 1000": "closed its output",
}


@pytest.mark.parametrize(("script", "why"), FAULTS.items())
def test_a_bad_child_is_killed_and_the_event_says_why(script: str, why: str, marker: str) -> None:
    provider = shell(script, marker, FakeClock(), Patience(grace_s=0.5))
    failed = provider.read()
    for _ in range(20):
        if any(reading.kind is Kind.EVENT for reading in failed):
            break
        failed = provider.read()
    assert event(failed).sensor_id == "provider:fake"
    assert event(failed).quality is Quality.ERROR
    assert why in (event(failed).detail or "")
    provider.close()


HANGS = ("sleep 1000", "sleep 1000 & sleep 1000", "trap '' TERM INT HUP; while :; do sleep 1000; done", "kill -STOP $$")


@pytest.mark.parametrize("script", HANGS)
def test_a_child_that_hangs_is_killed_once_its_deadline_has_passed(script: str, marker: str) -> None:
    clock = FakeClock()
    provider = shell(script, marker, clock, Patience(grace_s=0.01))
    assert provider.read() == []
    clock.now_s += 9.0
    assert provider.read() == []
    clock.now_s += 2.0
    assert event(provider.read()).detail == "hung: no answer in 10 s"
    provider.close()


def test_known_sensors_are_missing_while_the_child_is_down_and_back_when_it_is(marker: str) -> None:
    clock = FakeClock()
    provider = shell(f"read verb; echo '{ANSWER}'; read verb; exit 1", marker, clock)
    assert provider.read()[0].value == 61.5
    lost = provider.read()
    assert [(reading.sensor_id, reading.quality) for reading in lost[1:]] == [("fake:die/a", Quality.ERROR)]
    clock.now_s += 2.0
    assert provider.read()[0].value == 61.5
    provider.close()


def test_restarts_wait_twice_as_long_each_time_up_to_five_minutes(marker: str, tmp_path: Path) -> None:
    clock = FakeClock()
    provider = shell(f"echo >> {tmp_path}/starts; exit 1", marker, clock)
    starts_s: list[float] = []
    while len(starts_s) < 12:
        provider.read()
        if len((tmp_path / "starts").read_text()) > len(starts_s):
            starts_s.append(clock.now_s)
        clock.now_s += 1.0
    waits = [later - earlier for earlier, later in pairwise(starts_s)]
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_no_child_is_started_while_killed_ones_do_not_die(marker: str) -> None:
    """As in uninterruptible sleep: poll() always finds them alive."""

    class Undead:
        def poll(self) -> None:
            return None

        def wait(self, timeout: float) -> None:
            return None

    provider = shell(HEALTHY, marker, FakeClock())
    provider._unreaped = [Undead(), Undead(), Undead()]  # type: ignore[list-item]
    assert event(provider.read()).detail == "hung: 3 killed processes do not die"
    assert provider.pid is None


@pytest.mark.parametrize("faults", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_no_process_is_left_after_many_faults(faults: int, marker: str) -> None:
    clock = FakeClock()
    scripts = (
        "exit 1",
        "sleep 1000 & exit 1",
        "read verb; echo garbage; sleep 1000",
        "sleep 1000 & sleep 1000",
        "read verb; head -c 300000 /dev/zero; sleep 1000",
    )
    patience = Patience(grace_s=0.0, start_s=1.0, back_off_s=0.0)
    providers = [shell(script, marker, clock, patience) for script in scripts]
    while faults > 0:
        faults -= sum(reading.kind is Kind.EVENT for provider in providers for reading in provider.read())
        clock.now_s += 0.6
    for provider in providers:
        provider.close()
    assert not alive(marker)


def test_a_child_is_recycled_daily_and_at_twice_its_memory(marker: str) -> None:
    clock = FakeClock()
    growing = 'n=1; while read verb; do echo "{\\"readings\\": [], \\"rss_bytes\\": $n}"; n=$((n+1)); done'
    provider = shell(growing, marker, clock)
    pids = []
    for _ in range(4):
        provider.read()
        pids.append(provider.pid)
    assert pids[0] == pids[1]
    assert pids[2] is None
    assert pids[3] not in (None, pids[0])
    clock.now_s += 86400.0
    assert provider.read() == []
    assert provider.pid is None
    provider.close()


def test_the_real_child_serves_a_real_provider(marker: str) -> None:
    provider = IsolatedProvider(
        "scripted", [*child_command("supervisor.sensors.scripted:ScriptedProvider"), marker], FakeClock(), ENDLESS
    )
    assert provider.probe().ok
    assert provider.read() == []
    assert provider.pid is not None
    assert rss_bytes() > 2**20
    provider.close()


def test_the_real_child_ends_when_its_parent_has_ended(marker: str) -> None:
    read_end, write_end = os.pipe()
    child = psutil.Popen([*child_command("supervisor.sensors.scripted:ScriptedProvider"), marker], stdin=read_end)
    os.close(read_end)
    os.close(write_end)
    assert child.wait(timeout=NET_S) == 0


def test_a_target_that_cannot_be_imported_is_unavailable_and_no_error(marker: str) -> None:
    provider = IsolatedProvider(
        "none", [*child_command("supervisor.no_such_module:None"), marker], FakeClock(), ENDLESS
    )
    said = provider.probe()
    assert not said.ok
    assert "crashed with exit code 1" in said.reason
