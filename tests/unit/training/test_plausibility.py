"""Bars that are well formed and still doubtful: each doubt names its figures, and those that spoil labels stop."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from tests.unit.training.small_bars import some_bars
from training.data.bars import Bars
from training.data.exchange import compare_sessions
from training.data.plausibility import Doubt, doubts_about

Edit = Callable[[pd.DataFrame], pd.DataFrame]
PRICES = ["open", "high", "low", "close"]


def table(count: int = 400, step_days: int = 1) -> pd.DataFrame:
    bars = some_bars(count, step_days=step_days)
    index = pd.DatetimeIndex([bar[0] for bar in bars], name="date")
    return pd.DataFrame([bar[1:] for bar in bars], columns=[*PRICES, "volume"], index=index).astype(float)


def doubts(frame: pd.DataFrame, adjusted: pd.Series | None = None, *, is_index: bool = False) -> list[Doubt]:
    beside = None if adjusted is None else adjusted.to_numpy(float)
    return doubts_about(Bars(frame, (), adjusted=beside), None, is_index=is_index)


def divided(frame: pd.DataFrame, row: int, by: float) -> pd.DataFrame:
    """Divide the prices from this row on, as a split does."""
    changed = frame.copy()
    changed.iloc[row:, :4] /= by
    return changed


def test_sound_bars_raise_no_doubt() -> None:
    frame = table()
    assert doubts(frame) == []
    assert doubts(frame, adjusted=frame["close"] * np.linspace(0.9, 1.0, len(frame))) == []


@pytest.mark.parametrize("by", [1.5, 2, 4, 7, 20, 1 / 8])
def test_a_split_beside_an_adjusted_close_stops(by: float) -> None:
    frame = table()
    raw = divided(frame, 150, by)
    (found,) = doubts(raw, adjusted=frame["close"] / by)
    assert found.wrong_labels
    assert f"on {frame.index[150]:%Y-%m-%d}, like an unadjusted split; the adjusted close" in found.text
    assert f"by {raw['close'].iloc[150] / raw['close'].iloc[149] - 1:+.0%} on" in found.text
    assert "adjusted for splits" in found.remedy


@pytest.mark.parametrize("by", [2, 3, 10, 1 / 5, 1 / 20])
def test_a_jump_of_a_splits_size_stops_without_an_adjusted_close(by: float) -> None:
    (found,) = doubts(divided(table(), 150, by))
    assert found.wrong_labels
    assert "like an unadjusted split" in found.text


def test_several_splits_are_counted() -> None:
    (found,) = doubts(divided(divided(table(), 100, 2), 300, 4))
    assert "and on 1 days more" in found.text


def test_a_price_wrong_by_a_hundred_on_one_day_stops() -> None:
    frame = table()
    frame.iloc[200, :4] *= 100
    assert [doubt.wrong_labels for doubt in doubts(frame)] == [True]


def test_a_fall_within_a_day_is_only_said() -> None:
    frame = divided(table(), 151, 1.75)
    frame.iloc[150, 2:4] /= 1.75
    (found,) = doubts(frame)
    assert not found.wrong_labels
    assert "by -4" in found.text
    assert "split" not in found.text


def test_an_index_is_never_split_and_may_double() -> None:
    assert doubts(divided(table(), 150, 1 / 2), is_index=True) == []
    (found,) = doubts(divided(table(), 150, 100), is_index=True)
    assert not found.wrong_labels


def test_a_dividend_is_no_split() -> None:
    frame = table()
    adjusted = frame["close"].copy()
    adjusted.iloc[:150] *= 0.9
    assert doubts(divided(frame, 150, 1 / 0.9), adjusted=adjusted) == []


STOPPING: dict[str, tuple[pd.DataFrame, str]] = {
    "weekly bars": (table(step_days=7), "the rows are 7 days apart: weekly bars"),
    "monthly bars": (table(step_days=30), "days apart: monthly bars"),
    "closing prices only": (
        table().assign(**{name: lambda frame: frame["close"] for name in PRICES}), "closing prices only"
    ),
    "a constant high": (table().assign(high=1e5), "high is 100000 on all 400 days"),
}  # fmt: skip


@pytest.mark.parametrize("kind", STOPPING)
def test_bars_that_are_not_those_of_days_stop(kind: str) -> None:
    frame, text = STOPPING[kind]
    found = doubts(frame)[0]
    assert found.wrong_labels
    assert text in found.text
    assert found.remedy


def with_a_gap(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(frame.index[100:150])


SAID: dict[str, tuple[Edit, str]] = {
    "no volume at all": (lambda frame: frame.assign(volume=0.0), "volume is 0 on all 400 days: obv, adosc and volume"),
    "one volume for all": (lambda frame: frame.assign(volume=100.0), "volume is 100 on all 400 days"),
    "volume on few days": (
        lambda frame: frame.assign(volume=frame["volume"].where(np.arange(400) > 300, 0.0)), "is 0 on 301 of 400 days"
    ),
    "a long gap": (with_a_gap, "no row for 73 days after 2015-07-17"),
    "repeated rows": (lambda frame: frame.iloc[np.repeat(np.arange(200), 2)].set_axis(frame.index), "200 of 400 rows"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SAID)
def test_what_spoils_no_label_is_only_said(kind: str) -> None:
    edit, text = SAID[kind]
    (found,) = doubts(edit(table()))
    assert text in found.text
    assert not found.wrong_labels


@pytest.mark.parametrize(("left_out", "stops"), [(3, None), (12, False), (60, True)])
def test_the_share_of_missing_sessions_is_said_and_stops_when_large(left_out: int, stops: bool | None) -> None:
    days = pd.DatetimeIndex(compare_sessions(pd.DatetimeIndex(["2015-03-02", "2016-10-03"]), "XNYS").missing)
    frame = table(len(days)).set_axis(days)
    frame = frame.drop(frame.index[5 : 5 + 6 * left_out : 6])
    found = doubts_about(Bars(frame, ()), compare_sessions(pd.DatetimeIndex(frame.index), "XNYS"))
    assert [doubt.wrong_labels for doubt in found] == ([] if stops is None else [stops])
    if found:
        assert f"({left_out} of {len(days)}" in found[0].text


def test_rows_on_other_days_than_the_calendars_are_doubted() -> None:
    days = pd.date_range("2019-01-01", periods=400)
    frame = table().set_axis(days)
    (found,) = doubts_about(Bars(frame, ()), compare_sessions(days, "XNYS"))
    assert "of the rows are on days without a session of XNYS: another calendar?" in found.text
    assert not found.wrong_labels
