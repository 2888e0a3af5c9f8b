"""Read and write manifests: a JSON file beside each data file with its description and checksum.

Standard library only, so that a dry run can read a dataset's ``num_features`` without loading pandas.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from training.atomic_file import write_atomically
from training.errors import DatasetError, TrainingError

SCHEMA = 1
MAX_MANIFEST_BYTES = 4 * 2**20
_TICKER = re.compile(r"\^?[A-Z0-9][A-Z0-9._=-]{0,15}")


@dataclass(frozen=True, slots=True)
class RawManifest:
    """The imported daily bars of one ticker, in ``raw/TICKER.parquet``.

    Dates are ISO days. ``missing_sessions`` and ``extra_days`` compare with the exchange's calendar; None without a
    calendar. The lists hold the first 50 of each; the counts are complete. ``read_as`` says how the file was
    understood, ``doubts`` what in the series may be wrong, ``accepted`` the user's reason to take it all the same.
    """

    ticker: str
    symbol: str
    file: str
    sha256: str
    rows: int
    first_date: str
    last_date: str
    columns: tuple[str, ...]
    source: str
    source_sha256: str | None
    imported_at: str
    ignored_columns: tuple[str, ...] = ()
    calendar: str | None = None
    missing_sessions: int | None = None
    missing_dates: tuple[str, ...] = ()
    extra_days: int | None = None
    extra_dates: tuple[str, ...] = ()
    read_as: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    accepted: str | None = None
    kind: Literal["raw"] = "raw"
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True)
class ProcessedManifest:
    """A dataset for training: the features of one tier, computed from one raw file.

    ``features`` are the model's inputs in order. ``zscore`` holds mean and deviation of each over the train rows of
    the default split, for a stationary tier; a trial with another split fits its own and records them. ``doubts`` and
    ``accepted`` are those of the raw files.
    """

    ticker: str
    tier: str
    file: str
    sha256: str
    rows: int
    first_date: str
    last_date: str
    columns: tuple[str, ...]
    features: tuple[str, ...]
    feature_version: int
    source: str
    source_sha256: str
    extra_sources: Mapping[str, str] = field(default_factory=dict)
    zscore: Mapping[str, object] | None = None
    doubts: tuple[str, ...] = ()
    accepted: str | None = None
    kind: Literal["processed"] = "processed"
    schema: int = SCHEMA

    @property
    def num_features(self) -> int:
        """Return the model's input width."""
        return len(self.features)


Manifest = RawManifest | ProcessedManifest
M = TypeVar("M", RawManifest, ProcessedManifest)


def ticker_stem(ticker: str) -> str:
    """Return the file name of a ticker: upper case, without Yahoo's index caret ("^vix" -> "VIX").

    Raises TrainingError for any other name, so that no name can become a path.
    """
    upper = ticker.strip().upper()
    if not _TICKER.fullmatch(upper) or ".." in upper:
        raise TrainingError(
            f"{ticker!r} is not a ticker", "Use letters, digits and . _ = - (16 at most), such as SPY or ^VIX."
        )
    return upper.removeprefix("^")


def dataset_path(data_dir: Path, ticker: str, tier: str = "a25") -> Path:
    """Return the path of a ticker's processed dataset."""
    return data_dir / "processed" / f"{ticker_stem(ticker)}_dataset_{tier}.parquet"


def raw_path(data_dir: Path, ticker: str) -> Path:
    """Return the path of a ticker's imported bars."""
    return data_dir / "raw" / f"{ticker_stem(ticker)}.parquet"


def manifest_path(data_file: Path) -> Path:
    """Return the path of a data file's manifest: the same name with .json."""
    return data_file.with_suffix(".json")


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_manifest(path: Path) -> ProcessedManifest:
    """Read the manifest of a processed dataset; ``path`` is the dataset or its manifest.

    Raises DatasetError when it is missing, too large, not JSON, of another schema, or not of a processed dataset.
    """
    return _load(manifest_path(path), ProcessedManifest)


def read_raw_manifest(path: Path) -> RawManifest:
    """Read the manifest of imported bars. Raises as ``read_manifest``."""
    return _load(manifest_path(path), RawManifest)


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write a manifest atomically."""
    write_atomically(path, (json.dumps(asdict(manifest), indent=2, sort_keys=True) + "\n").encode())


def _load(path: Path, cls: type[M]) -> M:
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise DatasetError(f"{path} is too large to be a manifest")
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DatasetError(f"{path} does not exist: this dataset is not registered") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    return _from_content(path, content, cls)


def _from_content(path: Path, content: object, cls: type[M]) -> M:
    if not isinstance(content, dict):
        raise DatasetError(f"{path} is not a manifest")
    kind = cls.__dataclass_fields__["kind"].default
    if content.get("schema") != SCHEMA or content.get("kind") != kind:
        found = f"schema {content.get('schema')!r}, kind {content.get('kind')!r}"
        raise DatasetError(f"{path}: expected schema {SCHEMA}, kind {kind!r}, found {found}")
    known = {item.name for item in fields(cls)}
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in content.items()}
    try:
        manifest = cls(**values)
    except TypeError:
        wrong = ", ".join(sorted(known ^ set(values)))
        raise DatasetError(f"{path} has missing or unknown keys: {wrong}") from None
    if not isinstance(manifest.rows, int) or not isinstance(manifest.sha256, str):
        raise DatasetError(f"{path}: rows or sha256 have the wrong type")
    return manifest
