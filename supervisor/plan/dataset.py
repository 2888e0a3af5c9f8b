"""Chooses the dataset of a plan: the imported ticker if there is one, else the embedded sample.

Standard library at import; pandas is loaded only to build a missing dataset.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from supervisor.errors import DataMissing, SweepError
from supervisor.plan.schema import Data

if TYPE_CHECKING:
    from supervisor.plan.expansion import ExperimentSpec
    from training.data.blocks import Block

SAMPLE_TICKER = "SP500"


@dataclass(frozen=True)
class DatasetChoice:
    """The dataset of the trials. `path` is the processed file; dates are ISO days."""

    path: str
    ticker: str
    tier: str
    sha256: str
    rows: int
    first_date: str
    last_date: str
    num_features: int
    is_fallback: bool
    wanted: str
    doubts: tuple[str, ...] = ()

    def sentence(self) -> str:
        """Describe the dataset, in capitals where it is not the one that the plan names."""
        what = f"{self.ticker}, {self.rows} days from {self.first_date} to {self.last_date}, {self.num_features} inputs"
        doubts = "".join(f"\n      {doubt}" for doubt in self.doubts)
        if not self.is_fallback:
            return f"data: {what}{doubts}"
        return (
            f"DATA: THE EMBEDDED SAMPLE, NOT {self.wanted}: {what}\n"
            f"      for {self.wanted} itself: supervisord data import FILE --ticker {self.wanted}{doubts}"
        )


def choose_dataset(data: Data, data_dir: Path) -> DatasetChoice:
    """Choose the plan's dataset or the sample, and build it if only its raw file is there.

    Raises DataMissing, or an error of the training room for broken files.
    """
    from training.data.manifest import dataset_path, raw_path

    if dataset_path(data_dir, data.ticker, data.tier).exists() or raw_path(data_dir, data.ticker).exists():
        return _choice(data, data.ticker, data_dir)
    if data.ticker != SAMPLE_TICKER and data.fallback != "sample":
        raise DataMissing(f"no data of {data.ticker} in {data_dir}")
    return _choice(data, SAMPLE_TICKER, data_dir)


def _choice(data: Data, ticker: str, data_dir: Path) -> DatasetChoice:
    from training.data.manifest import dataset_path, raw_path, read_manifest

    path = dataset_path(data_dir, ticker, data.tier)
    if not path.exists():
        from training.data.dataset_files import build_dataset
        from training.data.imports import import_sample

        if not raw_path(data_dir, ticker).exists():
            import_sample(data_dir)
        build_dataset(ticker, data.tier, data_dir)
    manifest = read_manifest(path)
    accepted = [] if manifest.accepted is None else [f"accepted: {manifest.accepted}"]
    return DatasetChoice(
        path=str(path),
        ticker=ticker,
        tier=data.tier,
        sha256=manifest.sha256,
        rows=manifest.rows,
        first_date=manifest.first_date,
        last_date=manifest.last_date,
        num_features=manifest.num_features,
        is_fallback=ticker != data.ticker,
        wanted=data.ticker,
        doubts=(*(f"doubt: {doubt}" for doubt in manifest.doubts), *accepted),
    )


def blocks_of(spec: ExperimentSpec, rows: int) -> list[Block]:
    """Lay out a history of `rows` days for `patchtst`. Raises the training room's SplitError if it is too short."""
    from training.data.blocks import lay_out
    from training.settings import SplitSettings, TrialSettings

    context: Any = spec.config.get("context", TrialSettings.__dataclass_fields__["context"].default)
    split: Any = spec.config.get("split", {})
    return lay_out(rows, int(context), SplitSettings.from_config(split))


T = TypeVar("T")


def with_training_errors(work: Callable[[], T]) -> T:
    """Run `work` and turn the training room's errors, which know no exit codes, into ours."""
    from training.errors import TrainingError

    try:
        return work()
    except TrainingError as error:
        raise SweepError(str(error), remedy=getattr(error, "remedy", None)) from error
