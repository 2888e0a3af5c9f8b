"""The check of a machine's accelerator, by a stand-in: it finds what is right and what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.training.stand_in import Generator, stand_in
from training.devices import check
from training.devices.check import Row
from training.devices.parity import Answer

CHECKS = ["parity with the CPU", "parity with the CPU", "random generator", "queue", "resume", "a step of 2M",
          "memory of 2M"]  # fmt: skip


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "SHAPES", {"2M": (16, 1)})
    monkeypatch.setattr(check, "config", _small_config(check.config))


def _small_config(config: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def made(*given: Any) -> dict[str, Any]:
        changed = {"context": 30, "split": {"min_val_windows": 20}, "threads": 1}
        return {**config(*given), **changed}

    return made


def rows(dataset: Path, generator: Generator, left_s: float = 1.0) -> list[Row]:
    """Check the CPU in the place of an accelerator."""
    return list(check.run("cpu", stand_in(generator), dataset, lambda: left_s))


def test_a_device_that_is_right_passes_every_check(dataset: Path) -> None:
    found = rows(dataset, Generator())
    assert [row.check for row in found] == CHECKS
    assert [row for row in found if row.ok is False] == []
    by_name = {row.check: row for row in found}
    assert by_name["random generator"].result == "saved and restored"
    assert by_name["resume"].ok is True
    assert "16 batches of 2M queued in" in by_name["queue"].result


def test_each_kind_of_fault_is_seen_by_its_check(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other losses, a generator that forgets, a batch that is not a number, a device without an operator."""
    generator = Generator()
    forgets = stand_in(generator, set_rng_state=lambda state: None)
    monkeypatch.setattr("training.devices.check.measure_by", lambda *_: lambda device, precision: Answer(
        0.7 if precision == "bf16" else next(losses), 1.0))  # fmt: skip
    losses = iter([0.7, 0.9, 0.7, 0.7])
    monkeypatch.setattr("training.devices.check.train_batch", lambda *_: torch.tensor(float("nan")))

    def missing(*_: Any) -> float:
        raise NotImplementedError("the operator 'aten::x' is not implemented for MPS")

    monkeypatch.setattr("training.devices.check.seconds_per_step", missing)
    found = list(check.run("cpu", forgets, dataset, lambda: 1.0))
    bad = {row.check for row in found if row.ok is False}
    assert bad == {"parity with the CPU", "random generator", "queue", "a step of 2M"}
    assert "NotImplementedError: the operator" in found[-1].result


def test_checks_that_there_is_no_time_for_are_named(dataset: Path) -> None:
    found = rows(dataset, Generator(), left_s=0.0)
    assert {row.result for row in found} == {"left out: the time is over"}


def test_a_machine_without_an_accelerator_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "available_devices", lambda: ["cpu"])
    said: list[str] = []
    assert check.main(tmp_path, said.append) == 0
    found = [json.loads(line) for line in said]
    assert [row["check"] for row in found] == ["machine", "variables", "accelerator"]
    assert "neither CUDA nor Metal" in found[-1]["result"]
