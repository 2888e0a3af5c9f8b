"""Features use no future days: cutting them off changes no past row; a weekly value waits for the end of its week."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.bars import read_bars
from training.data.features import compute_features
from training.data.tiers import BAR_COLUMNS, INDICATORS, LEVELS, TIERS
from training.errors import TrainingError

BARS = read_bars(Path(__file__).parents[1] / "data" / "bars.csv").table
VIX = (BARS[["open", "high", "low", "close"]] / 5).round(2)
WHOLE = compute_features(BARS, "a25_vix", VIX)
STATIONARY = compute_features(BARS, "s28_vix", VIX)
WIDEST = {"a25": WHOLE, "s28": STATIONARY}
"""The tiers, each with all its columns: the others are parts of these."""


@pytest.mark.parametrize("tier", WIDEST)
@given(cut=st.integers(1, len(BARS)))
def test_cutting_off_the_future_changes_no_past_row_of_any_feature(tier: str, cut: int) -> None:
    last = BARS.index[cut - 1]
    past = compute_features(BARS.iloc[:cut], f"{tier}_vix", VIX[VIX.index <= last])
    pd.testing.assert_frame_equal(past, WIDEST[tier].iloc[:cut], check_exact=True, check_freq=False)


@pytest.mark.parametrize("tier", WIDEST)
@given(cut=st.integers(300, len(BARS) - 1), factor=st.floats(0.2, 5.0))
def test_another_future_changes_no_past_row_of_any_feature(tier: str, cut: int, factor: float) -> None:
    other = BARS.copy()
    other.iloc[cut:] = other.iloc[cut:] * factor
    past = compute_features(other, tier).iloc[:cut]
    pd.testing.assert_frame_equal(past, WIDEST[tier][list(TIERS[tier])].iloc[:cut], check_exact=True)


@pytest.mark.parametrize("tier", WIDEST)
def test_each_feature_moves_when_its_own_day_moves(tier: str) -> None:
    """Each feature must use its own day: one that ignored it would pass any test for leakage."""
    friday = next(i for i in range(700, len(BARS)) if BARS.index[i].day_of_week == 4)
    other = BARS.copy()
    other.iloc[friday] *= [1.0, 1.2, 0.8, 1.1, 3.0]
    changed = compute_features(other, tier).iloc[friday] != WIDEST[tier][list(TIERS[tier])].iloc[friday]
    unmoved = set(changed.index[~changed])
    assert unmoved <= {"open", "stochrsi_daily", "stochrsi_weekly"}  # a stochastic may stay at its bound


def test_a_weekly_value_is_constant_from_friday_to_the_next_friday() -> None:
    weekly = WHOLE["rsi_weekly"].dropna()
    weekdays = weekly.index.day_of_week
    moved = weekly.diff().fillna(0) != 0
    # Only a Friday brings news, or the first session after a Friday that was none.
    for position in np.flatnonzero(moved):
        day = weekly.index[position]
        previous = weekly.index[position - 1]
        new_week = day.to_period("W-FRI") != previous.to_period("W-FRI")
        assert weekdays[position] == 4 or (new_week and previous.day_of_week != 4)
    assert moved.sum() > 50


def test_the_bars_contain_a_week_without_its_friday() -> None:
    weeks = BARS.groupby(BARS.index.to_period("W-FRI")).apply(lambda week: (week.index.day_of_week == 4).any())
    assert not weeks.iloc[:-1].all()


def test_a_weeks_value_is_known_after_a_missing_friday_on_the_next_session() -> None:
    fridays = [i for i in range(500, len(BARS) - 1) if BARS.index[i].day_of_week == 4][::20]
    bars = BARS.drop(index=BARS.index[fridays])
    usual = compute_features(bars, "a25")["rsi_weekly"]
    for gone, friday in enumerate(fridays):
        thursday = friday - gone - 1  # each Friday left out before this one has moved the rows up by one
        other = bars.copy()
        other.iloc[thursday] *= [1.0, 1.3, 1.0, 1.25, 1.0]
        moved = compute_features(other, "a25")["rsi_weekly"] != usual
        assert not moved.iloc[300 : thursday + 1].any()
        assert moved.iloc[thursday + 1]


def test_vix_of_the_same_day_is_not_used() -> None:
    day = 600
    other = VIX.copy()
    other.iloc[day] *= 2
    moved = (compute_features(BARS, "a25_vix", other) != WHOLE).any(axis=1)
    # The rows behind day 600 differ from WHOLE also where NaN meets NaN; compare only from there on.
    assert not moved.iloc[300 : day + 1].any()
    assert moved.iloc[day + 1]


@pytest.mark.parametrize("kept", [slice(0, 600), [*range(300), *range(320, len(BARS))]])
def test_vix_that_ended_or_has_a_hole_is_refused(kept: Any) -> None:
    last = VIX.index[599 if isinstance(kept, slice) else 299]
    with pytest.raises(TrainingError, match=f"its last bar before is of {last:%Y-%m-%d}"):
        compute_features(BARS, "a25_vix", VIX.iloc[kept])


@pytest.mark.parametrize("tier", WIDEST)
def test_warm_up_lasts_199_days_and_no_hole_follows(tier: str) -> None:
    """So every tier has the same days, and their losses can be compared."""
    complete = WIDEST[tier].notna().all(axis=1).to_numpy()
    first = int(np.argmax(complete))
    assert first == 199
    assert complete[first:].all()


def test_indicators_agree_with_their_textbook_formulas() -> None:
    close, volume = BARS["close"], BARS["volume"]
    typical = (BARS["high"] + BARS["low"] + close) / 3
    expected = {
        "sma_50": close.rolling(50).mean(),
        "sma_200": close.rolling(200).mean(),
        "vwap_20": (typical * volume).rolling(20).sum() / volume.rolling(20).sum(),
        "macd_line": close.ewm(span=12, adjust=False).mean() - close.ewm(span=26, adjust=False).mean(),
        "obv": (np.sign(close.diff()).fillna(1.0) * volume).cumsum(),
        "bb_percent_b": (close - close.rolling(20).mean() + 2 * close.rolling(20).std(ddof=0))
        / (4 * close.rolling(20).std(ddof=0)),
    }
    for name, values in expected.items():
        # Recursive averages start differently; 400 days later nothing of that is left.
        np.testing.assert_allclose(WHOLE[name].iloc[600:], values.iloc[600:], rtol=1e-6, atol=1e-6, err_msg=name)


def test_bounded_indicators_stay_in_their_bounds() -> None:
    for name in ("rsi_daily", "rsi_weekly", "stochrsi_daily", "stochrsi_weekly", "adx_14"):
        assert WHOLE[name].dropna().between(-1e-9, 100 + 1e-9).all(), name


def test_a_flat_market_has_features_without_holes() -> None:
    flat = BARS.copy()
    flat[["open", "high", "low", "close"]] = 100.0
    flat["volume"] = 0.0
    features = compute_features(flat, "a25")
    assert features.iloc[250:].notna().all(axis=None)
    assert (features["bb_percent_b"].iloc[250:] == 0.5).all()
    assert (features["vwap_20"].iloc[250:] == 100.0).all()


@pytest.mark.parametrize("fall", [1.0, 0.01])
def test_stationary_features_have_no_hole_in_a_market_that_stands_still_or_falls_by_99_percent(fall: float) -> None:
    """After such a fall a double exponential average overshoots below zero, which has no logarithm."""
    bars = BARS.copy()
    bars[["open", "high", "low", "close"]] = 100.0
    bars.iloc[450:, :4] *= fall
    bars.iloc[300:400, 4] = 0.0
    features = compute_features(bars, "s28").iloc[250:]
    assert np.isfinite(features.to_numpy()).all()


@given(price=st.integers(-6, 9), volume=st.integers(-6, 9))
def test_stationary_features_do_not_depend_on_the_level_of_price_or_volume(price: int, volume: int) -> None:
    """Powers of two, which change no rounding: ADX compares the moves of two days, which may be equal."""
    other = compute_features(BARS * [*[2.0**price] * 4, 2.0**volume], "s28")
    np.testing.assert_allclose(other, STATIONARY[list(TIERS["s28"])], rtol=1e-9, atol=1e-9)


def test_stationary_features_agree_with_their_formulas() -> None:
    close, volume = BARS["close"], BARS["volume"]
    returns = np.log(close).diff()
    obv = (np.sign(returns).fillna(1.0) * volume).cumsum()
    expected = {
        "return_1": returns,
        "low_ratio": np.log(BARS["low"] / close),
        "sma_50_ratio": np.log(close.rolling(50).mean() / close),
        "vwap_20_ratio": np.log(WHOLE["vwap_20"] / close),
        "volume_ratio": volume / volume.rolling(20).mean(),
        "macd_ratio": WHOLE["macd_line"] / close,
        "obv_ratio": obv.diff(20) / volume.rolling(20).sum(),
        "atr_14_log": np.log(WHOLE["atr_14"] / close),
        **{f"realised_{n}": np.log((returns**2).rolling(n).mean() ** 0.5) for n in (5, 20, 60)},
        "vix_log": np.log(WHOLE["vix_close"]),
        "vix_sma_20_ratio": np.log(WHOLE["vix_sma_20"] / WHOLE["vix_close"]),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(STATIONARY[name].iloc[300:], values.iloc[300:], rtol=1e-9, atol=1e-9, err_msg=name)


def test_twice_the_volatility_moves_its_features_by_log_2() -> None:
    """The level of volatility is what RevIN of prices removes; here it stays, and doubling it is visible."""
    twice = BARS.copy()
    for name in ("open", "high", "low", "close"):
        twice[name] = BARS["close"].iloc[0] * (BARS[name] / BARS["close"].iloc[0]) ** 2
    moved = (compute_features(twice, "s28") - STATIONARY).iloc[300:]
    for name in ("realised_5", "realised_20", "realised_60"):
        np.testing.assert_allclose(moved[name], np.log(2), rtol=1e-9)
    assert moved["atr_14_log"].between(np.log(2) - 0.1, np.log(2) + 0.1).all()


def test_the_number_in_a_tiers_name_counts_its_columns_without_vix() -> None:
    for tier, columns in TIERS.items():
        assert len(set(columns)) == len(columns) == int(tier[1:3]) + 3 * tier.endswith("_vix")
        assert list(compute_features(BARS, tier, VIX).columns) == list(columns)
        assert bool(LEVELS & set(columns)) == tier.startswith("a")


def test_tier_a25_is_the_bars_and_the_twenty_indicators() -> None:
    assert TIERS["a25"] == BAR_COLUMNS + INDICATORS == BAR_COLUMNS + TIERS["a20"]


def test_a_missing_input_of_a_tier_is_named() -> None:
    with pytest.raises(TrainingError, match="no feature tier 'a99'"):
        compute_features(BARS, "a99")
    with pytest.raises(TrainingError, match="no volume"):
        compute_features(BARS.drop(columns="volume"), "a25")
    with pytest.raises(TrainingError, match="needs VIX bars"):
        compute_features(BARS, "a25_vix")
