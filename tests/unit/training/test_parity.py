"""An accelerator that computes something else than the CPU is not trained on, and the trial says why."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.training.small_session import made
from tests.unit.training.small_trial import config
from training.data.windows import load_windows
from training.devices.parity import (
    MAX_PARAMS,
    Answer,
    Compared,
    Parity,
    compare,
    compare_devices,
    measure_by,
    why_not_in,
)
from training.grid import Architecture, grid_of, param_count
from training.memory import Precision
from training.settings import TrialSettings

CPU = Answer(0.7, 2.0)
HALF = Answer(0.71, 2.1)
"""As bf16 answers: two digits."""
WRONG = Answer(0.9, 2.0)


def device(answers: dict[Precision, Answer | Exception]) -> Any:
    def measure(name: str, precision: Precision) -> Answer:
        found = CPU if name == "cpu" else answers[precision]
        if isinstance(found, Exception):
            raise found
        return found

    return measure


@pytest.mark.parametrize(
    ("answer", "precision", "agrees"),
    [
        (Answer(0.7003, 2.01), "fp32", True), (HALF, "fp32", False), (HALF, "bf16", True), (WRONG, "bf16", False),
        (Answer(0.7, 4.0), "fp32", False), (Answer(float("nan"), 2.0), "bf16", False),
        (Answer(0.7, float("inf")), "fp32", False),
    ],
)  # fmt: skip
def test_loss_and_gradient_must_be_near_the_cpus(answer: Answer, precision: Precision, agrees: bool) -> None:
    assert Parity("mps", precision, answer, CPU).agrees is agrees


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"bf16": HALF, "fp32": CPU}, "bf16"),
        ({"bf16": WRONG, "fp32": CPU}, "fp32"),
        ({"bf16": RuntimeError("BFloat16 is not supported on MPS"), "fp32": CPU}, "fp32"),
        ({"bf16": WRONG, "fp32": WRONG}, None),
        ({"bf16": RuntimeError("no"), "fp32": RuntimeError("lost device")}, None),
    ],
)
def test_metal_takes_bf16_where_it_agrees_then_float32_then_the_cpu(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, answers: dict[Precision, Answer | Exception], expected: str | None
) -> None:
    monkeypatch.setattr("training.build.multiplies_in_bf16", lambda name: name == "mps")
    settings = TrialSettings.from_config(config(dataset, device="auto", precision="auto"))
    windows = load_windows(settings)
    shape = grid_of(settings, windows.manifest.num_features).architecture(0, 1)
    found = compare_devices(settings, shape, windows, ["cpu", "mps"], device(answers))
    assert found.precisions.get("mps") == expected
    assert found.precisions["cpu"] == "fp32"
    assert (found.refused is None) is (expected is not None)
    assert found.request("mps") == ("mps" if expected else "cpu")
    assert found.request("auto") == "auto"
    if expected is None:
        assert "mps" in str(found.refused)


def test_a_precision_that_the_plan_fixes_is_the_only_one_that_is_compared(dataset: Path) -> None:
    settings = TrialSettings.from_config(config(dataset, device="mps", precision="bf16"))
    windows = load_windows(settings)
    shape = grid_of(settings, windows.manifest.num_features).architecture(0, 1)
    found = compare_devices(settings, shape, windows, ["cpu", "mps"], device({"bf16": WRONG, "fp32": CPU}))
    assert [one.precision for one in found.parity] == ["bf16"]
    assert found.request("mps") == "cpu"
    assert found.precisions["cpu"] == "bf16", "as the plan asks"


def test_a_trial_whose_accelerator_is_wrong_trains_on_the_cpu_and_its_record_says_why(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.session.available_devices", lambda: ["cpu", "mps"])
    monkeypatch.setattr("training.devices.parity.measure_by", lambda *_: device({"fp32": WRONG, "bf16": WRONG}))
    session = made(dataset, device="mps", precision="fp32")
    record = json.loads(json.dumps(session.record()))["device"]
    assert record["chosen"] == "cpu"
    assert record["parity"][0]["agrees"] is False
    assert session.compared.refused is not None
    assert "loss 0.9" in session.compared.refused
    assert session.step().number == 1


def test_this_machines_own_figures_are_within_the_tolerances(dataset: Path) -> None:
    """bf16 on the CPU stands for bf16 of an accelerator; a model with one wrong layer is found."""
    settings = TrialSettings.from_config(config(dataset, dropout=0.5))
    windows = load_windows(settings)
    shape = grid_of(settings, windows.manifest.num_features).architecture(0, 1)
    measure = measure_by(settings, shape, windows)
    assert measure("cpu", "fp32") == measure("cpu", "fp32"), "without dropout"
    (half,) = compare("cpu", ["bf16"], measure)
    assert half.agrees
    assert half.answer != half.cpu
    other = measure_by(replace(settings, seed=2), shape, windows)("cpu", "fp32")
    assert not Parity("mps", "fp32", other, measure("cpu", "fp32")).agrees


def test_a_large_model_is_compared_by_few_of_its_layers(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the CPU out: its memory has no room for a 2B model."""
    seen: list[Architecture] = []

    def batch(_: Any, shape: Architecture, *__: Any) -> Answer:
        seen.append(shape)
        return CPU

    monkeypatch.setattr("training.devices.parity._batch", batch)
    large = Architecture(d_model=1024, n_layers=96, d_ff=4096, n_heads=16, num_features=25, context=80, patch=10,
                         stride=5)  # fmt: skip
    settings = TrialSettings.from_config(config(dataset))
    measure_by(settings, large, load_windows(settings))("cpu", "fp32")
    assert param_count(large) > 10 * MAX_PARAMS
    assert 1 <= seen[0].n_layers < 10
    assert replace(seen[0], n_layers=96) == large


def test_a_device_without_memory_is_not_taken_for_one_that_computes_something_else() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        compare("cuda", ["fp32"], device({"fp32": torch.OutOfMemoryError("CUDA out of memory")}))


@pytest.mark.parametrize(("answer", "may"), [(HALF, True), (WRONG, False)])
def test_a_precision_of_another_machine_is_compared_before_it_is_taken(answer: Answer, may: bool) -> None:
    compared = Compared({"cpu": "fp32", "mps": "fp32"}, (Parity("mps", "fp32", CPU, CPU),))
    why = why_not_in(compared, "mps", "bf16", device({"bf16": answer}))
    assert why is None if may else "mps in bf16" in (why or "")
    assert why_not_in(compared, "mps", "fp32", device({})) is None, "it was compared"
    assert why_not_in(compared, "cpu", "bf16", device({})) is None
