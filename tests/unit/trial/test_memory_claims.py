"""Trials of one node plan their memory one after the other, each beside what the others are still to take."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import actors.trial.memory_claims as memory_claims
from actors.trial.device_memory import NONE, DeviceMemory, device_memory
from actors.trial.heartbeat import Heartbeat, Worker, read_heartbeat
from actors.trial.memory_claims import LOCK_FILE, MemoryClaims
from supervisor.processes.identity import started_at
from training.errors import DoesNotFit
from training.grid import Architecture
from training.memory import MemoryEstimate, choose_micro_batch

OTHER = os.getppid()
SHAPE = Architecture(d_model=512, n_layers=8, d_ff=2048, n_heads=8, num_features=25, context=80, patch=10, stride=5)
FREE = 3 * 2**30


def heartbeat(folder: Path, pid: int, held: DeviceMemory = NONE) -> Heartbeat:
    worker = Worker("2M-h1", pid, 1, "/f", pid, started_at(pid))
    return Heartbeat(folder, worker, in_batches=True, memory=lambda: held)


def planned(promised: list[int], total: int = 1000) -> Callable[[int], Any]:
    def plan(promised_bytes: int) -> Any:
        promised.append(promised_bytes)
        return SimpleNamespace(total_bytes=total)

    return plan


def test_two_trials_that_start_together_fit_together(tmp_path: Path) -> None:
    """Neither has taken anything yet, so both see all memory free; the second plans with what the first leaves."""

    def plan(promised_bytes: int) -> MemoryEstimate:
        return choose_micro_batch(SHAPE, 512, available_bytes=FREE - promised_bytes)

    alone = plan(0)
    first = MemoryClaims(heartbeat(tmp_path, OTHER), lambda _: 0).claim("cpu", plan)
    second = MemoryClaims(heartbeat(tmp_path, os.getpid()), lambda _: 0).claim("cpu", plan)
    assert first == alone
    assert second.micro_batch < first.micro_batch
    assert first.total_bytes + second.total_bytes <= FREE < 2 * alone.total_bytes
    tighter = MemoryClaims(heartbeat(tmp_path, os.getpid()), lambda _: 0)
    with pytest.raises(DoesNotFit):
        tighter.claim("cpu", lambda promised: choose_micro_batch(SHAPE, 512, available_bytes=2**30 - promised))


@pytest.mark.parametrize(
    ("resident", "device", "left"),
    [(0, NONE, 1000), (300, NONE, 700), (1200, NONE, 0), (300, DeviceMemory(400, shared=True), 300)],
)
def test_what_a_trial_holds_already_is_not_subtracted_again(
    tmp_path: Path, resident: int, device: DeviceMemory, left: int
) -> None:
    """The free memory lacks it: resident bytes, and what Metal holds beside them."""
    promised: list[int] = []
    MemoryClaims(heartbeat(tmp_path, OTHER, device)).claim("mps", planned([]))
    MemoryClaims(heartbeat(tmp_path, os.getpid()), lambda _: resident).claim("cpu", planned(promised))
    assert promised == [left]


def test_a_gpu_has_memory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, own = heartbeat(tmp_path, OTHER, DeviceMemory(100)), heartbeat(tmp_path, os.getpid())
    promised: list[int] = []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    MemoryClaims(other).claim("cuda", planned([]))
    for device, visible in (("cuda", "0"), ("cuda", "1"), ("cpu", "0")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        MemoryClaims(own, lambda _: 0).claim(device, planned(promised))
    assert promised == [900, 0, 0]


def test_the_claim_of_a_dead_worker_or_of_an_ended_trial_counts_no_more(tmp_path: Path) -> None:
    promised: list[int] = []
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        other = heartbeat(tmp_path, process.pid)
        own = MemoryClaims(heartbeat(tmp_path, os.getpid()), lambda _: 0)
        MemoryClaims(other).claim("cpu", planned([]))
        own.claim("cpu", planned(promised))
        other.claim(0, 0)
        own.claim("cpu", planned(promised))
        MemoryClaims(other).claim("cpu", planned([]))
        process.kill()
        process.wait()
        own.claim("cpu", planned(promised))
    assert promised == [1000, 0, 0]


def test_a_plan_that_fails_claims_nothing(tmp_path: Path) -> None:
    own = heartbeat(tmp_path, os.getpid())

    def fail(_: int) -> Any:
        raise DoesNotFit(2, 1)

    MemoryClaims(own).claim("cpu", planned([]))
    with pytest.raises(DoesNotFit):
        MemoryClaims(own).claim("cpu", fail)
    found = read_heartbeat(tmp_path / f"{os.getpid()}.heartbeat")
    assert found is not None
    assert found[1].memory.claim_bytes == 0


def test_a_trial_that_was_stopped_while_it_planned_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_claims, "LOCK_WITHIN_S", 0.1)
    own = MemoryClaims(heartbeat(tmp_path, os.getpid()), lambda _: 0)
    promised: list[int] = []
    with memory_claims.locked(tmp_path / LOCK_FILE):
        own.claim("cpu", planned(promised))
    assert promised == [0]


def fake_torch(*, cuda: bool = False, mps: bool = False) -> Any:
    """Make the part of torch's surface that is asked."""
    reserved = {0: 300, 1: 40}
    return SimpleNamespace(
        cuda=SimpleNamespace(is_initialized=lambda: cuda, memory_reserved=reserved.get, device_count=lambda: 2),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: mps)),
        mps=SimpleNamespace(driver_allocated_memory=lambda: 77),
    )


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        ({}, NONE),
        ({"torch": SimpleNamespace()}, NONE),  # just being imported
        ({"torch": fake_torch()}, NONE),
        ({"torch": fake_torch(cuda=True)}, DeviceMemory(340)),
        ({"torch": fake_torch(mps=True)}, DeviceMemory(77, shared=True)),
    ],
)
def test_the_allocator_of_the_accelerator_in_use_is_asked(modules: dict[str, Any], expected: DeviceMemory) -> None:
    assert device_memory(modules) == expected


def test_this_machines_torch_has_the_names_that_are_asked() -> None:
    import torch

    assert device_memory({"torch": torch}).shared == torch.backends.mps.is_available()
    assert callable(torch.mps.driver_allocated_memory)
    assert callable(torch.cuda.memory_reserved)
