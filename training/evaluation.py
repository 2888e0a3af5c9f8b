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
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.baselines import fit_baselines
from training.block_bootstrap import DRAWS
from training.data.manifest import read_manifest
from training.data.sealed_windows import OpenedWindows, open_windows
from training.data.splits import TestOpening
from training.errors import SettingsError, TrainingError
from training.evaluation_result import SCHEMA, Block, Chain, result_of, write_predictions
from training.grid import Architecture, param_count
from training.inference import (
    Retrained,
    architecture_of,
    checked_weights,
    device_here,
    load_model,
    probabilities,
    windows_at_once,
)
from training.settings import TrialSettings

REFUSED = "refused"
"""The one key of an answer without a result: the error that a repeat would meet again."""
RANDOM_SEED = 0
"""Seeds the forest and the resamples; one number, so that the same windows give the same baselines at every budget."""
MAX_REQUEST_BYTES = 4 * 2**20
_ALL_FOLDS = "Give each seed one trial of every fold of its split."


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
    architecture = architecture_of(settings)
    for trial in request.trials:
        checked_weights(trial, architecture, request.opening.dataset_sha256)
    at_once = windows_at_once(settings, architecture, request.device)
    blocks = [_tested(place, chains, architecture, request, at_once) for place in range(len(chains[0]))]
    named = [Chain(tuple(trial.number for trial in chain), chain[0].settings.seed) for chain in chains]
    return {
        "schema": SCHEMA,
        "param_count": param_count(architecture),
        # A machine that has lost its GPU computes the answers on its CPU.
        "device": {"asked": request.device, "used": device_here(request.device)},
        **result_of(blocks, named, settings.horizon, request.draws, RANDOM_SEED),
        "predictions": write_predictions(request.folder, blocks),
    }


def _tested(
    place: int, chains: Sequence[Sequence[Retrained]], architecture: Architecture, request: Request, at_once: int
) -> Block:
    """Open the block at this place of the chains; answer its windows by each seed and baseline."""
    settings = chains[0][place].settings
    windows = open_windows(settings, request.opening_of(settings.fold))
    days = torch.from_numpy(windows.days.astype(np.float32)).to(device_here(request.device))
    own = {
        str(chain[-1].number): _predict(chain[place], architecture, days, windows, request, at_once) for chain in chains
    }
    baselines = fit_baselines(
        windows.days, windows.log_volatility, windows.labels,
        {"train": windows.train, "val": windows.val, "test": windows.test}, settings, RANDOM_SEED,
        request.threads,
    )  # fmt: skip
    return Block(settings.fold, windows, own, baselines)


def _predict(
    trial: Retrained, architecture: Architecture, days: Tensor, windows: OpenedWindows, request: Request, at_once: int
) -> dict[str, NDArray[np.float64]]:
    """Predict the probabilities (windows,) of each part."""
    model, precision = load_model(trial, architecture, request.opening.dataset_sha256, request.device)
    return {
        name: probabilities(model, days, part, trial.settings.context, precision, at_once)
        for name, part in (("val", windows.val), ("test", windows.test))
    }


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
