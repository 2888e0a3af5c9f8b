"""Run the one test of an experiment's answer: `python -m training.evaluation`, with a JSON request on its input.

It scores the chosen architecture's seeds and the baselines on validation and test windows, writes every probability
into ``predictions.json`` and prints the result as one JSON object. It opens each test block once, after it has checked
everything that can be checked without them. On every fold the seeds answer that were trained on the days before it,
and the baselines are fitted on the same days.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from training.baselines import fit_baselines
from training.best_weights import read_weights
from training.block_bootstrap import DRAWS
from training.build import precision_for
from training.data.manifest import read_manifest
from training.data.sealed_windows import OpenedWindows, open_windows
from training.data.splits import TestOpening
from training.devices.choice import available_devices, device_memory_bytes
from training.errors import CheckpointError, SettingsError, TrainingError
from training.evaluation_result import SCHEMA, Block, Chain, result_of, write_predictions
from training.grid import Architecture, grid_of, param_count
from training.loop import cut, gather
from training.memory import choose_inference_windows
from training.model import PatchTST
from training.settings import TrialSettings

REFUSED = "refused"
"""The one key of an answer without a result: the error that a repeat would meet again."""
BATCH = 256
RANDOM_SEED = 0
"""Seeds the forest and the resamples; one number, so that the same windows give the same baselines at every budget."""
MAX_REQUEST_BYTES = 4 * 2**20
_ALL_FOLDS = "Give each seed one trial of every fold of its split."


@dataclass(frozen=True)
class Retrained:
    """One retraining of the chosen architecture: trial ``number``, its settings, and the file of its weights."""

    number: int
    settings: TrialSettings
    weights: Path


@dataclass(frozen=True)
class Request:
    """The trials to test, the ``opening`` that permits it, the trials' ``device``, the bootstrap's ``draws``."""

    trials: tuple[Retrained, ...]
    opening: TestOpening
    folder: Path
    device: str
    threads: int
    draws: int = DRAWS

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Request:
        """Read a request. Raises SettingsError for an invalid config, KeyError for a missing key."""
        trials = tuple(
            Retrained(int(trial["number"]), TrialSettings.from_config(trial["config"]), Path(trial["weights"]))
            for trial in body["trials"]
        )
        folder, asked = Path(body["folder"]), body["opening"]
        opening = TestOpening(
            record=folder / asked["record"],
            opened_by=asked["by"],
            reason=asked["reason"],
            dataset_sha256=read_manifest(Path(trials[0].settings.dataset)).sha256,
            opened_at=asked["at"],
        )
        return cls(trials, opening, folder, body["device"], int(body["threads"]), int(body.get("draws", DRAWS)))

    def chains(self) -> list[list[Retrained]]:
        """Return each seed's trials, one of every fold in order. Raises SettingsError if one is missing."""
        folds = self.trials[0].settings.split.test_folds
        by_seed: dict[int, dict[int | None, Retrained]] = {}
        for trial in self.trials:
            by_seed.setdefault(trial.settings.seed, {})[trial.settings.fold] = trial
        for seed, found in by_seed.items():
            if set(found) != set(folds):
                raise SettingsError("trials", sorted(map(str, found)), f"not the folds of seed {seed}", _ALL_FOLDS)
        return [[found[fold] for fold in folds] for found in by_seed.values()]

    def opening_of(self, fold: int | None) -> TestOpening:
        """Return the opening of one fold's block, which has a record of its own."""
        record = self.opening.record
        return self.opening if fold is None else replace(
            self.opening, record=record.with_stem(f"{record.stem}-fold-{fold}")
        )  # fmt: skip


def evaluate(request: Request) -> dict[str, Any]:
    """Open each test block once and score it.

    Raises SealedTestError if one was opened before, CheckpointError, DatasetError, DoesNotFit.
    """
    chains = request.chains()
    settings = chains[0][0].settings
    architecture = _architecture(settings)
    for trial in request.trials:
        _checked_weights(trial, architecture, request.opening.dataset_sha256)
    at_once = _windows_at_once(settings, architecture, request.device)
    blocks = [_tested(place, chains, architecture, request, at_once) for place in range(len(chains[0]))]
    named = [Chain(tuple(trial.number for trial in chain), chain[0].settings.seed) for chain in chains]
    return {
        "schema": SCHEMA,
        "param_count": param_count(architecture),
        # A machine that has lost its GPU computes the answers on its CPU.
        "device": {"asked": request.device, "used": _device_here(request.device)},
        **result_of(blocks, named, settings.horizon, request.draws, RANDOM_SEED),
        "predictions": write_predictions(request.folder, blocks),
    }


def _tested(
    place: int, chains: Sequence[Sequence[Retrained]], architecture: Architecture, request: Request, at_once: int
) -> Block:
    """Open the block at this place of the chains; answer its windows by each seed and baseline."""
    settings = chains[0][place].settings
    windows = open_windows(settings, request.opening_of(settings.fold))
    own = {
        str(chain[-1].number): _predict(chain[place], architecture, windows, request, at_once) for chain in chains
    }  # fmt: skip
    baselines = fit_baselines(
        windows.days, windows.log_volatility, windows.labels,
        {"train": windows.train, "val": windows.val, "test": windows.test}, settings, RANDOM_SEED,
        request.threads,
    )  # fmt: skip
    return Block(settings.fold, windows, own, baselines)


def _architecture(settings: TrialSettings) -> Architecture:
    manifest = read_manifest(Path(settings.dataset))
    return grid_of(settings, manifest.num_features).architecture(settings.shape_rank, settings.heads_log2)


def _checked_weights(trial: Retrained, architecture: Architecture, dataset_sha256: str) -> dict[str, Any]:
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


def _device_here(device: str) -> str:
    """Return ``device`` if this machine has it, else "cpu": the answers differ by rounding only."""
    return device if device in available_devices() else "cpu"


def _windows_at_once(settings: TrialSettings, architecture: Architecture, device: str) -> int:
    """Return how many windows are read at once in the memory that is free. Raises DoesNotFit."""
    device = _device_here(device)
    return choose_inference_windows(
        architecture, BATCH, torch.device(device).type,  # type: ignore[arg-type]  # one of ours by available_devices
        available_bytes=device_memory_bytes(device, psutil.virtual_memory().available),
        precision=precision_for(settings, device),
    )  # fmt: skip


def _predict(
    trial: Retrained, architecture: Architecture, windows: OpenedWindows, request: Request, at_once: int
) -> dict[str, NDArray[np.float64]]:
    """Predict the probabilities (windows,) of each part."""
    settings = trial.settings
    device = _device_here(request.device)
    model = PatchTST(architecture, dropout=settings.dropout, revin=settings.scales_windows)
    state = _checked_weights(trial, architecture, request.opening.dataset_sha256)
    model.load_state_dict(state["model"])
    model.to(device).eval()
    precision = state["precision"]
    days = torch.from_numpy(windows.days.astype(np.float32)).to(device)
    autocast = torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=precision == "bf16")
    found: dict[str, NDArray[np.float64]] = {}
    with torch.inference_mode(), autocast:
        for name, part in (("val", windows.val), ("test", windows.test)):
            samples = torch.from_numpy(part).to(device)
            logits = [model(gather(days, piece, settings.context)) for piece in cut(samples, at_once)]
            found[name] = _sigmoid(torch.cat(logits).float().cpu().numpy().astype(np.float64))
    return found


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    odds = np.exp(-np.abs(logits))  # never overflows
    return np.where(logits >= 0, 1 / (1 + odds), odds / (1 + odds))


def main() -> int:
    """Print the result, or a refusal, and return 0; after an error from outside print it and return 1.

    A refusal stands until a person changes what the request names: weights, dataset, config.
    """
    os.umask(0o077)
    text = sys.stdin.buffer.read(MAX_REQUEST_BYTES)
    try:
        request = Request.from_json(json.loads(text))
        torch.set_num_threads(request.threads)
        result = evaluate(request)
    except (TrainingError, OSError, MemoryError, RuntimeError, KeyError, ValueError) as error:
        text = f"{type(error).__name__}: {error}"
        if not isinstance(error, TrainingError) or error.outside:
            print(text, file=sys.stderr)
            return 1
        result = {REFUSED: text}
    print(json.dumps(result, allow_nan=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
