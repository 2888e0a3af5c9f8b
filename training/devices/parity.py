"""Compare a small batch on an accelerator with the CPU: a device that computes something else trains something else."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch.nn import functional

from training.build import build_learner, precision_for
from training.data.windows import MarketWindows
from training.devices.choice import release_cached_memory
from training.grid import Architecture, param_count
from training.loop import gather
from training.memory import Precision, predict_trial_memory
from training.settings import DeviceRequest, TrialSettings

WINDOWS = 4
# A larger model is compared by fewer of its layers: the shapes are the same, and the CPU's part takes seconds.
MAX_PARAMS = 50_000_000
LOSS_TOLERANCE: dict[Precision, float] = {"fp32": 1e-3, "bf16": 3e-2}
NORM_TOLERANCE: dict[Precision, float] = {"fp32": 1e-2, "bf16": 1e-1}


@dataclass(frozen=True, slots=True)
class Answer:
    """The loss of the batch, and the norm of its gradient."""

    loss: float
    gradient_norm: float


Measure = Callable[[str, Precision], Answer]
"""Computes the batch on a device in a precision."""


@dataclass(frozen=True, slots=True)
class Parity:
    """A comparison of ``device`` in ``precision`` with the CPU in float32; ``error`` says why there is no answer."""

    device: str
    precision: Precision
    answer: Answer | None
    cpu: Answer
    error: str | None = None

    @property
    def agrees(self) -> bool:
        """Return whether both figures are within the tolerances, which are shares of the CPU's figures."""
        return self.answer is not None and (
            math.isclose(self.answer.loss, self.cpu.loss, rel_tol=LOSS_TOLERANCE[self.precision])
            and math.isclose(self.answer.gradient_norm, self.cpu.gradient_norm, rel_tol=NORM_TOLERANCE[self.precision])
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values."""
        return {**asdict(self), "agrees": self.agrees}

    def sentence(self) -> str:
        """Return the comparison in words."""
        if self.answer is None:
            return f"{self.device} cannot compute in {self.precision}: {self.error}"
        return (
            f"{self.device} in {self.precision}: loss {self.answer.loss:.6g}, gradient norm"
            f" {self.answer.gradient_norm:.4g}; the CPU: {self.cpu.loss:.6g}, {self.cpu.gradient_norm:.4g}"
        )


@dataclass(frozen=True, slots=True)
class Compared:
    """The devices that agree with the CPU, each with its precision, the CPU among them; and the comparisons."""

    precisions: Mapping[str, Precision]
    parity: tuple[Parity, ...] = ()

    @property
    def refused(self) -> str | None:
        """Return why the trial trains on the CPU although there is an accelerator; None where it need not."""
        refused = {one.device: one.sentence() for one in self.parity if one.device not in self.precisions}
        return "; ".join(refused.values()) or None

    def request(self, asked: DeviceRequest) -> DeviceRequest:
        """Return the device that the config asks for; the CPU if that one computes something else."""
        refused = {one.device for one in self.parity} - set(self.precisions)
        return "cpu" if asked in refused else asked


def compare_devices(
    settings: TrialSettings,
    architecture: Architecture,
    windows: MarketWindows,
    available: list[str],
    measure: Measure | None = None,
) -> Compared:
    """Compare each accelerator that the trial may take; with "auto" in bf16 first, then in float32."""
    precisions, parity = {"cpu": precision_for(settings, "cpu")}, list[Parity]()
    for device in available:
        if device == "cpu" or settings.device not in ("auto", device):
            continue
        wanted = [precision_for(settings, device)]
        if settings.precision == "auto" and wanted != ["fp32"]:
            wanted.append("fp32")
        parity += compare(device, wanted, measure or measure_by(settings, architecture, windows))
        if parity[-1].agrees:
            precisions[device] = parity[-1].precision
    return Compared(precisions, tuple(parity))


def why_not_in(compared: Compared, device: str, precision: Precision, measure: Measure) -> str | None:
    """Return why ``device`` must not compute in ``precision``, for a trial that began in it elsewhere; None: it may."""
    if device == "cpu":
        return None
    known = [one for one in compared.parity if (one.device, one.precision) == (device, precision)]
    (one, *_) = known or compare(device, [precision], measure)
    return None if one.agrees else one.sentence()


def compare(device: str, precisions: list[Precision], measure: Measure) -> list[Parity]:
    """Compare a device with the CPU in each precision, until one agrees."""
    cpu, found = measure("cpu", "fp32"), []
    for precision in precisions:
        try:
            one = Parity(device, precision, measure(device, precision), cpu)
        except torch.OutOfMemoryError:
            # A full device says nothing about its numbers; the trial is tried again as after any lack of memory.
            raise
        except Exception as error:  # noqa: BLE001 - a driver raises any class: an unknown operator, a lost device
            one = Parity(device, precision, None, cpu, f"{type(error).__name__}: {error}"[:500])
        found.append(one)
        if one.agrees:
            break
    return found


def measure_by(settings: TrialSettings, architecture: Architecture, windows: MarketWindows) -> Measure:
    """Return a measurement by this trial's own model, data and seed, without dropout."""
    per_layer = param_count(architecture) / architecture.n_layers
    layers = max(1, min(architecture.n_layers, int(MAX_PARAMS / per_layer)))
    shape = replace(architecture, n_layers=layers)

    def measure(device: str, precision: Precision) -> Answer:
        answer = _batch(replace(settings, precision=precision, compile=False), shape, windows, device)
        release_cached_memory(device)
        return answer

    return measure


def _batch(settings: TrialSettings, shape: Architecture, windows: MarketWindows, device: str) -> Answer:
    learner = build_learner(settings, shape, device, predict_trial_memory(shape, WINDOWS))
    local = windows.to(learner.device)
    samples = local.train[:WINDOWS]
    learner.model.eval()
    with learner.autocast():
        logits = learner.forward(gather(local.days, samples, settings.context))
        loss = functional.binary_cross_entropy_with_logits(logits.float(), local.labels[samples])
    loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(learner.model.parameters(), math.inf)
    return Answer(float(loss.detach()), float(norm))
