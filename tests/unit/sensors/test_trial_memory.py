"""The memory of the trials' workers: their sum, and the largest."""

from __future__ import annotations

import os

from supervisor.clock import FakeClock
from supervisor.sensors.reading import Kind, Quality
from supervisor.sensors.trial_memory import DEVICE, LARGEST, TOTAL, TrialMemoryProvider, TrialWorker


def test_the_largest_trial_is_named_and_all_are_summed() -> None:
    sizes = {11: 100, 12: 700, 13: 200, 14: None}
    trials = {pid: TrialWorker(f"2M-h1/{number}") for number, pid in enumerate(sizes)}
    provider = TrialMemoryProvider(lambda: trials, FakeClock(), sizes.get)
    found = {reading.sensor_id: (reading.value, reading.detail) for reading in provider.read()}
    assert found == {TOTAL: (1000.0, "3 workers"), LARGEST: (700.0, "2M-h1/1")}
    assert {reading.kind for reading in provider.read()} == {Kind.MEMORY}


def test_what_metal_holds_counts_with_the_resident_bytes() -> None:
    """It is the machine's memory, and in no process's resident bytes: the largest trial may be the smallest process."""
    trials = {11: TrialWorker("2M-h1/1"), 12: TrialWorker("2M-h1/2", device_bytes=5000, device_shared=True)}
    found = TrialMemoryProvider(lambda: trials, FakeClock(), {11: 900, 12: 100}.get).read()
    assert {reading.sensor_id: (reading.value, reading.detail) for reading in found} == {
        TOTAL: (6000.0, "2 workers"), LARGEST: (5100.0, "2M-h1/2"),
    }  # fmt: skip


def test_what_a_gpu_of_its_own_memory_holds_is_a_reading_of_its_own() -> None:
    """Sending that trial back would free no memory of the machine."""
    trials = {11: TrialWorker("2M-h1/1", device_bytes=70), 12: TrialWorker("2M-h1/2", device_bytes=5000)}
    found = TrialMemoryProvider(lambda: trials, FakeClock(), {11: 900, 12: 100}.get).read()
    assert {reading.sensor_id: (reading.value, reading.detail) for reading in found} == {
        TOTAL: (1000.0, "2 workers"), LARGEST: (900.0, "2M-h1/1"), DEVICE: (5070.0, "2 workers"),
    }  # fmt: skip


def test_the_memory_of_a_real_process_is_measured() -> None:
    total, largest = TrialMemoryProvider(lambda: {os.getpid(): TrialWorker("2M-h1/2")}, FakeClock()).read()
    assert largest.detail == "2M-h1/2"
    assert total.value == largest.value
    assert largest.value is not None
    assert largest.value > 2**20, "a Python process holds more than a MiB"


def test_without_a_worker_there_is_no_reading() -> None:
    assert TrialMemoryProvider(dict, FakeClock()).read() == []


def test_a_folder_that_cannot_be_read_is_an_error_of_the_sensor() -> None:
    def unreadable() -> dict[int, TrialWorker]:
        raise OSError("the disk is gone")

    [reading] = TrialMemoryProvider(unreadable, FakeClock()).read()
    assert (reading.sensor_id, reading.value, reading.quality) == (TOTAL, None, Quality.ERROR)
