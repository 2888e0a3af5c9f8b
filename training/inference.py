"""Answer windows by the kept weights of a trial, after a check that they are the trial's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.best_weights import read_weights
from training.build import precision_for
from training.data.manifest import read_manifest
from training.data.splits import Indices
from training.devices.choice import available_devices, device_memory_bytes
from training.errors import CheckpointError
from training.grid import Architecture, grid_of
from training.loop import cut, gather
from training.memory import choose_inference_windows
from training.model import PatchTST
from training.settings import TrialSettings

BATCH = 256


@dataclass(frozen=True)
class Retrained:
    """One retraining of the chosen architecture: trial ``number``, its settings, and the file of its weights."""

    number: int
    settings: TrialSettings
    weights: Path


def architecture_of(settings: TrialSettings) -> Architecture:
    """Return the architecture of a trial. Raises DatasetError without its dataset's manifest, GridError."""
    manifest = read_manifest(Path(settings.dataset))
    return grid_of(settings, manifest.num_features).architecture(settings.shape_rank, settings.heads_log2)


def checked_weights(trial: Retrained, architecture: Architecture, dataset_sha256: str) -> dict[str, Any]:
    """Read the weights of a trial. Raises CheckpointError for those of another trial, architecture or dataset."""
    state = read_weights(trial.weights)
    identity = state["identity"]
    settings = trial.settings
    expected = {
        "architecture": architecture.as_dict(), "dataset_sha256": dataset_sha256, "seed": repr(settings.seed),
        **({} if settings.fold is None else {"fold": repr(settings.fold)}),
    }  # fmt: skip
    wrong = [name for name, value in expected.items() if identity.get(name) != value]
    if wrong:
        raise CheckpointError(f"{trial.weights} belongs to another trial or dataset: {', '.join(wrong)} differ")
    return state


def device_here(device: str) -> str:
    """Return ``device`` if this machine has it, else "cpu": the answers differ by rounding only."""
    return device if device in available_devices() else "cpu"


def windows_at_once(settings: TrialSettings, architecture: Architecture, device: str) -> int:
    """Return how many windows are read at once in the memory that is free. Raises DoesNotFit."""
    device = device_here(device)
    return choose_inference_windows(
        architecture, BATCH, torch.device(device).type,  # type: ignore[arg-type]  # one of ours by available_devices
        available_bytes=device_memory_bytes(device, psutil.virtual_memory().available),
        precision=precision_for(settings, device),
    )  # fmt: skip


def load_model(trial: Retrained, architecture: Architecture, dataset_sha256: str, device: str) -> tuple[PatchTST, str]:
    """Return the model with a trial's weights, ready to answer, and the precision that it was trained in.

    Raises CheckpointError as ``checked_weights``.
    """
    settings = trial.settings
    model = PatchTST(architecture, dropout=settings.dropout, revin=settings.scales_windows)
    state = checked_weights(trial, architecture, dataset_sha256)
    model.load_state_dict(state["model"])
    model.to(device_here(device)).eval()
    return model, str(state["precision"])


def probabilities(
    model: PatchTST, days: Tensor, part: Indices, context: int, precision: str, at_once: int
) -> NDArray[np.float64]:
    """Answer the windows that end on the rows ``part`` of ``days`` (rows, features): (windows,)."""
    device = days.device
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
    with torch.inference_mode(), autocast:
        samples = torch.from_numpy(part).to(device)
        logits = [model(gather(days, piece, context)) for piece in cut(samples, at_once)]
        return _sigmoid(torch.cat(logits).float().cpu().numpy().astype(np.float64))


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    odds = np.exp(-np.abs(logits))  # never overflows
    return np.where(logits >= 0, 1 / (1 + odds), odds / (1 + odds))
