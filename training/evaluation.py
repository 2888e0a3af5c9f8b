"""Run the one test of an experiment's answer: `python -m training.evaluation`, with a JSON request on its input.

It scores the chosen architecture's seeds and the baselines on validation and test windows, writes every probability
into ``predictions.json`` and prints the result as one JSON object. It opens the test split once, after it has checked
everything that can be checked without it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from training.atomic_file import write_atomically
from training.baselines import Baseline, fit_baselines
from training.best_weights import read_weights
from training.block_bootstrap import CONFIDENCE, DRAWS
from training.build import precision_for
from training.data.manifest import read_manifest
from training.data.sealed_windows import OpenedWindows, open_windows
from training.data.splits import TestOpening
from training.device import available_devices, device_memory_bytes
from training.errors import CheckpointError, TrainingError
from training.grid import Architecture, grid_of, param_count
from training.loop import cut, gather
from training.memory import choose_inference_windows
from training.model import PatchTST
from training.part_scorer import PartScorer
from training.scores import Array
from training.settings import TrialSettings

SCHEMA = 1
PREDICTIONS = "predictions.json"
PARTS = ("val", "test")
REFUSED = "refused"
"""The one key of an answer without a result: the error that a repeat would meet again."""
BATCH = 256
RANDOM_SEED = 0
"""Seeds the forest and the resamples; one number, so that the same windows give the same baselines at every budget."""
MAX_REQUEST_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Seed:
    """One retraining of the chosen architecture: trial ``number``, its settings, and the file of its weights."""

    number: int
    settings: TrialSettings
    weights: Path


@dataclass(frozen=True)
class Request:
    """The trials to test, the ``opening`` that permits it, the trials' ``device``, the bootstrap's ``draws``."""

    seeds: tuple[Seed, ...]
    opening: TestOpening
    folder: Path
    device: str
    threads: int
    draws: int = DRAWS

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Request:
        """Read a request. Raises SettingsError for an invalid config, KeyError for a missing key."""
        seeds = tuple(
            Seed(int(trial["number"]), TrialSettings.from_config(trial["config"]), Path(trial["weights"]))
            for trial in body["trials"]
        )
        folder, asked = Path(body["folder"]), body["opening"]
        opening = TestOpening(
            record=folder / asked["record"],
            opened_by=asked["by"],
            reason=asked["reason"],
            dataset_sha256=read_manifest(Path(seeds[0].settings.dataset)).sha256,
            opened_at=asked["at"],
        )
        return cls(seeds, opening, folder, body["device"], int(body["threads"]), int(body.get("draws", DRAWS)))


def evaluate(request: Request) -> dict[str, Any]:
    """Open the test once and score it.

    Raises SealedTestError if it was opened before, CheckpointError, DatasetError, DoesNotFit.
    """
    settings = request.seeds[0].settings
    architecture = _architecture(settings)
    for seed in request.seeds:
        _checked_weights(seed, architecture, request.opening.dataset_sha256)
    at_once = _windows_at_once(settings, architecture, request.device)
    windows = open_windows(settings, request.opening)
    parts = {"val": windows.val, "test": windows.test}
    answers = {str(seed.number): _predict(seed, architecture, windows, request, at_once) for seed in request.seeds}
    baselines = fit_baselines(
        windows.days, windows.log_volatility, windows.labels, {"train": windows.train, **parts}, settings, RANDOM_SEED,
        request.threads,
    )  # fmt: skip
    result = _scored(request, windows, answers, baselines)
    result["predictions"] = _write_predictions(request.folder, windows, answers, baselines)
    return result


def _architecture(settings: TrialSettings) -> Architecture:
    manifest = read_manifest(Path(settings.dataset))
    return grid_of(settings, manifest.num_features).architecture(settings.shape_rank, settings.heads_log2)


def _checked_weights(seed: Seed, architecture: Architecture, dataset_sha256: str) -> dict[str, Any]:
    state = read_weights(seed.weights)
    identity = state["identity"]
    expected = {
        "architecture": architecture.as_dict(), "dataset_sha256": dataset_sha256, "seed": repr(seed.settings.seed)
    }  # fmt: skip
    wrong = [name for name, value in expected.items() if identity.get(name) != value]
    if wrong:
        raise CheckpointError(f"{seed.weights} belongs to another trial or dataset: {', '.join(wrong)} differ")
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
    seed: Seed, architecture: Architecture, windows: OpenedWindows, request: Request, at_once: int
) -> dict[str, NDArray[np.float64]]:
    """Predict the probabilities (windows,) of each part."""
    settings = seed.settings
    device = _device_here(request.device)
    model = PatchTST(architecture, dropout=settings.dropout, revin=settings.scales_windows)
    model.load_state_dict(_checked_weights(seed, architecture, request.opening.dataset_sha256)["model"])
    model.to(device).eval()
    precision = precision_for(settings, device)
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


Answers = Mapping[str, Mapping[str, Array]]
"""Trial number, part: probabilities (windows,)."""


def _scored(
    request: Request, windows: OpenedWindows, answers: Answers, baselines: Sequence[Baseline]
) -> dict[str, Any]:
    settings = request.seeds[0].settings
    days = {"train": windows.train, "val": windows.val, "test": windows.test}
    base_rate = {name: float(windows.part_labels(part).mean()) for name, part in days.items()}
    own = {part: [found[part] for found in answers.values()] for part in PARTS}
    scorers = {
        part: PartScorer.of(
            windows.part_labels(days[part]), base_rate["train"], own[part], settings.horizon, request.draws, RANDOM_SEED
        )
        for part in PARTS
    }
    return {
        "schema": SCHEMA,
        "param_count": param_count(_architecture(settings)),
        # A machine that has lost its GPU computes the answers on its CPU.
        "device": {"asked": request.device, "used": _device_here(request.device)},
        "dates": {name: [windows.dates[part[0]], windows.dates[part[-1]]] for name, part in days.items()},
        "windows": {name: len(part) for name, part in days.items()},
        "base_rate": base_rate,
        "bootstrap": {
            "kind": "stationary block, percentile, widened for the number of blocks",
            "draws": request.draws,
            "confidence": CONFIDENCE,
            "block_days": {part: scorers[part].block for part in PARTS},
        },
        "models": {
            "patchtst": _model_scores(request.seeds, answers, scorers),
            **{baseline.name: _baseline_scores(baseline, scorers) for baseline in baselines},
        },
        "against": {
            baseline.name: {part: scorers[part].difference(own[part], baseline.probabilities[part]) for part in PARTS}
            for baseline in baselines
        },
    }


def _model_scores(seeds: Sequence[Seed], answers: Answers, scorers: Mapping[str, PartScorer]) -> dict[str, Any]:
    return {
        "title": f"PatchTST, mean of {len(seeds)} seed{'s' * (len(seeds) != 1)}",
        **{part: scorers[part].scored([found[part] for found in answers.values()]) for part in PARTS},
        "seeds": [
            {
                "trial": seed.number,
                "seed": seed.settings.seed,
                **{part: scorers[part].plain(answers[str(seed.number)][part]) for part in PARTS},
            }
            for seed in seeds
        ],
    }


def _baseline_scores(baseline: Baseline, scorers: Mapping[str, PartScorer]) -> dict[str, Any]:
    return {
        "title": baseline.title,
        "note": baseline.note,
        "seconds": baseline.seconds,
        **{part: scorers[part].scored([baseline.probabilities[part]]) for part in PARTS},
    }


def _write_predictions(
    folder: Path, windows: OpenedWindows, answers: Answers, baselines: Sequence[Baseline]
) -> dict[str, str]:
    def part(name: str, rows: NDArray[np.int64]) -> dict[str, Any]:
        return {
            "days": windows.part_dates(rows),
            "labels": [int(label) for label in windows.part_labels(rows)],
            "probabilities": {
                **{number: found[name].tolist() for number, found in answers.items()},
                **{baseline.name: baseline.probabilities[name].tolist() for baseline in baselines},
            },
        }

    body = {"schema": SCHEMA, "val": part("val", windows.val), "test": part("test", windows.test)}
    content = json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
    write_atomically(folder / PREDICTIONS, content)
    return {"file": PREDICTIONS, "sha256": hashlib.sha256(content).hexdigest()}


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
