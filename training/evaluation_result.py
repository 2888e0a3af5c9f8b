"""Score the answers of a test, pooled over its folds and by fold, and write every probability.

``predictions.json`` has the parts ``val`` and ``test``. Each has lists of one entry per window, in order of time:
``days`` (ISO), ``labels`` (0 or 1), ``folds`` (1 is the first; null where the split has no folds), and in
``probabilities`` one such list by forecaster. A forecaster is a baseline's name, or for a seed of the chosen
architecture the number of its finalisation trial: on earlier folds the walk-forward trial of the same seed answered.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.atomic_file import write_atomically
from training.baselines import Baseline
from training.block_bootstrap import CONFIDENCE
from training.data.sealed_windows import OpenedWindows
from training.part_scorer import PartScorer
from training.scores import Array, log_losses

SCHEMA = 1
PREDICTIONS = "predictions.json"
PARTS = ("val", "test")


@dataclass(frozen=True)
class Chain:
    """One seed of the chosen architecture: its trial of each fold in order, the finalisation's last."""

    numbers: tuple[int, ...]
    seed: int

    @property
    def name(self) -> str:
        return str(self.numbers[-1])


@dataclass(frozen=True)
class Block:
    """The answers on the windows of one fold; ``own`` and each baseline map a part to probabilities (windows,)."""

    fold: int | None
    windows: OpenedWindows
    own: Mapping[str, Mapping[str, Array]]
    baselines: Sequence[Baseline]

    def labels(self, part: str) -> Array:
        return self.windows.part_labels(getattr(self.windows, part))

    def answers(self, part: str) -> dict[str, Array]:
        """Return the probabilities of each forecaster, seeds first."""
        seeds = {name: found[part] for name, found in self.own.items()}
        return {**seeds, **{baseline.name: baseline.probabilities[part] for baseline in self.baselines}}

    @property
    def base_rate(self) -> dict[str, float]:
        return {part: float(self.labels(part).mean()) for part in ("train", *PARTS)}

    def described(self, part: str) -> tuple[list[str], int]:
        """Return the first and last day of a part, and its number of windows."""
        rows = getattr(self.windows, part)
        return [self.windows.dates[rows[0]], self.windows.dates[rows[-1]]], len(rows)


def result_of(blocks: Sequence[Block], chains: Sequence[Chain], horizon: int, draws: int, seed: int) -> dict[str, Any]:
    """Return the scores of each forecaster with their intervals, over all blocks and by block, as JSON values.

    Top-level train figures are those of the last block. ``draws`` and ``seed`` are the bootstrap's.
    """
    pooled = {part: _pooled(blocks, part) for part in PARTS}
    own = {part: [pooled[part][chain.name] for chain in chains] for part in PARTS}
    scorers = {
        part: PartScorer.of(_labels(blocks, part), pooled[part]["prior"], own[part], horizon, draws, seed)
        for part in PARTS
    }
    last = blocks[-1]
    return {
        "dates": {
            "train": last.described("train")[0],
            **{part: [blocks[0].described(part)[0][0], last.described(part)[0][1]] for part in PARTS},
        },
        "windows": {"train": last.described("train")[1], **{part: len(_labels(blocks, part)) for part in PARTS}},
        "base_rate": {"train": last.base_rate["train"]} | {p: float(_labels(blocks, p).mean()) for p in PARTS},
        "bootstrap": {
            "kind": "stationary block, percentile, widened for the number of blocks",
            "draws": draws,
            "confidence": CONFIDENCE,
            "block_days": {part: scorers[part].block for part in PARTS},
        },
        "models": {
            "patchtst": {
                "title": f"PatchTST, mean of {len(chains)} seed{'s' * (len(chains) != 1)}",
                **{part: scorers[part].scored(own[part]) for part in PARTS},
                "seeds": [_seed_scores(chain, pooled, scorers) for chain in chains],
            },
            **{
                baseline.name: {
                    "title": baseline.title,
                    "note": "; ".join(dict.fromkeys(_of(block, baseline.name).note for block in blocks)),
                    "seconds": round(sum(_of(block, baseline.name).seconds for block in blocks), 3),
                    **{part: scorers[part].scored([pooled[part][baseline.name]]) for part in PARTS},
                }
                for baseline in last.baselines
            },
        },
        "against": {
            baseline.name: {part: scorers[part].difference(own[part], pooled[part][baseline.name]) for part in PARTS}
            for baseline in last.baselines
        },
        "folds": [_fold_scores(block, chains) for block in blocks],
    }


def _labels(blocks: Sequence[Block], part: str) -> Array:
    return np.concatenate([block.labels(part) for block in blocks])


def _pooled(blocks: Sequence[Block], part: str) -> dict[str, Array]:
    """Return the probabilities of each forecaster over the windows of all blocks."""
    answers = [block.answers(part) for block in blocks]
    return {name: np.concatenate([found[name] for found in answers]) for name in answers[-1]}


def _of(block: Block, name: str) -> Baseline:
    return next(baseline for baseline in block.baselines if baseline.name == name)


def _seed_scores(
    chain: Chain, pooled: Mapping[str, Mapping[str, Array]], scorers: Mapping[str, PartScorer]
) -> dict[str, Any]:
    return {
        "trial": chain.numbers[-1],
        "trials": list(chain.numbers),
        "seed": chain.seed,
        **{part: scorers[part].plain(pooled[part][chain.name]) for part in PARTS},
    }


def _fold_scores(block: Block, chains: Sequence[Chain]) -> dict[str, Any]:
    """Return days, windows and the BCE of each model in one block; a block is too short for intervals."""
    described = {part: block.described(part) for part in ("train", *PARTS)}
    return {
        "fold": block.fold,
        "dates": {part: days for part, (days, _) in described.items()},
        "windows": {part: count for part, (_, count) in described.items()},
        "base_rate": block.base_rate,
        "bce": {
            "patchtst": {part: _bce(block, part, [chain.name for chain in chains]) for part in PARTS},
            **{
                baseline.name: {part: _bce(block, part, [baseline.name]) for part in PARTS}
                for baseline in block.baselines
            },
        },
    }


def _bce(block: Block, part: str, names: Sequence[str]) -> float:
    answers = block.answers(part)
    return float(np.mean([log_losses(answers[name], block.labels(part)).mean() for name in names]))


def write_predictions(folder: Path, blocks: Sequence[Block]) -> dict[str, str]:
    """Write ``predictions.json`` (see above); return its name and SHA-256."""

    def part(name: str) -> dict[str, Any]:
        return {
            "days": [day for block in blocks for day in block.windows.part_dates(getattr(block.windows, name))],
            "labels": [int(label) for label in _labels(blocks, name)],
            "folds": [block.fold for block in blocks for _ in block.labels(name)],
            "probabilities": {forecaster: found.tolist() for forecaster, found in _pooled(blocks, name).items()},
        }

    body = {"schema": SCHEMA, **{name: part(name) for name in PARTS}}
    content = json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
    write_atomically(folder / PREDICTIONS, content)
    return {"file": PREDICTIONS, "sha256": hashlib.sha256(content).hexdigest()}
