"""Which trial holds how much memory: by the notes of live workers, and never by a dead one's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from supervisor.clock import FakeClock
from supervisor.sensors.reading import Kind
from supervisor.sensors.trial_memory import LARGEST, TOTAL, TrialMemoryProvider, drop_note, note_trial, resident_bytes


def test_the_largest_trial_is_named_and_all_are_summed(tmp_path: Path) -> None:
    sizes = {11: 100, 12: 700, 13: 200}
    for number, pid in enumerate(sizes):
        note_trial(tmp_path, pid, "2M-h1", number)
    provider = TrialMemoryProvider(tmp_path, FakeClock(), lambda pid, _: sizes[pid])
    found = {reading.sensor_id: (reading.value, reading.detail) for reading in provider.read()}
    assert found == {TOTAL: (1000.0, "3 workers"), LARGEST: (700.0, "2M-h1/1")}
    assert {reading.kind for reading in provider.read()} == {Kind.MEMORY}


def test_a_worker_speaks_for_its_last_trial_until_it_drops_it(tmp_path: Path) -> None:
    provider = TrialMemoryProvider(tmp_path, FakeClock())
    note_trial(tmp_path, os.getpid(), "2M-h1", 1)
    note_trial(tmp_path, os.getpid(), "2M-h1", 2)
    total, largest = provider.read()
    assert largest.detail == "2M-h1/2"
    assert total.value == largest.value
    assert largest.value is not None
    assert largest.value > 2**20, "a Python process holds more than a MiB"
    drop_note(tmp_path, os.getpid())
    assert provider.read() == []


def test_a_dead_workers_note_is_swept_away_also_when_its_pid_lives_again(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    note_trial(tmp_path, gone.pid, "2M-h1", 1)
    note_trial(tmp_path, os.getpid(), "2M-h1", 2)
    # A note that is older than the process of its pid was left by another.
    os.utime(tmp_path / str(os.getpid()), (1.0, 1.0))
    assert TrialMemoryProvider(tmp_path, FakeClock()).read() == []
    assert list(tmp_path.iterdir()) == []
    assert resident_bytes(os.getpid(), 1.0) is None


def test_without_any_worker_there_is_nothing_to_read(tmp_path: Path) -> None:
    assert TrialMemoryProvider(tmp_path / "absent", FakeClock()).read() == []
