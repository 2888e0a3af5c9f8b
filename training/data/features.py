"""Compute the columns of a feature tier by TA-Lib: indicators of one ticker, or the same in a stationary form.

Each value at day t uses days up to t only. A weekly value is known once its week has ended: on its Friday or, if that
is not a session, on the next session. So cutting off the future changes no past row.
Change FEATURE_VERSION whenever a value or a tier changes: it is part of every dataset's manifest.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import talib
from numpy.typing import NDArray

from training.data.tiers import BAR_COLUMNS, LEAST, TIERS, VIX_COLUMNS
from training.errors import TrainingError

FEATURE_VERSION = 2
# Since VIX exists, the exchange was never closed for longer than 7 days (September 2001).
MAX_VIX_AGE_DAYS = 10

VOLUME_DAYS = 20
REALISED_DAYS = (5, 20, 60)

Series = NDArray[np.float64]


def compute_features(bars: pd.DataFrame, tier: str, vix: pd.DataFrame | None = None) -> pd.DataFrame:
    """Compute the columns of ``tier`` for each day of ``bars``.

    ``bars`` has a sorted DatetimeIndex of n days and open, high, low, close, volume. The result has n rows and the
    same index; rows of the warm-up (199 days for sma_200) hold NaN. Raises TrainingError for an unknown tier, bars
    without volume, and the VIX tier without VIX bars or with a hole in them longer than MAX_VIX_AGE_DAYS.
    """
    if tier not in TIERS:
        raise TrainingError(f"there is no feature tier {tier!r}", f"Choose one of {', '.join(TIERS)}.")
    if "volume" not in bars.columns:
        raise TrainingError(
            "these bars have no volume, which obv, adosc and vwap_20 need",
            "Import a file with a volume column; an index without volume, such as ^VIX, is for the VIX tier only.",
        )
    columns: dict[str, Series] = {name: bars[name].to_numpy(np.float64) for name in BAR_COLUMNS}
    columns.update(_daily(columns))
    columns.update(_weekly(columns["close"], pd.DatetimeIndex(bars.index)))
    if tier.endswith("_vix"):
        if vix is None:
            raise TrainingError(f"tier {tier} needs VIX bars", "Import them first, as ticker ^VIX.")
        columns.update(_vix(pd.DatetimeIndex(bars.index), vix))
    if tier.startswith("s"):
        columns.update(_stationary(columns))
    return pd.DataFrame({name: columns[name] for name in TIERS[tier]}, index=bars.index)


def _daily(bars: dict[str, Series]) -> dict[str, Series]:
    high, low, close, volume = (bars[name] for name in ("high", "low", "close", "volume"))
    upper, _, lower = talib.BBANDS(close, timeperiod=20, nbdevup=2.0, nbdevdn=2.0)
    return {
        **{f"dema_{n}": talib.DEMA(close, timeperiod=n) for n in (9, 10, 20, 25, 90)},
        **{f"sma_{n}": talib.SMA(close, timeperiod=n) for n in (12, 50, 100, 200)},
        "rsi_daily": talib.RSI(close, timeperiod=14),
        "stochrsi_daily": _stochastic_rsi(close),
        "macd_line": talib.MACD(close, fastperiod=12, slowperiod=26, signalperiod=9)[0],
        "obv": talib.OBV(close, volume),
        "adosc": talib.ADOSC(high, low, close, volume, fastperiod=3, slowperiod=10),
        "atr_14": talib.ATR(high, low, close, timeperiod=14),
        "adx_14": talib.ADX(high, low, close, timeperiod=14),
        "bb_percent_b": _ratio(close - lower, upper - lower, flat=0.5),
        "vwap_20": _rolling_vwap(high, low, close, volume, days=20),
    }


def _stationary(columns: dict[str, Series]) -> dict[str, Series]:
    """Relate each column that grows with the price to the close, and each that grows with the volume to its mean."""
    close, volume = columns["close"], columns["volume"]
    returns = np.concatenate([[np.nan], np.diff(np.log(close))])
    traded = _rolling(volume, VOLUME_DAYS, np.mean)
    signed = _rolling(np.sign(returns) * volume, VOLUME_DAYS, np.sum)  # the change of OBV
    averages = [name for name in columns if name.startswith(("dema_", "sma_", "vwap_"))]
    found = {
        **{f"{name}_ratio": _log(columns[name] / close) for name in ("open", "high", "low", *averages)},
        "return_1": returns,
        "volume_ratio": _ratio(volume, traded, flat=1.0),
        "macd_ratio": columns["macd_line"] / close,
        "obv_ratio": _ratio(signed, VOLUME_DAYS * traded, flat=0.0),
        "adosc_ratio": _ratio(columns["adosc"], traded, flat=0.0),
        "atr_14_log": _log(columns["atr_14"] / close),
        **{f"realised_{days}": _log(np.sqrt(_rolling(returns**2, days, np.mean))) for days in REALISED_DAYS},
    }
    if "vix_close" in columns:
        found["vix_log"] = _log(columns["vix_close"])
        found["vix_sma_20_ratio"] = _log(columns["vix_sma_20"] / columns["vix_close"])
    return found


def _stochastic_rsi(close: Series) -> Series:
    """Compute %K of the stochastic RSI, 0 to 100: RSI 14, range 14, mean of 3 (Chande and Kroll, 1994)."""
    rsi = talib.RSI(close, timeperiod=14)
    lowest, highest = _rolling(rsi, 14, np.min), _rolling(rsi, 14, np.max)
    return 100.0 * _rolling(_ratio(rsi - lowest, highest - lowest, flat=0.5), 3, np.mean)


def _rolling_vwap(high: Series, low: Series, close: Series, volume: Series, days: int) -> Series:
    typical = (high + low + close) / 3
    traded = _rolling(volume, days, np.sum)
    weighted = _ratio(_rolling(typical * volume, days, np.sum), traded, flat=np.nan)
    # A span without trades has no weights: use the plain mean, which equal weights would give.
    return np.where(traded == 0, _rolling(typical, days, np.mean), weighted)


def _weekly(close: Series, dates: pd.DatetimeIndex) -> dict[str, Series]:
    week = dates.to_period("W-FRI")
    friday = week.end_time.normalize()
    last_of_week = pd.Series(close, index=week).groupby(level=0).last()
    position = last_of_week.index.get_indexer(week)
    # A row's own week is known on its Friday only; before that the last known week is the one before.
    known = np.where(dates.normalize() == friday, position, position - 1)
    weekly_close: Series = np.asarray(last_of_week, dtype=np.float64)
    values = {
        "rsi_weekly": talib.RSI(weekly_close, timeperiod=14),
        "stochrsi_weekly": _stochastic_rsi(weekly_close),
    }
    return {name: np.where(known >= 0, series[np.maximum(known, 0)], np.nan) for name, series in values.items()}


def _vix(dates: pd.DatetimeIndex, vix: pd.DataFrame) -> dict[str, Series]:
    close = vix["close"].to_numpy(np.float64)
    frame = pd.DataFrame(
        {
            "vix_close": close,
            "vix_sma_20": talib.SMA(close, timeperiod=20),
            "vix_change_5": talib.ROC(close, timeperiod=5),
        },
        index=pd.DatetimeIndex(vix.index),
    )
    # VIX settles a quarter of an hour after the shares close, so only the session before is surely known.
    position = frame.index.searchsorted(dates, side="left") - 1
    latest = frame.index[np.maximum(position, 0)]
    stale = (position >= 0) & (dates - latest > pd.Timedelta(days=MAX_VIX_AGE_DAYS))
    if stale.any():
        row = int(np.argmax(stale))
        raise TrainingError(
            f"VIX is {(dates[row] - latest[row]).days} days old on {dates[row]:%Y-%m-%d}: its last bar before is of "
            f"{latest[row]:%Y-%m-%d}",
            "Import VIX bars without holes, up to the last day of the shares.",
        )
    return {
        name: np.where(position >= 0, frame[name].to_numpy(np.float64)[np.maximum(position, 0)], np.nan)
        for name in VIX_COLUMNS
    }


def _rolling(values: Series, days: int, reduce: Callable[..., Series]) -> Series:
    """Apply ``reduce`` to each day and the ``days`` - 1 before it; NaN where one of them is missing."""
    result = np.full(len(values), np.nan)
    if len(values) >= days:
        result[days - 1 :] = reduce(np.lib.stride_tricks.sliding_window_view(values, days), axis=1)
    return result


def _log(values: Series) -> Series:
    """Return the natural logarithm of at least LEAST; NaN stays NaN."""
    return np.log(np.maximum(values, LEAST))


def _ratio(numerator: Series, denominator: Series, flat: float) -> Series:
    """Divide elementwise; return ``flat`` where the denominator is 0 (a span without movement)."""
    zero = denominator == 0
    return np.where(zero, flat, numerator / np.where(zero, 1.0, denominator))
