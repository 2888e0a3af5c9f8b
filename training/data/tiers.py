"""List the feature tiers and refuse a normalisation that does not suit them. Standard library only."""

from __future__ import annotations

from collections.abc import Sequence

from training.errors import SettingsError

BAR_COLUMNS = ("open", "high", "low", "close", "volume")
INDICATORS = (
    "dema_9", "dema_10", "sma_12", "dema_20", "dema_25", "sma_50", "dema_90", "sma_100", "sma_200",
    "rsi_daily", "rsi_weekly", "stochrsi_daily", "stochrsi_weekly", "macd_line", "obv", "adosc",
    "atr_14", "adx_14", "bb_percent_b", "vwap_20",
)  # fmt: skip
VIX_COLUMNS = ("vix_close", "vix_sma_20", "vix_change_5")
STATIONARY = (
    # the bars, each on the scale of its day
    "open_ratio", "high_ratio", "low_ratio", "return_1", "volume_ratio",
    # the twenty indicators, in the same order
    "dema_9_ratio", "dema_10_ratio", "sma_12_ratio", "dema_20_ratio", "dema_25_ratio", "sma_50_ratio", "dema_90_ratio",
    "sma_100_ratio", "sma_200_ratio", "rsi_daily", "rsi_weekly", "stochrsi_daily", "stochrsi_weekly", "macd_ratio",
    "obv_ratio", "adosc_ratio", "atr_14_log", "adx_14", "bb_percent_b", "vwap_20_ratio",
    "realised_5", "realised_20", "realised_60",
)  # fmt: skip
STATIONARY_VIX = ("vix_log", "vix_sma_20_ratio", "vix_change_5")

LEAST = 1e-6
"""Logarithms are taken of this at least: of a market that stood still, and of an average that overshot below zero."""

TIERS: dict[str, tuple[str, ...]] = {
    "a20": INDICATORS,
    "a25": BAR_COLUMNS + INDICATORS,
    "a25_vix": BAR_COLUMNS + INDICATORS + VIX_COLUMNS,
    "s28": STATIONARY,
    "s28_vix": STATIONARY + STATIONARY_VIX,
}
"""Tier: columns in order. ``_vix`` adds three columns; the number counts the others."""

LEVELS = frozenset(
    {*BAR_COLUMNS, *(name for name in INDICATORS if name.startswith(("dema_", "sma_"))), "macd_line", "obv", "adosc",
     "atr_14", "vwap_20"}
)  # fmt: skip
"""Columns that grow with the price or with the traded volume: their mean and deviation of past years say nothing of
later ones."""


def check_normalisation(normalisation: str, features: Sequence[str], where: str) -> None:
    """Refuse to standardise columns that grow with the price. Raises SettingsError.

    ``where`` names the tier or the dataset that has these ``features``.
    """
    levels = [name for name in features if name in LEVELS]
    if normalisation != "zscore" or not levels:
        return
    named = ", ".join(levels[:5]) + (f" and {len(levels) - 5} more" if len(levels) > 5 else "")
    raise SettingsError(
        "normalisation",
        normalisation,
        f"{where} has inputs that grow with the price ({named}); the mean of the train days does not fit later ones",
        "Take tier s28 or s28_vix, whose inputs are stationary, or normalisation revin_scale or revin.",
    )
