"""Import daily bars of a file, a download or the embedded sample: check them, doubt them, register them.

A file of bars is written whole before its manifest names it. An import that is refused changes nothing.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from arch.data import nasdaq, sp500

from training.atomic_file import write_atomically
from training.data.bars import Bars, Loose, check_bars, read_bars
from training.data.exchange import DEFAULT_CALENDAR, SessionGaps, compare_sessions
from training.data.fetch import fetch_bars
from training.data.manifest import RawManifest, manifest_path, raw_path, sha256_of, ticker_stem, write_manifest
from training.data.plausibility import doubts_about
from training.errors import BadFile, TrainingError

SAMPLES = {"SP500": sp500, "NASDAQ": nasdaq}
MAX_LISTED_DATES = 50
MAX_REASON = 200
# Yahoo's caret marks an index.
INDEX_MARK = "^"


@dataclass(frozen=True, slots=True)
class _Request:
    """The bars to register: ticker, folder, calendar, and the reason to take them where they are doubtful."""

    ticker: str
    data_dir: Path
    calendar: str | None
    accept: str | None = None
    now: datetime | None = None

    @property
    def is_index(self) -> bool:
        return self.ticker.strip().startswith(INDEX_MARK)

    @property
    def loose(self) -> Loose:
        """Return which bars outside their own range may stay: an index's open often comes from another source."""
        return "few" if self.accept is not None else "open" if self.is_index else "refused"


def import_file(
    path: Path,
    ticker: str,
    data_dir: Path,
    *,
    calendar: str | None = DEFAULT_CALENDAR,
    accept: str | None = None,
    now: datetime | None = None,
) -> RawManifest:
    """Check a CSV or parquet file of daily bars and register it as the raw data of ``ticker``.

    It replaces earlier data of the ticker. ``accept`` is the reason to take bars whose labels look wrong. Raises
    BadFile (nothing is changed), or TrainingError for a bad ticker or reason.
    """
    request = _request(ticker, data_dir, calendar, accept, now)
    bars = read_bars(path, ticker=ticker, loose=request.loose)
    return _register(bars, request, path, f"file {path.name}", sha256_of(path))


def import_fetched(
    ticker: str,
    data_dir: Path,
    *,
    calendar: str | None = DEFAULT_CALENDAR,
    accept: str | None = None,
    now: datetime | None = None,
) -> RawManifest:
    """Download and register daily bars. Raises FetchError, or BadFile when the downloaded bars are not valid."""
    request = _request(ticker, data_dir, calendar, accept, now)
    path = Path(f"yahoo:{ticker}")
    bars = check_bars(fetch_bars(ticker), path, ticker=ticker, loose=request.loose)
    return _register(bars, request, path, f"yfinance {ticker}", None)


def import_sample(data_dir: Path, *, now: datetime | None = None) -> list[RawManifest]:
    """Register the S&P 500 and NASDAQ daily bars, 1999 to 2018, that ship inside the ``arch`` package."""
    manifests = []
    for ticker, module in SAMPLES.items():
        path = Path(f"arch.data.{module.__name__.rsplit('.', 1)[-1]}")
        request = _Request(ticker, data_dir, DEFAULT_CALENDAR, now=now)
        manifests.append(_register(check_bars(module.load(), path), request, path, f"package {path}", None))
    return manifests


def _request(ticker: str, data_dir: Path, calendar: str | None, accept: str | None, now: datetime | None) -> _Request:
    ticker_stem(ticker)
    if accept is not None:
        accept = " ".join(accept.split())
        if not 0 < len(accept) <= MAX_REASON or not accept.isprintable():
            raise TrainingError(
                f"expected a reason of 1 to {MAX_REASON} printable characters, found {accept[:40]!r}",
                'Say why these bars are right, such as --accept "fell by half on that day, no split".',
            )
    return _Request(ticker, data_dir, calendar, accept, now)


def _checked_doubts(
    bars: Bars, request: _Request, gaps: SessionGaps | None, path: Path
) -> tuple[list[str], str | None]:
    """Return the doubts, and the accepted reason if one was needed. Raises BadFile where one is needed and missing."""
    doubts = doubts_about(bars, gaps, is_index=request.is_index)
    heavy = [doubt for doubt in doubts if doubt.wrong_labels]
    if heavy and request.accept is None:
        remedy = f"{heavy[0].remedy} Or, if the bars are right as they are, say why: --accept REASON."
        raise BadFile(path, None, "labels would be wrong: " + "; ".join(doubt.text for doubt in heavy), remedy)
    return [doubt.text for doubt in doubts], request.accept if heavy or bars.loose else None


def _register(bars: Bars, request: _Request, origin: Path, source: str, source_sha256: str | None) -> RawManifest:
    days = pd.DatetimeIndex(bars.table.index)
    gaps = None if request.calendar is None else compare_sessions(days, request.calendar)
    doubts, accepted = _checked_doubts(bars, request, gaps, origin)
    path = raw_path(request.data_dir, request.ticker)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(path, parquet_bytes(bars.table))
    manifest = RawManifest(
        ticker=ticker_stem(request.ticker),
        symbol=request.ticker.strip().upper(),
        file=path.name,
        sha256=sha256_of(path),
        rows=len(bars.table),
        first_date=iso_day(bars.table.index[0]),
        last_date=iso_day(bars.table.index[-1]),
        columns=tuple(str(name) for name in bars.table.columns),
        source=source,
        source_sha256=source_sha256,
        imported_at=(request.now or datetime.now(UTC)).isoformat(timespec="seconds"),
        ignored_columns=bars.ignored_columns,
        calendar=request.calendar,
        missing_sessions=None if gaps is None else len(gaps.missing),
        missing_dates=() if gaps is None else gaps.missing[:MAX_LISTED_DATES],
        extra_days=None if gaps is None else len(gaps.extra),
        extra_dates=() if gaps is None else gaps.extra[:MAX_LISTED_DATES],
        read_as=bars.read_as,
        doubts=tuple(doubts),
        accepted=accepted,
    )
    write_manifest(manifest, manifest_path(path))
    return manifest


def parquet_bytes(frame: pd.DataFrame) -> bytes:
    """Return a table as the content of a parquet file."""
    stream = io.BytesIO()
    frame.to_parquet(stream)
    return stream.getvalue()


def iso_day(day: object) -> str:
    """Return a day as 2020-01-31."""
    return str(pd.Timestamp(str(day)).date())
