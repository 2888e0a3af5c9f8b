"""Download daily bars by yfinance, an optional extra."""

from __future__ import annotations

import importlib
import io
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, cast

import pandas as pd

from training.errors import FetchError

TIMEOUT_S = 30.0
FIRST_DAY = "1900-01-01"


def fetch_bars(symbol: str) -> pd.DataFrame:
    """Download all daily bars of ``symbol`` from Yahoo, unadjusted.

    Raises FetchError without yfinance, without a network, or when the answer is empty.
    """
    yfinance = _yfinance()
    said = io.StringIO()
    try:
        # yfinance prints its failures and returns an empty table; its output belongs into the error.
        with redirect_stdout(said), redirect_stderr(said):
            frame = yfinance.download(
                symbol,
                start=FIRST_DAY,
                interval="1d",
                auto_adjust=False,
                actions=False,
                progress=False,
                threads=False,
                timeout=TIMEOUT_S,
                multi_level_index=False,
            )
    except Exception as error:  # yfinance raises the classes of four HTTP and parsing libraries
        raise FetchError(f"{symbol} could not be downloaded: {error}") from error
    if frame is None or len(frame) == 0:
        detail = " ".join(said.getvalue().split())[:300]
        raise FetchError(f"{symbol}: the answer is empty{': ' + detail if detail else ''}")
    return cast(pd.DataFrame, frame)


def _yfinance() -> Any:
    try:
        return importlib.import_module("yfinance")
    except ModuleNotFoundError as error:
        if error.name != "yfinance":
            raise
        raise FetchError(
            "downloading needs yfinance, which is not installed",
            "Install the extra: pip install 'sweep-supervisor[fetch]'; or import a file; or `supervisord data sample`.",
        ) from None
