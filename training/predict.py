"""Answer the last days of a file of bars: `python -m training.predict`, with a JSON request on its input.

It reads the weights as the test does (training.inference) and prints the probabilities of each retraining as one JSON
object. It opens no test: a file of bars is no dataset, and no label is read.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from training.data.bars import read_bars
from training.data.features import FEATURE_VERSION, compute_features
from training.data.imports import iso_day
from training.data.manifest import ProcessedManifest, read_manifest
from training.data.tiers import TIERS
from training.errors import CheckpointError, DatasetError, TrainingError
from training.inference import Retrained, architecture_of, checked_weights, load_model, probabilities, windows_at_once
from training.settings import TrialSettings

SCHEMA = 1
REFUSED = "refused"
"""The key of an answer without a forecast: the fault of the request, with its `remedy`."""
DEVICE = "cpu"
"""Trials may have the accelerator; a few windows take seconds without one."""
MAX_REQUEST_BYTES = 4 * 2**20
ANEW = "Train again: `supervisord data build`, then `supervisord start PLAN --new`."
_OTHER_WEIGHTS = (
    "The forecast needs the weights that this run kept, and the dataset that they were trained on. `supervisorctl rm`"
    f" and `gc` delete weights, an import replaces the dataset: restore both from a copy. {ANEW}"
)


@dataclass(frozen=True)
class Scales:
    """Mean and deviation (features,) by which a trial's inputs were standardised."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Scales:
        return cls(np.asarray(found["mean"], np.float64), np.asarray(found["deviation"], np.float64))


@dataclass(frozen=True)
class Request:
    """The retrainings to ask, the file of ``bars``, that of ``vix`` for a tier with VIX, and how many last ``days``."""

    trials: tuple[Retrained, ...]
    scales: tuple[Scales | None, ...]
    bars: Path
    vix: Path | None
    ticker: str | None
    days: int
    threads: int

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Request:
        """Read a request. Raises SettingsError for an invalid config, KeyError for a missing key."""
        trials = tuple(
            Retrained(int(trial["number"]), TrialSettings.from_config(trial["config"]), Path(trial["weights"]))
            for trial in body["trials"]
        )
        scales = tuple(
            None if trial.get("zscore") is None else Scales.from_json(trial["zscore"]) for trial in body["trials"]
        )
        vix = body.get("vix")
        return cls(trials, scales, Path(body["bars"]), None if vix is None else Path(vix), body.get("ticker"),
                   int(body["days"]), int(body["threads"]))  # fmt: skip


def forecast(request: Request) -> dict[str, Any]:
    """Return the probability of each of the last days, by retraining and their mean, as JSON values.

    Raises CheckpointError for weights of another trial or dataset, DatasetError for features that are computed in
    another way now, BadFile and TrainingError for bars that are not enough, DoesNotFit.
    """
    settings = request.trials[0].settings
    manifest = read_manifest(Path(settings.dataset))
    _check_features(manifest)
    architecture = architecture_of(settings)
    try:
        for trial in request.trials:
            checked_weights(trial, architecture, manifest.sha256)
    except CheckpointError as error:
        raise CheckpointError(error.message, _OTHER_WEIGHTS) from error
    table, days, read_as = inputs_of(request, manifest, settings.context)
    at_once = windows_at_once(settings, architecture, DEVICE)
    part = np.arange(settings.context - 1, settings.context - 1 + request.days, dtype=np.int64)
    found: dict[str, list[float]] = {}
    for trial, scales in zip(request.trials, request.scales, strict=True):
        inputs = torch.from_numpy(_scaled(table, scales, settings).astype(np.float32))
        model, precision = load_model(trial, architecture, manifest.sha256, DEVICE)
        answer = probabilities(model, inputs, part, settings.context, precision, at_once)
        if not np.isfinite(answer).all():
            raise CheckpointError(f"expected a probability of trial {trial.number}, found one that is no number", ANEW)
        found[str(trial.number)] = answer.tolist()
    return {
        "schema": SCHEMA,
        "ticker": manifest.ticker,
        "tier": manifest.tier,
        "horizon": settings.horizon,
        "target": {"price": settings.target.price, "threshold": settings.target.threshold},
        "read_as": list(read_as),
        "days": days,
        "by_trial": found,
        "mean": np.mean(list(found.values()), axis=0).tolist(),
    }


def _check_features(manifest: ProcessedManifest) -> None:
    """Refuse a tier that is computed otherwise now than when the dataset was built. Raises DatasetError."""
    if manifest.tier not in TIERS:
        raise DatasetError(f"expected one of the tiers {', '.join(TIERS)}, found {manifest.tier!r}", ANEW)
    if manifest.features != TIERS[manifest.tier] or manifest.feature_version != FEATURE_VERSION:
        raise DatasetError(
            f"{manifest.file} has features of version {manifest.feature_version}, and version {FEATURE_VERSION} is "
            f"computed here: the model would see other numbers than those it was trained on",
            ANEW,
        )


def inputs_of(
    request: Request, manifest: ProcessedManifest, context: int
) -> tuple[NDArray[np.float64], list[str], tuple[str, ...]]:
    """Return the features (rows, features) that the last windows see, their last days, and how the file was read.

    Raises BadFile, and TrainingError when the tier needs VIX or the history is too short.
    """
    vix = None
    if manifest.tier.endswith("_vix"):
        if request.vix is None:
            raise TrainingError(f"tier {manifest.tier} needs VIX bars, too", "Give them with --vix FILE.")
        vix = read_bars(request.vix, loose="open").table
    bars = read_bars(request.bars, ticker=request.ticker)
    frame = compute_features(bars.table, manifest.tier, vix)
    complete = frame.notna().all(axis=1).to_numpy()
    warm_up = int(np.argmax(complete)) if complete.any() else len(frame)
    needed = context + request.days - 1
    if len(frame) - warm_up < needed:
        raise TrainingError(
            f"{request.bars}: expected at least {warm_up + needed} days, found {len(frame)}: the indicators need "
            f"{warm_up} days to warm up, a window {context}, and {request.days} are asked for",
            "Give a longer history, or ask for fewer days: --days.",
        )
    seen = frame.iloc[-needed:]
    if not complete[-needed:].all():
        hole = seen.index[int(np.argmin(complete[-needed:]))]
        raise TrainingError(f"{request.bars}: a feature has no value on {iso_day(hole)}", "Look at the bars before it.")
    days = [iso_day(day) for day in pd.DatetimeIndex(seen.index)[-request.days :]]
    return seen[list(manifest.features)].to_numpy(np.float64), days, bars.read_as


def _scaled(table: NDArray[np.float64], scales: Scales | None, settings: TrialSettings) -> NDArray[np.float64]:
    """Standardise the features by a trial's train days, where it did. Raises CheckpointError without the scales."""
    if settings.normalisation != "zscore":
        return table
    if scales is None or len(scales.mean) != table.shape[1]:
        raise CheckpointError("the trial's record lacks the scales of its inputs (zscore)", ANEW)
    return (table - scales.mean) / scales.deviation


def main() -> int:
    """Print the forecast, or a refusal with its remedy, and return 0; after an error of the machine return 1."""
    os.umask(0o077)
    text = sys.stdin.buffer.read(MAX_REQUEST_BYTES)
    try:
        request = Request.from_json(json.loads(text))
        torch.set_num_threads(request.threads)
        result = forecast(request)
    except TrainingError as error:
        result = {REFUSED: error.message, "remedy": error.remedy}
    except (OSError, MemoryError, RuntimeError, KeyError, ValueError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result, allow_nan=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
