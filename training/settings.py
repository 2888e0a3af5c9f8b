"""What one trial is made of: one flat config in, one frozen, checked TrialSettings out. Standard library only."""

from __future__ import annotations

import difflib
import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Literal, TypeVar, cast

from training.errors import SettingsError

Normalisation = Literal["revin", "zscore", "none"]
Price = Literal["high", "close"]
SplitKind = Literal["contiguous", "chunks"]
DeviceRequest = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16"]

_BUDGET = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmMbB]?)")
_MAGNITUDE = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
MAX_BUDGET_PARAMS = 100 * 10**9
# Seeds stay below 2**48: exact in JSON readers that hold numbers as doubles, and room to add an epoch.
_SEED_BYTES = 6


def parse_budget(text: str) -> int:
    """The parameter count of a budget such as "20k", "2M" or "1.5B".

    Raises SettingsError when the text is none of these, or the count is not within 1 .. 100B.
    """
    match = _BUDGET.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise SettingsError("budget", text, "not a parameter count", 'Write it as "20k", "2M" or "1.5B".')
    params = round(float(match[1]) * _MAGNITUDE[match[2].lower()])
    if not 1 <= params <= MAX_BUDGET_PARAMS:
        raise SettingsError("budget", text, "outside 1 .. 100B parameters", 'Write it as "20k", "2M" or "1.5B".')
    return params


def derive_seed(run_seed: int, trial_number: int) -> int:
    """The trial's own seed: 48 bits of SHA-256 over both numbers, so neighbours share nothing."""
    digest = hashlib.sha256(f"sweep trial seed:{run_seed}:{trial_number}".encode()).digest()
    return int.from_bytes(digest[:_SEED_BYTES], "big")


@dataclass(frozen=True, slots=True)
class GridSettings:
    """The lists that the architecture grid is the product of; ``tolerance`` is a share of the budget."""

    d_model: tuple[int, ...]
    n_layers: tuple[int, ...]
    n_heads: tuple[int, ...]
    d_ff_ratio: tuple[int, ...] = (2, 4)
    tolerance: float = 0.25

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> GridSettings:
        """Raises SettingsError naming ``grid.KEY`` for an unknown, missing or bad value."""
        return _read(cls, config, _GRID_READERS, "grid.")


@dataclass(frozen=True, slots=True)
class TargetSettings:
    """1 when the largest ``price`` over t+1 .. t+horizon reaches close_t * (1 + threshold)."""

    price: Price = "high"
    threshold: float = 0.01


@dataclass(frozen=True, slots=True)
class SplitSettings:
    """How days are dealt to train, validation and test.

    ``purge`` (days) is dropped before each border for labels that look ahead. It is one number for all horizons,
    the plan's largest, so that every horizon is judged on the same dates. ``blocks`` serves ``chunks`` only.
    """

    kind: SplitKind = "contiguous"
    train_fraction: float = 0.70
    val_fraction: float = 0.15
    purge: int = 5
    blocks: int = 5
    min_val_windows: int = 200


@dataclass(frozen=True, slots=True)
class TrialSettings:
    """Everything one trial needs. Days, not calendar days: sessions, rows of the dataset."""

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
    normalisation: Normalisation = "revin"
    target: TargetSettings = field(default_factory=TargetSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    device: DeviceRequest = "auto"
    precision: Precision = "auto"
    threads: int = 1
    compile: bool = False
    memory_limit_bytes: int | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> TrialSettings:
        """Check a flat config and freeze it.

        Raises SettingsError (a ValueError) with key, value and cure for unknown, missing or bad keys, and for
        values that are fine alone and wrong together.
        """
        settings = _read(cls, config, _READERS, "")
        _check_together(settings)
        return settings

    @property
    def budget_params(self) -> int:
        """The budget as a parameter count."""
        return parse_budget(self.budget)


def _check_together(settings: TrialSettings) -> None:
    split = settings.split
    if settings.context < settings.patch:
        raise SettingsError(
            "context",
            settings.context,
            f"shorter than one patch of {settings.patch} days",
            "Lengthen the context.",
        )
    if settings.stride > settings.patch:
        raise SettingsError(
            "stride",
            settings.stride,
            f"steps over days: a patch is {settings.patch}",
            "Take a stride <= patch.",
        )
    if split.purge < settings.horizon:
        raise SettingsError(
            "split.purge",
            split.purge,
            f"labels look {settings.horizon} days ahead",
            "Set split.purge to the plan's largest horizon; one number for all keeps their dates the same.",
        )
    if split.train_fraction + split.val_fraction >= 1:
        raise SettingsError(
            "split.train_fraction",
            split.train_fraction,
            f"with val_fraction {split.val_fraction} nothing is left for the test",
            "Let both fractions sum to less than 1.",
        )


# --- readers: one per kind of value, each raising SettingsError --------------------------------------------------

_Reader = Callable[[str, object], object]
T = TypeVar("T")


def _integer(low: int, high: int) -> _Reader:
    def read(key: str, value: object) -> int:
        whole = isinstance(value, float) and value.is_integer()
        if isinstance(value, bool) or not (isinstance(value, int) or whole) or not low <= cast(int, value) <= high:
            raise SettingsError(key, value, "not a whole number in range", f"Give one from {low} to {high}.")
        return int(cast(int, value))

    return read


def _number(low: float, high: float, *, low_open: bool = False) -> _Reader:
    def read(key: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise SettingsError(key, value, "not a finite number", f"Give one from {low:g} to {high:g}.")
        if not low <= value <= high or (low_open and value == low):
            bound = "above" if low_open else "from"
            raise SettingsError(key, value, "out of range", f"Give one {bound} {low:g} up to {high:g}.")
        return float(value)

    return read


def _choice(*allowed: str) -> _Reader:
    def read(key: str, value: object) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise SettingsError(key, value, "not a choice that exists", f"Choose one of {', '.join(allowed)}.")
        return value

    return read


def _integers(low: int, high: int) -> _Reader:
    one = _integer(low, high)

    def read(key: str, value: object) -> tuple[int, ...]:
        if isinstance(value, str) or not isinstance(value, Sequence) or not value:
            raise SettingsError(key, value, "not a list of whole numbers", f"Give some from {low} to {high}.")
        numbers = tuple(cast(int, one(key, item)) for item in value)
        if len(set(numbers)) != len(numbers):
            raise SettingsError(key, value, "a number stands there twice", "Write each once.")
        return tuple(sorted(numbers))

    return read


def _powers_of_two(key: str, value: object) -> tuple[int, ...]:
    numbers = cast(tuple[int, ...], _integers(1, 1024)(key, value))
    expected = tuple(numbers[0] << i for i in range(len(numbers)))
    if numbers[0] & (numbers[0] - 1) or numbers != expected:
        # heads_log2 is one ordinal with inclusive bounds: a gap would be a value that no architecture has.
        raise SettingsError(key, value, "not neighbouring powers of two", "Write such as [2, 4, 8, 16].")
    return numbers


def _text(key: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise SettingsError(key, value, "not a text", "Give a non-empty string.")
    return value


def _budget(key: str, value: object) -> str:
    text = _text(key, value)
    parse_budget(text)
    return text


def _boolean(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise SettingsError(key, value, "not true or false", "Write true or false.")
    return value


def _optional(reader: _Reader) -> _Reader:
    return lambda key, value: None if value is None else reader(key, value)


def _nested(cls: type, readers: Mapping[str, _Reader]) -> _Reader:
    def read(key: str, value: object) -> object:
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise SettingsError(key, value, "not a mapping", "Give it as keys and values.")
        return _read(cls, value, readers, f"{key}.")

    return read


def _read(cls: type[T], config: Mapping[str, object], readers: Mapping[str, _Reader], prefix: str) -> T:
    declared = {item.name: item for item in fields(cast(type, cls))}  # cast: fields() is typed for instances
    for key, value in config.items():
        if key not in readers:
            near = difflib.get_close_matches(str(key), readers, n=1)
            cure = f"Did you mean {prefix}{near[0]}?" if near else f"Known keys: {', '.join(sorted(readers))}."
            raise SettingsError(f"{prefix}{key}", value, "no such key", cure)
    for name, item in declared.items():
        if name not in config and item.default is MISSING and item.default_factory is MISSING:
            raise SettingsError(f"{prefix}{name}", None, "missing", "Give it in the plan.")
    return cls(**{key: readers[key](f"{prefix}{key}", value) for key, value in config.items()})


_GRID_READERS: dict[str, _Reader] = {
    "d_model": _integers(1, 65536),
    "n_layers": _integers(1, 4096),
    "n_heads": _powers_of_two,
    "d_ff_ratio": _integers(1, 16),
    "tolerance": _number(0, 1, low_open=True),
}
_TARGET_READERS: dict[str, _Reader] = {
    "price": _choice("high", "close"),
    "threshold": _number(0, 0.5, low_open=True),
}
_SPLIT_READERS: dict[str, _Reader] = {
    "kind": _choice("contiguous", "chunks"),
    "train_fraction": _number(0.05, 0.95),
    "val_fraction": _number(0.01, 0.9),
    "purge": _integer(1, 250),
    "blocks": _integer(2, 100),
    "min_val_windows": _integer(1, 10**6),
}
_READERS: dict[str, _Reader] = {
    "budget": _budget,
    "horizon": _integer(1, 250),
    "grid": _nested(GridSettings, _GRID_READERS),
    "shape_rank": _integer(0, 10**6),
    "heads_log2": _integer(0, 10),
    "learning_rate": _number(0, 10, low_open=True),
    "dataset": _text,
    "seed": _integer(0, 2**48 - 1),
    "context": _integer(2, 5000),
    "patch": _integer(1, 5000),
    "stride": _integer(1, 5000),
    "weight_decay": _number(0, 10),
    "dropout": _number(0, 0.95),
    "batch_size": _integer(1, 65536),
    "warmup_fraction": _number(0, 1),
    "gradient_clip": _number(0, 1e6, low_open=True),
    "max_epochs": _integer(1, 100_000),
    "patience": _integer(1, 100_000),
    "normalisation": _choice("revin", "zscore", "none"),
    "target": _nested(TargetSettings, _TARGET_READERS),
    "split": _nested(SplitSettings, _SPLIT_READERS),
    "device": _choice("auto", "cpu", "cuda", "mps"),
    "precision": _choice("auto", "fp32", "bf16"),
    "threads": _integer(1, 1024),
    "compile": _boolean,
    "memory_limit_bytes": _optional(_integer(1, 2**60)),
}
KNOWN_KEYS: frozenset[str] = frozenset(_READERS)
