"""Keep the data folder: build datasets from imported bars, list and verify both.

    DATA_DIR/raw/TICKER.parquet + .json            bars as imported, checked
    DATA_DIR/processed/TICKER_dataset_TIER.parquet + .json   features, ready to train on
Each file is written whole before its manifest names it; a file without a manifest is unregistered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from training.atomic_file import write_atomically
from training.data.bars import MIN_ROWS
from training.data.features import FEATURE_VERSION, compute_features
from training.data.imports import iso_day, parquet_bytes
from training.data.manifest import (
    Manifest,
    ProcessedManifest,
    dataset_path,
    manifest_path,
    raw_path,
    read_manifest,
    read_raw_manifest,
    sha256_of,
    ticker_stem,
    write_manifest,
)
from training.data.windows import default_zscore
from training.errors import DatasetError, SettingsError, SplitError, TrainingError

VIX_TICKER = "^VIX"

Problem = Literal["missing", "changed", "unregistered", "unreadable", "outdated"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault that ``verify`` found: the file, the kind of fault, the details."""

    path: Path
    problem: Problem
    detail: str


def build_dataset(ticker: str, tier: str, data_dir: Path) -> ProcessedManifest:
    """Compute the features of ``tier`` for a registered ticker and write TICKER_dataset_TIER.parquet.

    Days on which an indicator still warms up are left out. Raises DatasetError for a ticker that is not registered
    or has changed, TrainingError for an unknown tier or missing volume.
    """
    raw = _registered_bars(ticker, data_dir)
    extra = {}
    sources = [read_raw_manifest(raw_path(data_dir, ticker))]
    vix = None
    if tier.endswith("_vix"):
        vix = _registered_bars(VIX_TICKER, data_dir)
        sources.append(read_raw_manifest(raw_path(data_dir, VIX_TICKER)))
        extra = {"VIX": sources[1].sha256}
    features = compute_features(raw, tier, vix)
    frame = _complete_rows(raw.join(features[[c for c in features.columns if c not in raw.columns]]), ticker)
    names = tuple(str(name) for name in features.columns)
    path = dataset_path(data_dir, ticker, tier)
    content = parquet_bytes(frame)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(path, content)
    manifest = ProcessedManifest(
        ticker=ticker_stem(ticker),
        tier=tier,
        file=path.name,
        sha256=sha256_of(path),
        rows=len(frame),
        first_date=iso_day(frame.index[0]),
        last_date=iso_day(frame.index[-1]),
        columns=tuple(str(name) for name in frame.columns),
        features=names,
        feature_version=FEATURE_VERSION,
        source=raw_path(data_dir, ticker).name,
        source_sha256=sources[0].sha256,
        extra_sources=extra,
        zscore=_zscore_or_none(frame, names),
        doubts=tuple(f"{source.ticker}: {doubt}" for source in sources for doubt in source.doubts),
        accepted="; ".join(f"{source.ticker}: {source.accepted}" for source in sources if source.accepted) or None,
    )
    write_manifest(manifest, manifest_path(path))
    return manifest


def list_data(data_dir: Path) -> list[Manifest]:
    """List the manifests of all registered data, raw first. Raises DatasetError at a damaged manifest."""
    raw = [read_raw_manifest(path) for path in sorted((data_dir / "raw").glob("*.json"))]
    processed = [read_manifest(path) for path in sorted((data_dir / "processed").glob("*.json"))]
    return [*raw, *processed]


def verify(data_dir: Path) -> list[Finding]:
    """Find the files that are missing, changed, unregistered, unreadable or built from older data."""
    return [finding for part in ("raw", "processed") for finding in _verify_part(data_dir / part, data_dir)]


def _verify_part(folder: Path, data_dir: Path) -> Iterator[Finding]:
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.suffix == ".json":
            yield from _verify_registered(path, data_dir)
        elif path.suffix != ".parquet" or not manifest_path(path).exists():
            yield Finding(path, "unregistered", "it has no manifest")


def _verify_registered(path: Path, data_dir: Path) -> Iterator[Finding]:
    data_file = path.with_suffix(".parquet")
    try:
        manifest: Manifest = read_raw_manifest(path) if path.parent.name == "raw" else read_manifest(path)
    except DatasetError as error:
        yield Finding(path, "unreadable", str(error))
        return
    if not data_file.is_file():
        yield Finding(data_file, "missing", f"its manifest is {path.name}")
    elif sha256_of(data_file) != manifest.sha256:
        yield Finding(data_file, "changed", "its SHA-256 differs from the manifest's")
    elif isinstance(manifest, ProcessedManifest):
        yield from _verify_sources(data_file, manifest, data_dir)


def _verify_sources(data_file: Path, manifest: ProcessedManifest, data_dir: Path) -> Iterator[Finding]:
    if manifest.feature_version != FEATURE_VERSION:
        yield Finding(data_file, "outdated", f"features of version {manifest.feature_version}, now {FEATURE_VERSION}")
    for name, digest in ((manifest.source, manifest.source_sha256), *manifest.extra_sources.items()):
        source = data_dir / "raw" / f"{Path(name).stem}.parquet"
        if source.is_file() and sha256_of(source) != digest:
            yield Finding(data_file, "outdated", f"built from an earlier {source.name}; build it again")


def _registered_bars(ticker: str, data_dir: Path) -> pd.DataFrame:
    path = raw_path(data_dir, ticker)
    if not path.exists():
        raise DatasetError(
            f"{ticker_stem(ticker)} is not imported: expected {path}",
            f"Run `supervisord data import FILE --ticker {ticker_stem(ticker)}`, or `supervisord data fetch`.",
        )
    if sha256_of(path) != read_raw_manifest(path).sha256:
        raise DatasetError(f"{path} has changed since it was imported")
    return pd.read_parquet(path)


def _complete_rows(frame: pd.DataFrame, ticker: str) -> pd.DataFrame:
    """Return the rows after the warm-up. A later hole is an error, since windows would span it."""
    complete = frame.notna().all(axis=1).to_numpy()
    if not complete.any():
        raise TrainingError(
            f"{ticker}: {len(frame)} days are too few for the indicators' warm-up of about 200",
            "Import a longer history.",
        )
    rest = frame.iloc[int(np.argmax(complete)) :]
    if rest.isna().to_numpy().any():
        column = rest.columns[int(np.argmax(rest.isna().any(axis=0).to_numpy()))]
        day = iso_day(rest.index[int(np.argmax(rest[column].isna().to_numpy()))])
        raise TrainingError(f"{ticker}: feature {column} has no value on {day}", "Look at the bars before that day.")
    if len(rest) < MIN_ROWS:
        raise TrainingError(
            f"{ticker}: expected at least {MIN_ROWS} days after the indicators' warm-up, found {len(rest)}",
            "Import a longer history.",
        )
    return rest


def _zscore_or_none(frame: pd.DataFrame, features: tuple[str, ...]) -> dict[str, object] | None:
    try:
        return default_zscore(frame, features)
    except (SplitError, SettingsError):
        # Data too short for the default split are valid: a plan may split them otherwise. A tier that grows with the
        # price has no zscore.
        return None
