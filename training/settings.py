"""Check a trial's flat config and freeze it as TrialSettings. Standard library only."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from training import config_readers as read
from training.errors import SettingsError

Normalisation = Literal["revin", "revin_scale", "zscore", "none"]
Price = Literal["high", "close"]
SplitKind = Literal["contiguous", "chunks", "folds"]
DeviceRequest = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16"]

_BUDGET = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmMbB]?)")
_MAGNITUDE = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
MAX_BUDGET_PARAMS = 100 * 10**9
# Seeds stay below 2**48: exact in JSON readers that keep numbers as doubles, with room to add an epoch.
_SEED_BYTES = 6


def parse_budget(text: str) -> int:
    """Return the parameter count of a budget such as "20k", "2M" or "1.5B".

    Raises SettingsError for any other text, and for a count outside 1 .. 100B.
    """
    match = _BUDGET.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise SettingsError("budget", text, "not a parameter count", 'Write it like "20k", "2M" or "1.5B".')
    params = round(float(match[1]) * _MAGNITUDE[match[2].lower()])
    if not 1 <= params <= MAX_BUDGET_PARAMS:
        raise SettingsError("budget", text, "outside 1 .. 100B parameters", 'Write it like "20k", "2M" or "1.5B".')
    return params


def derive_seed(run_seed: int, trial_number: int) -> int:
    """Derive a trial's seed: 48 bits of SHA-256 over both numbers, so that neighbours are independent."""
    digest = hashlib.sha256(f"sweep trial seed:{run_seed}:{trial_number}".encode()).digest()
    return int.from_bytes(digest[:_SEED_BYTES], "big")


@dataclass(frozen=True, slots=True)
class GridSettings:
    """The lists whose product is the architecture grid; ``tolerance`` is a share of the budget."""

    d_model: tuple[int, ...]
    n_layers: tuple[int, ...]
    n_heads: tuple[int, ...]
    d_ff_ratio: tuple[int, ...] = (2, 4)
    tolerance: float = 0.25

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> GridSettings:
        """Read the section. Raises SettingsError with ``grid.KEY`` for an unknown, missing or bad value."""
        return read.section(cls, config, _GRID_READERS, "grid.")


@dataclass(frozen=True, slots=True)
class TargetSettings:
    """The label: 1 when the largest ``price`` over t+1 .. t+horizon reaches close_t * (1 + threshold)."""

    price: Price = "high"
    threshold: float = 0.01


@dataclass(frozen=True, slots=True)
class SplitSettings:
    """The division of days into train, validation and test.

    ``purge`` days before each border are left out, because labels look ahead. It is one number for all horizons, the
    plan's largest, so that every horizon is judged on the same dates. ``blocks`` is for ``chunks`` only, ``folds`` for
    ``folds``: so many pairs of a validation and a test block, each of other years. ``min_val_windows`` counts all
    validation blocks together.
    """

    kind: SplitKind = "contiguous"
    train_fraction: float = 0.70
    val_fraction: float = 0.15
    purge: int = 5
    blocks: int = 5
    folds: int = 3
    min_val_windows: int = 200

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> SplitSettings:
        """Read the section. Raises SettingsError with ``split.KEY`` for an unknown key or bad value."""
        return read.section(cls, config, _SPLIT_READERS, "split.")

    @property
    def test_folds(self) -> tuple[int | None, ...]:
        """Return the folds that are tested, each on a block of its own; (None,) for a single test."""
        return tuple(range(1, self.folds + 1)) if self.kind == "folds" else (None,)


@dataclass(frozen=True, slots=True)
class TrialSettings:
    """Everything that one trial needs. Days are sessions, rows of the dataset, not calendar days.

    A ``fold`` of ``split.kind`` folds trains on the days before its own validation block; None is the search, which
    trains on all days outside of validation and test and is judged on the validation of all folds.
    """

    budget: str
    horizon: int
    grid: GridSettings
    shape_rank: int
    heads_log2: int
    learning_rate: float
    dataset: str
    seed: int
    context: int = 80
    patch: int = 10
    stride: int = 5
    weight_decay: float = 0.01
    dropout: float = 0.1
    batch_size: int = 64
    warmup_fraction: float = 0.1
    gradient_clip: float = 1.0
    max_epochs: int = 50
    patience: int = 10
    normalisation: Normalisation = "revin_scale"
    target: TargetSettings = field(default_factory=TargetSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    fold: int | None = None
    device: DeviceRequest = "auto"
    precision: Precision = "auto"
    threads: int = 1
    compile: bool = False
    memory_limit_bytes: int | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> TrialSettings:
        """Check a flat config and freeze it.

        Raises SettingsError (a ValueError) with key, value and cure for unknown or missing keys, bad values, and
        values that contradict each other.
        """
        settings = read.section(cls, config, _READERS, "")
        _check_together(settings)
        return settings

    @property
    def budget_params(self) -> int:
        """Return the budget as a parameter count."""
        return parse_budget(self.budget)

    @property
    def scales_windows(self) -> bool:
        """Return whether each window is normalised by its own mean and deviation (RevIN)."""
        return self.normalisation in ("revin", "revin_scale")

    @property
    def tells_scales(self) -> bool:
        """Return whether each token also gets the scales that RevIN takes out."""
        return self.normalisation == "revin_scale"


def _check_together(settings: TrialSettings) -> None:
    """Raise SettingsError for values that contradict each other."""
    split, patch = settings.split, settings.patch
    for wrong, key, value, cause, cure in (
        (
            settings.context < patch, "context", settings.context,
            f"shorter than one patch of {patch} days", "Lengthen the context.",
        ),
        (
            settings.stride > patch, "stride", settings.stride,
            f"skips days: a patch has only {patch}", "Choose a stride <= patch.",
        ),
        (
            split.purge < settings.horizon, "split.purge", split.purge,
            f"labels look {settings.horizon} days ahead",
            "Set split.purge to the plan's largest horizon, so that all horizons share their dates.",
        ),
        (
            split.train_fraction + split.val_fraction >= 1, "split.train_fraction", split.train_fraction,
            f"with val_fraction {split.val_fraction} no day is left for the test",
            "Choose fractions whose sum is below 1.",
        ),
        (
            settings.fold is not None and settings.fold not in split.test_folds, "fold", settings.fold,
            f"a split of kind {split.kind} has no such fold",
            "Set split.kind to folds, and split.folds to the largest fold at least.",
        ),
    ):  # fmt: skip
        if wrong:
            raise SettingsError(key, value, cause, cure)


def _budget(key: str, value: object) -> str:
    budget = read.text(key, value)
    parse_budget(budget)
    return budget


_GRID_READERS: dict[str, read.Reader] = {
    "d_model": read.integers(1, 65536),
    "n_layers": read.integers(1, 4096),
    "n_heads": read.powers_of_two,
    "d_ff_ratio": read.integers(1, 16),
    "tolerance": read.number(0, 1, low_open=True),
}
_TARGET_READERS: dict[str, read.Reader] = {
    "price": read.choice("high", "close"),
    "threshold": read.number(0, 0.5, low_open=True),
}
_SPLIT_READERS: dict[str, read.Reader] = {
    "kind": read.choice("contiguous", "chunks", "folds"),
    "train_fraction": read.number(0.05, 0.95),
    "val_fraction": read.number(0.01, 0.9),
    "purge": read.integer(1, 250),
    "blocks": read.integer(2, 100),
    "folds": read.integer(2, 20),
    "min_val_windows": read.integer(1, 10**6),
}
_READERS: dict[str, read.Reader] = {
    "budget": _budget,
    "horizon": read.integer(1, 250),
    "grid": read.nested(GridSettings, _GRID_READERS),
    "shape_rank": read.integer(0, 10**6),
    "heads_log2": read.integer(0, 10),
    "learning_rate": read.number(0, 10, low_open=True),
    "dataset": read.text,
    "seed": read.integer(0, 2**48 - 1),
    "context": read.integer(2, 5000),
    "patch": read.integer(1, 5000),
    "stride": read.integer(1, 5000),
    "weight_decay": read.number(0, 10),
    "dropout": read.number(0, 0.95),
    "batch_size": read.integer(1, 65536),
    "warmup_fraction": read.number(0, 1),
    "gradient_clip": read.number(0, 1e6, low_open=True),
    "max_epochs": read.integer(1, 100_000),
    "patience": read.integer(1, 100_000),
    "normalisation": read.choice("revin", "revin_scale", "zscore", "none"),
    "target": read.nested(TargetSettings, _TARGET_READERS),
    "split": read.nested(SplitSettings, _SPLIT_READERS),
    "fold": read.optional(read.integer(1, 20)),
    "device": read.choice("auto", "cpu", "cuda", "mps"),
    "precision": read.choice("auto", "fp32", "bf16"),
    "threads": read.integer(1, 1024),
    "compile": read.boolean,
    "memory_limit_bytes": read.optional(read.integer(1, 2**60)),
}
KNOWN_KEYS: frozenset[str] = frozenset(_READERS)
