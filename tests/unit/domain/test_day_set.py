"""Days of two tests are compared one by one: by ticker and day, whatever the file."""

from __future__ import annotations

from datetime import date, timedelta

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from supervisor.domain.day_set import shared_days
from training.data.windows import day_set

days = st.sets(st.dates(date(1999, 1, 1), date(2004, 12, 31)), min_size=1, max_size=60)


def written(days_of: set[date], ticker: str = "SPY") -> dict[str, str]:
    return {"ticker": ticker, **day_set(pd.DatetimeIndex(sorted(days_of)))}


@given(days, st.lists(days, max_size=3))
def test_the_days_in_common_are_counted_once(own: set[date], others: list[set[date]]) -> None:
    assert shared_days([written(own)], map(written, others)) == len(own & set().union(*others))
    assert shared_days([written(own), written(own)], map(written, others)) == len(own & set().union(*others))
    assert shared_days([written(own)], [written(other, "QQQ") for other in others]) == 0


def test_the_same_history_with_one_bar_more_is_found() -> None:
    first = [date(2020, 1, 1) + timedelta(n) for n in range(500)]
    assert shared_days([written({*first[1:], date(2021, 5, 20)})], [written(set(first))]) == 499
    last = written(set(first))
    assert (last["first"], last["last"]) == ("2020-01-01", "2021-05-14")
