"""The device is chosen by timing, and only where there is a choice to make."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from training.devices.choice import CORE_CEILING_FLOPS, DeviceChoice, choose_device, device_memory_bytes
from training.errors import SettingsError


def timer(seconds: dict[str, float], asked: list[str]) -> Callable[[str], float]:
    def time_step(device: str) -> float:
        asked.append(device)
        return seconds[device]

    return time_step


def choose(
    request: str, available: list[str], seconds: dict[str, float], flops: float = 1e9, threads: int = 1
) -> tuple[DeviceChoice, list[str]]:
    asked: list[str] = []
    return choose_device(request, available, flops, threads, timer(seconds, asked)), asked


def test_the_only_device_is_chosen_without_timing() -> None:
    choice, asked = choose("auto", ["cpu"], {})
    assert (choice.device, asked) == ("cpu", [])


@pytest.mark.parametrize(("mps_s", "expected"), [(0.5, "cpu"), (0.05, "mps")])
def test_the_faster_device_is_chosen_and_both_figures_are_kept(mps_s: float, expected: str) -> None:
    choice, asked = choose("auto", ["cpu", "mps"], {"cpu": 0.1, "mps": mps_s})
    assert choice.device == expected
    assert choice.seconds_per_step == {"cpu": 0.1, "mps": mps_s}
    assert sorted(asked) == ["cpu", "mps"]


@pytest.mark.parametrize(("threads", "timed"), [(1, ["cuda"]), (2, ["cuda"]), (20, ["cuda", "cpu"])])
def test_a_cpu_is_not_timed_where_the_threads_of_the_trial_cannot_win(threads: int, timed: list[str]) -> None:
    """Here 0.2 s on the GPU are four threads' work at best: a trial gets its share of the cores, not all of them."""
    seconds = {"cuda": 0.2, "cpu": 0.3}
    choice, asked = choose("auto", ["cpu", "cuda"], seconds, flops=0.8 * CORE_CEILING_FLOPS, threads=threads)
    assert choice.device == "cuda"
    assert choice.seconds_per_step == {"cuda": 0.2, "cpu": seconds["cpu"] if "cpu" in timed else None}
    assert asked == timed


def test_an_accelerator_that_the_trial_does_not_fit_loses() -> None:
    choice, _ = choose("auto", ["cpu", "cuda"], {"cuda": float("inf"), "cpu": 9.0})
    assert choice.device == "cpu"
    assert choice.seconds_per_step == {"cuda": None, "cpu": 9.0}


def test_a_requested_device_is_chosen_without_timing_or_refused() -> None:
    choice, asked = choose("cpu", ["cpu", "cuda"], {})
    assert (choice.device, asked) == ("cpu", [])
    with pytest.raises(SettingsError, match="not on this machine"):
        choose("cuda", ["cpu"], {})


def test_memory_that_torch_caches_counts_as_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (30, 100))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 50)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 10)
    assert device_memory_bytes("cuda", cpu_available_bytes=7) == 30 + 50 - 10
    assert device_memory_bytes("cpu", cpu_available_bytes=7) == 7
