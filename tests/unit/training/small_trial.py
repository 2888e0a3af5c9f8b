"""The smallest data and config with which a PatchTST trains for real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.data.dataset_files import build_dataset
from training.data.imports import import_file
from training.data.manifest import dataset_path

BARS = Path(__file__).parents[1] / "data" / "bars.csv"


def build(folder: Path, tier: str = "a25") -> Path:
    """Build a dataset from 889 days of made-up bars."""
    import_file(BARS, "TEST", folder, calendar=None)
    build_dataset("TEST", tier, folder)
    return dataset_path(folder, "TEST", tier)


def config(dataset: Path, **changes: Any) -> dict[str, Any]:
    return {
        "budget": "8k",
        "horizon": 3,
        "grid": {"d_model": [8, 16], "n_layers": [1, 2], "n_heads": [2, 4], "tolerance": 0.5},
        "shape_rank": 0,
        "heads_log2": 1,
        "learning_rate": 3e-3,
        "dataset": str(dataset),
        "seed": 1,
        "context": 30,
        "split": {"min_val_windows": 20},
        "max_epochs": 3,
        "precision": "fp32",
        "device": "cpu",
        **changes,
    }


def no_gate() -> float:
    return 0.0
