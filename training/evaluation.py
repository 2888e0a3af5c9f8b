"""The one test of an experiment's answer: `python -m training.evaluation`, a request as JSON on its input.

Scores the chosen architecture's seeds and the baselines on validation and test windows, with intervals, writes every
probability into ``predictions.json`` and prints the result as one JSON object. The test split is opened here, once, and
only after everything that could fail before it has been checked.
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

from training.baselines import Baseline, fit_baselines
from training.best_weights import read_weights
from training.block_bootstrap import CONFIDENCE, DRAWS, Interval, block_days, draw_weights, interval
from training.build import precision_for
from training.data.manifest import read_manifest, write_atomically
from training.data.sealed_windows import OpenedWindows, open_windows
from training.data.splits import TestOpening
from training.device import available_devices, device_memory_bytes
from training.errors import CheckpointError, TrainingError
from training.grid import Architecture, grid_of, param_count
from training.loop import cut, gather
from training.memory import choose_micro_batch
from training.model import PatchTST
from training.scores import SCORES, Array, Forecast, resampled_scores, scores
from training.settings import TrialSettings

SCHEMA = 1
PREDICTIONS = "predictions.json"
PARTS = ("val", "test")
BATCH = 256
RANDOM_SEED = 0
"""Of the forest and of the resamples. One for all: the same windows give the same baselines at every budget."""
MAX_REQUEST_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Seed:
    """One retraining of the chosen architecture: trial ``number``, its settings, and the file of its weights."""

    number: int
    settings: TrialSettings
    weights: Path


@dataclass(frozen=True)
class Request:
    """What to test. ``opening`` is the leave to look; ``device`` where the trials ran; ``draws`` of the bootstrap."""

    seeds: tuple[Seed, ...]
    opening: TestOpening
    folder: Path
    device: str
    threads: int
    draws: int = DRAWS

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Request:
        """Raises SettingsError for a config that is none, KeyError for what is missing."""
        seeds = tuple(
            Seed(int(trial["number"]), TrialSettings.from_config(trial["config"]), Path(trial["weights"]))
            for trial in body["trials"]
        )
        folder, opening = Path(body["folder"]), body["opening"]
        leave = TestOpening(
            record=folder / opening["record"],
            opened_by=opening["by"],
            reason=opening["reason"],
            dataset_sha256=read_manifest(Path(seeds[0].settings.dataset)).sha256,
            opened_at=opening["at"],
        )
        return cls(seeds, leave, folder, body["device"], int(body["threads"]), int(body.get("draws", DRAWS)))


def evaluate(request: Request) -> dict[str, Any]:
    """Open the test once and score. Raises SealedTestError when it was opened before, CheckpointError, DatasetError."""
    settings = request.seeds[0].settings
    architecture = _architecture(settings)
    for seed in request.seeds:
        _checked_weights(seed, architecture, request.opening.dataset_sha256)
    at_once = _windows_at_once(settings, architecture, request.device)
    windows = open_windows(settings, request.opening)
    parts = {"val": windows.val, "test": windows.test}
    answers = {str(seed.number): _predict(seed, architecture, windows, request, at_once) for seed in request.seeds}
    baselines = fit_baselines(
        windows.table, windows.labels, windows.manifest.features, {"train": windows.train, **parts}, settings.context,
        RANDOM_SEED, request.threads,
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
        raise CheckpointError(f"{seed.weights} is of another trial or dataset: {', '.join(wrong)}")
    return state


def _device_here(device: str) -> str:
    """Where the trials ran, if this machine has it: on any device the answers are the same but for rounding."""
    return device if device in available_devices() else "cpu"


def _windows_at_once(settings: TrialSettings, architecture: Architecture, device: str) -> int:
    """As many windows as even a training step would fit with. Raises DoesNotFit."""
    device = _device_here(device)
    memory = choose_micro_batch(
        architecture, BATCH, torch.device(device).type,  # type: ignore[arg-type]  # one of ours by available_devices
        available_bytes=device_memory_bytes(device, psutil.virtual_memory().available),
        precision=precision_for(settings, device),
    )  # fmt: skip
    return memory.micro_batch


def _predict(
    seed: Seed, architecture: Architecture, windows: OpenedWindows, request: Request, at_once: int
) -> dict[str, NDArray[np.float64]]:
    """Probabilities (windows,) of each part."""
    settings = seed.settings
    device = _device_here(request.device)
    model = PatchTST(architecture, dropout=settings.dropout, revin=settings.normalisation == "revin")
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


def _scored(
    request: Request,
    windows: OpenedWindows,
    answers: Mapping[str, Mapping[str, Array]],
    baselines: Sequence[Baseline],
) -> dict[str, Any]:
    settings = request.seeds[0].settings
    days = {"train": windows.train, "val": windows.val, "test": windows.test}
    judges = {part: _Judge.of(windows, part, answers, settings.horizon, request.draws) for part in PARTS}
    model = {
        "title": f"PatchTST, mean of {len(request.seeds)} seed{'s' * (len(request.seeds) != 1)}",
        **{part: judges[part].scored([answers[name][part] for name in answers]) for part in PARTS},
        "seeds": [
            {
                "trial": seed.number,
                "seed": seed.settings.seed,
                **{part: judges[part].plain(answers[str(seed.number)][part]) for part in PARTS},
            }
            for seed in request.seeds
        ],
    }
    return {
        "schema": SCHEMA,
        "param_count": param_count(_architecture(settings)),
        # Where the answers came from: a machine that has lost its GPU answers on its CPU.
        "device": {"asked": request.device, "used": _device_here(request.device)},
        "dates": {name: [windows.dates[part[0]], windows.dates[part[-1]]] for name, part in days.items()},
        "windows": {name: len(part) for name, part in days.items()},
        "base_rate": {name: float(windows.part_labels(part).mean()) for name, part in days.items()},
        "bootstrap": {
            "kind": "stationary block, percentile, widened for the number of blocks",
            "draws": request.draws,
            "confidence": CONFIDENCE,
            "block_days": {part: judges[part].block for part in PARTS},
        },
        "models": {
            "patchtst": model,
            **{
                baseline.name: {
                    "title": baseline.title,
                    "note": baseline.note,
                    "seconds": baseline.seconds,
                    **{part: judges[part].scored([baseline.probabilities[part]]) for part in PARTS},
                }
                for baseline in baselines
            },
        },
        "against": {
            baseline.name: {
                part: judges[part].difference([answers[name][part] for name in answers], baseline.probabilities[part])
                for part in PARTS
            }
            for baseline in baselines
        },
    }


@dataclass(frozen=True)
class _Judge:
    """Scores forecasts of one part on the same resamples, so that they can be compared."""

    labels: Array
    prior: float
    block: int
    weights: Array

    @classmethod
    def of(
        cls, windows: OpenedWindows, part: str, answers: Mapping[str, Mapping[str, Array]], horizon: int, draws: int
    ) -> _Judge:
        labels = windows.part_labels(windows.val if part == "val" else windows.test)
        prior = float(windows.part_labels(windows.train).mean())
        losses = np.mean([Forecast(found[part], labels, prior).losses() for found in answers.values()], axis=0)
        block = block_days(losses, horizon)
        return cls(labels, prior, block, draw_weights(len(labels), block, draws, RANDOM_SEED))

    @property
    def blocks(self) -> float:
        return len(self.labels) / self.block

    def scored(self, forecasts: Sequence[Array]) -> dict[str, Any]:
        """The mean of each score over forecasts of the same days, with its interval."""
        values = [scores(Forecast(one, self.labels, self.prior)) for one in forecasts]
        drawn = [resampled_scores(Forecast(one, self.labels, self.prior), self.weights) for one in forecasts]
        return {name: self._interval(name, values, drawn).as_dict() for name in SCORES}

    def _interval(
        self, name: str, values: Sequence[Mapping[str, float]], drawn: Sequence[Mapping[str, Array]]
    ) -> Interval:
        mean = float(np.mean([value[name] for value in values]))
        return interval(mean, np.mean([draw[name] for draw in drawn], axis=0), self.blocks)

    def plain(self, forecast: Array) -> dict[str, float | None]:
        found = scores(Forecast(forecast, self.labels, self.prior))
        return {name: value if np.isfinite(value) else None for name, value in found.items()}

    def difference(self, forecasts: Sequence[Array], baseline: Array) -> dict[str, float | None]:
        """Mean BCE of the forecasts minus the baseline's, day by day on the same resamples."""
        own = np.mean([Forecast(one, self.labels, self.prior).losses() for one in forecasts], axis=0)
        daily = own - Forecast(baseline, self.labels, self.prior).losses()
        drawn = self.weights @ daily / self.weights.sum(axis=1)
        found: Interval = interval(float(daily.mean()), drawn, self.blocks)
        return found.as_dict()


def _write_predictions(
    folder: Path, windows: OpenedWindows, answers: Mapping[str, Mapping[str, Array]], baselines: Sequence[Baseline]
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
    """Exit status 0 with the result on standard output, or 1 with the reason on standard error."""
    os.umask(0o077)
    text = sys.stdin.buffer.read(MAX_REQUEST_BYTES)
    try:
        request = Request.from_json(json.loads(text))
        torch.set_num_threads(request.threads)
        result = evaluate(request)
    except (TrainingError, OSError, KeyError, ValueError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result, allow_nan=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
